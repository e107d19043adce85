//! Measures a user's own link: what so many connections bring from each origin and carry to a store, for a few bytes.
//!
//! One end at a time, since two would share the line. Nothing is kept: what comes is thrown away, what is put is removed.

mod advice;
mod kernel;
mod ladder;
mod origin;
mod plot;
mod store;
mod svg;
mod table;
mod tape;

use std::time::Duration;

use serde::{Serialize, Serializer};

pub use self::advice::{Advice, ForHost, ForStore, Size, Time};
pub use self::kernel::Kernel;
use self::ladder::Climbed;
pub use self::origin::{Sample, Upstreams, measure as origin};
pub use self::store::{Scratch, measure as store};
pub use self::svg::{Undrawable, svg};
use crate::report::Exit;

/// What one measurement may take.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Of content, however it is shared among the numbers of connections.
    pub bytes: u64,
    /// The longest that one number of connections is looked at.
    pub rung: Duration,
    /// The most connections.
    pub connections: usize,
}

/// Which end of the way was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Origin,
    Store,
}

/// What so many connections carried together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    pub connections: usize,
    /// Once the new connections were through their slow start.
    pub bits_per_second: f64,
    /// Before that.
    pub bits_per_second_at_first: f64,
    /// That these connections were looked at, slow start included.
    pub seconds: f64,
    /// Times that a connection brought nothing for longer than `fetch.hedge_after`; None where that can't be seen.
    pub silences: Option<u64>,
    pub breaks: u64,
}

/// One end of the way, measured, or why it was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    pub side: Side,
    /// A network host with its port, or a store in a user's words.
    pub place: String,
    /// The host of canonical URLs that an origin stands for: the name that settings have.
    pub host: Option<String>,
    /// What was carried, as it may be printed.
    pub carried: String,
    /// Of the sending side, where that is ours.
    pub congestion: Option<String>,
    pub readings: Vec<Reading>,
    pub bytes: u64,
    /// Why fewer connections were tried than were allowed.
    pub ended: Option<String>,
    /// Why a connection broke, the last one that did.
    pub broke: Option<String>,
    /// Why there is nothing to go by.
    pub failed: Option<String>,
    /// Objects that may still be there, with the reason.
    pub left_behind: Vec<String>,
}

/// Everything that was measured, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    pub measured: Vec<Measured>,
    pub advice: Advice,
    pub interrupted: bool,
}

impl Reading {
    /// What each connection had of it.
    pub fn bits_per_second_of_one(&self) -> f64 {
        self.bits_per_second / self.connections.max(1) as f64
    }
}

impl Measured {
    fn begun(side: Side, place: String) -> Self {
        Self {
            side,
            place,
            host: None,
            carried: String::new(),
            congestion: None,
            readings: Vec::new(),
            bytes: 0,
            ended: None,
            broke: None,
            failed: None,
            left_behind: Vec::new(),
        }
    }

    fn take(&mut self, climbed: Climbed) {
        self.bytes = climbed.bytes;
        self.readings = climbed.readings;
        self.ended = climbed.refused;
        self.broke = climbed.broke;
        self.failed = climbed.failed;
        if self.side == Side::Store {
            self.readings
                .iter_mut()
                .for_each(|reading| reading.silences = None);
        }
        let carried_some = self.readings.iter().any(|it| it.bits_per_second > 0.0);
        if !carried_some && self.failed.is_none() {
            self.failed = self.ended.take().or(self.broke.take());
        }
    }

    /// What it is called where several are shown beside each other.
    pub fn name(&self) -> String {
        let place = self.host.as_ref().unwrap_or(&self.place);
        match &self.congestion {
            Some(congestion) => format!("{place} ({congestion})"),
            None => place.clone(),
        }
    }

    fn is_good(&self) -> bool {
        self.failed.is_none() && self.left_behind.is_empty()
    }
}

impl Findings {
    pub fn exit(&self) -> Exit {
        if self.interrupted {
            return Exit::Interrupted;
        }
        if self.measured.iter().all(Measured::is_good) {
            Exit::Done
        } else {
            Exit::SomeFailed
        }
    }
}

impl Serialize for Findings {
    /// The document of `--output json`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            result: Exit,
            exit_code: u8,
            measured: &'a [Measured],
            advice: &'a Advice,
        }
        Document {
            result: self.exit(),
            exit_code: self.exit().code(),
            measured: &self.measured,
            advice: &self.advice,
        }
        .serialize(serializer)
    }
}

