//! What was measured, and what it comes to: medians, shares of the link, ratios, what is met.

use serde_json::{Value, json};

use super::measure::{End, Measured};
use super::scenario::{MEMORY, RATE, Scenario};
use super::tools::{Peer, Tool};

/// All rows of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) rows: Vec<Row>,
    /// Peers that were asked for and are not installed.
    pub(crate) missing: Vec<Peer>,
}

/// One scenario.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    /// Bytes of the files, or of the image's blobs.
    pub(crate) wanted: u64,
    pub(crate) ours: Vec<Measured>,
    pub(crate) peers: Vec<(Peer, Vec<Measured>)>,
}

/// A demand, what came of it, and whether that will do.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) is_met: bool,
}

impl Measured {
    /// How long it took, or would have taken at its pace; none where it failed.
    pub(crate) fn time(&self, wanted: u64) -> Option<f64> {
        match self.end {
            End::Done => Some(self.seconds),
            End::Capped if self.crossed > 0 => {
                Some(self.seconds * (wanted as f64 / self.crossed as f64).max(1.0))
            }
            _ => None,
        }
    }

    /// Mbit/s of the bytes that are wanted.
    pub(crate) fn goodput(&self, wanted: u64) -> Option<f64> {
        Some(wanted as f64 * 8e-6 / self.time(wanted)?)
    }

    /// Of the slow link's rate.
    pub(crate) fn share(&self, wanted: u64) -> Option<f64> {
        Some(self.goodput(wanted)? / RATE)
    }

    /// Bytes that crossed over bytes that were wanted, where all are there.
    pub(crate) fn crossed(&self, wanted: u64) -> Option<f64> {
        (self.end == End::Done).then(|| self.crossed as f64 / wanted as f64)
    }

    pub(crate) fn mebibytes(&self) -> f64 {
        self.memory as f64 / 1024.0
    }
}

impl Row {
    /// The run in the middle, by time.
    pub(crate) fn median<'a>(&self, runs: &'a [Measured]) -> &'a Measured {
        let time = |run: &Measured| run.time(self.wanted).unwrap_or(f64::INFINITY);
        let mut sorted: Vec<&Measured> = runs.iter().collect();
        sorted.sort_by(|a, b| time(a).total_cmp(&time(b)));
        sorted[sorted.len() / 2]
    }

    pub(crate) fn ours(&self) -> &Measured {
        self.median(&self.ours)
    }

    /// Tools and their median runs, ours first.
    pub(crate) fn tools(&self) -> Vec<(Tool, &[Measured])> {
        let ours = std::iter::once((Tool::Ours, &self.ours[..]));
        let peers = self.peers.iter();
        ours.chain(peers.map(|(peer, runs)| (Tool::Peer(*peer), &runs[..])))
            .collect()
    }

    /// The peer that is done first.
    pub(crate) fn best_peer(&self) -> Option<(Peer, f64)> {
        let times = self.peers.iter().filter_map(|(peer, runs)| {
            let time = self.median(runs).time(self.wanted)?;
            Some((*peer, time))
        });
        times.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// How many times as long a peer takes as ours.
    pub(crate) fn times_as_fast(&self, peer: f64) -> Option<f64> {
        Some(peer / self.ours().time(self.wanted)?)
    }

    /// What the scenario demands of a run that ended.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let ours = self.ours();
        let Some(crossed) = ours.crossed(self.wanted) else {
            return Vec::new();
        };
        let demands = &self.scenario.demands;
        let mut verdicts = vec![
            at_most("crossed / wanted", crossed, self.scenario.crossed),
            at_most("MiB", ours.mebibytes(), MEMORY),
        ];
        if let (Some(least), Some(share)) = (demands.share, ours.share(self.wanted)) {
            verdicts.push(at_least("of the link", share, least));
        }
        if let (Some(least), Some((peer, time))) = (demands.best_peer, self.best_peer()) {
            let times = self.times_as_fast(time).unwrap_or(0.0);
            verdicts.push(at_least(&format!("× {}", peer.name), times, least));
        }
        if let Some((name, least)) = demands.peer {
            let peer = self.peers.iter().find(|(peer, _)| peer.name == name);
            let time = peer.and_then(|(_, runs)| self.median(runs).time(self.wanted));
            let times = time.and_then(|time| self.times_as_fast(time));
            verdicts.extend(times.map(|times| at_least(&format!("× {name}"), times, least)));
        }
        verdicts
    }

    fn document(&self) -> Value {
        let tools = self.tools().into_iter().map(|(tool, runs)| {
            let runs = runs.iter().map(|run| run_document(run, self.wanted));
            json!({ "tool": tool.name(), "runs": runs.collect::<Vec<_>>() })
        });
        json!({
            "row": self.scenario.name,
            "title": self.scenario.title,
            "wanted_bytes": self.wanted,
            "tools": tools.collect::<Vec<_>>(),
        })
    }
}

fn run_document(run: &Measured, wanted: u64) -> Value {
    json!({
        "end": run.end.to_string(),
        "seconds": run.seconds,
        "seconds_at_its_pace": run.time(wanted),
        "mbit_per_second": run.goodput(wanted),
        "share": run.share(wanted),
        "crossed_bytes": run.crossed,
        "fetched_bytes": run.fetched,
        "peak_memory_kib": run.memory,
        "peak_connections": run.connections,
        "is_whole": run.is_whole,
        "link": run.counters,
    })
}

fn at_least(what: &str, value: f64, least: f64) -> Verdict {
    Verdict {
        what: format!("{value:.2} {what}, ≥ {least}"),
        is_met: value >= least,
    }
}

fn at_most(what: &str, value: f64, most: f64) -> Verdict {
    Verdict {
        what: format!("{value:.3} {what}, ≤ {most}"),
        is_met: value <= most,
    }
}

impl Figures {
    /// The runs of ours that did not do what they are for, however long it may take.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for row in &self.rows {
            for run in &row.ours {
                let why = match &run.end {
                    End::Failed(why) => why.as_str(),
                    End::Done if !run.is_whole => "not all of it is there as it should be",
                    End::Done if run.crossed < row.wanted => "the link did not see all bytes",
                    _ => continue,
                };
                broken.push(format!("{}: {why}", row.scenario.name));
            }
        }
        broken
    }

    pub(crate) fn document(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::document).collect();
        let missing: Vec<&str> = self.missing.iter().map(|peer| peer.name).collect();
        json!({ "mbit_per_second": RATE, "rows": rows, "not_installed": missing })
    }
}