/// As networks are sold.
fn mbit(bits_per_second: f64) -> f64 {
    bits_per_second / 1e6
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings() -> Findings {
        let reading = |connections, mbit: f64, silences| Reading {
            connections,
            bits_per_second: mbit * 1e6,
            bits_per_second_at_first: mbit * 5e5,
            seconds: 5.0,
            silences,
            breaks: 0,
        };
        let mut origin = Measured::begun(Side::Origin, "dl.k8s.io:443".to_owned());
        origin.host = Some("dl.k8s.io".to_owned());
        origin.carried = "parts of https://dl.k8s.io/kubelet".to_owned();
        origin.readings = vec![reading(1, 0.75, Some(2)), reading(2, 1.5, Some(0))];
        origin.bytes = 1_400_000;
        origin.ended = Some("https://dl.k8s.io/kubelet answered 429".to_owned());
        let mut store = Measured::begun(Side::Store, "s3://mirror/k8s".to_owned());
        store.congestion = Some("cubic".to_owned());
        store.carried = "objects below s3://mirror/k8s/.bench".to_owned();
        store.readings = vec![reading(1, 10.0, None)];
        store.bytes = 6_000_000;
        let measured = vec![origin, store];
        let size = Size {
            bytes: [("dl.k8s.io".to_owned(), 30_000_000)].into(),
            untold: 1,
        };
        Findings {
            advice: Advice::of(&measured, &size, None),
            measured,
            interrupted: false,
        }
    }

    /// Scripts read this: what is here stays as it is.
    #[test]
    fn the_document_has_the_readings_and_the_advice() {
        let document = serde_json::to_value(findings()).unwrap();
        let wanted = json!({
            "result": "done",
            "exit_code": 0,
            "measured": [
                {
                    "side": "origin",
                    "place": "dl.k8s.io:443",
                    "host": "dl.k8s.io",
                    "carried": "parts of https://dl.k8s.io/kubelet",
                    "congestion": null,
                    "readings": [
                        {
                            "connections": 1, "bits_per_second": 750_000.0, "bits_per_second_at_first": 375_000.0,
                            "seconds": 5.0, "silences": 2, "breaks": 0
                        },
                        {
                            "connections": 2, "bits_per_second": 1_500_000.0, "bits_per_second_at_first": 750_000.0,
                            "seconds": 5.0, "silences": 0, "breaks": 0
                        },
                    ],
                    "bytes": 1_400_000,
                    "ended": "https://dl.k8s.io/kubelet answered 429",
                    "broke": null,
                    "failed": null,
                    "left_behind": [],
                },
                {
                    "side": "store",
                    "place": "s3://mirror/k8s",
                    "host": null,
                    "carried": "objects below s3://mirror/k8s/.bench",
                    "congestion": "cubic",
                    "readings": [
                        {
                            "connections": 1, "bits_per_second": 10_000_000.0, "bits_per_second_at_first": 5_000_000.0,
                            "seconds": 5.0, "silences": null, "breaks": 0
                        },
                    ],
                    "bytes": 6_000_000,
                    "ended": null,
                    "broke": null,
                    "failed": null,
                    "left_behind": [],
                },
            ],
            "advice": {
                "hosts": {
                    "dl.k8s.io": {
                        "connections": 2, "bits_per_second": 1_500_000.0, "bits_per_second_of_one": 750_000.0,
                        "more_may_help": false,
                    },
                },
                "stores": {
                    "s3://mirror/k8s": {
                        "connections": 1, "bits_per_second": 10_000_000.0, "bits_per_second_of_one": 10_000_000.0,
                        "more_may_help": false, "publish": "single-part", "congestion": null,
                    },
                },
                "files": 4,
                "release": {
                    "bytes": 30_000_000, "files_untold": 1, "origin_seconds": 160.0, "store_seconds": 24.0,
                    "seconds": 160.0,
                },
                "words": [
                    "dl.k8s.io: 2 connections bring 1.5 Mbit/s (0.8 each).",
                    "s3://mirror/k8s: 1 upload at a time carries 10.0 Mbit/s.",
                    "The release, 28.61 MiB (1 file of unknown length not counted): about 3 minutes; the origins' side is \
                     the slower one.",
                ],
                "settings": "publish = \"single-part\"\n\n[fetch]\nconnections = 2\nfiles = 4\n",
            },
        });
        assert_eq!(document, wanted, "{document:#}");
    }

    #[test]
    fn the_table_shows_each_reading_and_why_there_are_no_more() {
        let table = findings().table();
        let wanted = "\
dl.k8s.io, 1.34 MiB
  parts of https://dl.k8s.io/kubelet
  connections    Mbit/s  each of them  in slow start  silences  breaks
            1      0.75          0.75           0.38         2       0
            2      1.50          0.75           0.75         0       0
  no more connections: https://dl.k8s.io/kubelet answered 429

s3://mirror/k8s (cubic), 5.72 MiB
";
        assert!(table.starts_with(wanted), "{table}");
        let ending = "\
For a file that --config names:

publish = \"single-part\"

[fetch]
connections = 2
files = 4

";
        assert!(table.ends_with(ending), "{table}");
    }

    #[test]
    fn what_is_left_behind_and_what_failed_is_in_the_exit_code() {
        assert_eq!(findings().exit(), Exit::Done);
        let mut failed = findings();
        failed.measured[0].failed = Some("it can't be reached".to_owned());
        assert_eq!(failed.exit(), Exit::SomeFailed);
        let mut left = findings();
        left.measured[1].left_behind = vec!["s3://mirror/k8s/.bench/a".to_owned()];
        assert_eq!(left.exit(), Exit::SomeFailed);
        left.interrupted = true;
        assert_eq!(left.exit(), Exit::Interrupted);
    }
}
