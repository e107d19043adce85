//! Writes the figures down in Markdown: every tool of every row, then what was demanded.

use std::fmt::Write as _;

use super::figures::{Figures, Row, Verdict};
use super::measure::{End, Measured};
use super::scenario::Scenario;
use super::tools::Tool;

const HEAD: &str = "\
| link | tool | seconds | Mbit/s | of the link | ours is faster | crossed / wanted | memory, MiB | whole |
|---|---|---|---|---|---|---|---|---|
";

const DEMANDS: &str = "
| link | demanded and measured | |
|---|---|---|
";

/// One measurement, for who watches.
pub(crate) fn line(scenario: &Scenario, tool: Tool, run: &Measured, wanted: u64) -> String {
    let share = run.share(wanted).filter(|_| scenario.has_link());
    let share = share.map_or(String::new(), |share| {
        format!(", {:.1} % of the link", share * 100.0)
    });
    format!(
        "link: {}, {}: {} after {:.1} s{share}, {:.1} MB crossed, {:.0} MiB, {} connections",
        scenario.name,
        tool.name(),
        run.end,
        run.seconds,
        run.crossed as f64 / 1e6,
        run.mebibytes(),
        run.connections,
    )
}

pub(crate) fn markdown(figures: &Figures) -> String {
    let mut text = HEAD.to_owned();
    for row in &figures.rows {
        for (tool, runs) in row.tools() {
            text += &cells(row, tool, runs);
        }
    }
    text += DEMANDS;
    for row in &figures.rows {
        for verdict in row.verdicts() {
            text += &demand(row, &verdict);
        }
    }
    for peer in &figures.missing {
        let missing = peer.missing().unwrap_or_default();
        let _ = write!(
            text,
            "\n{} is not measured: {missing} is not installed\n",
            peer.name
        );
    }
    text
}

fn cells(row: &Row, tool: Tool, runs: &[Measured]) -> String {
    let run = row.median(runs);
    let wanted = row.wanted;
    let number = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let share = run.share(wanted).filter(|_| row.scenario.has_link());
    let faster = match tool {
        Tool::Ours => None,
        Tool::Peer(_) => run.time(wanted).and_then(|time| row.times_as_fast(time)),
    };
    let cells = [
        row.scenario.title.to_owned(),
        tool.title().to_owned(),
        seconds(runs, run, wanted),
        number(run.goodput(wanted), 1),
        share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
        faster.map_or("-".to_owned(), |times| format!("{times:.1} ×")),
        number(run.crossed(wanted), 3),
        format!("{:.0}", run.mebibytes()),
        match run.end {
            End::Done if run.is_whole => "yes".to_owned(),
            End::Done => "no".to_owned(),
            _ => "-".to_owned(),
        },
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// The median, and the range where there were several runs.
fn seconds(runs: &[Measured], median: &Measured, wanted: u64) -> String {
    match (&median.end, median.time(wanted)) {
        (End::Done, _) => {
            let all = runs.iter().filter(|run| run.end == End::Done);
            let (least, most) = all.fold((f64::INFINITY, 0.0_f64), |(least, most), run| {
                (least.min(run.seconds), most.max(run.seconds))
            });
            match runs.len() {
                1 => format!("{:.1}", median.seconds),
                _ => format!("{:.1} ({least:.1} to {most:.1})", median.seconds),
            }
        }
        (End::Capped, Some(time)) => format!("> {:.0}, some {time:.0} at its pace", median.seconds),
        (end, _) => end.to_string(),
    }
}

fn demand(row: &Row, verdict: &Verdict) -> String {
    let met = if verdict.is_met { "met" } else { "**missed**" };
    format!("| {} | {} | {met} |\n", row.scenario.title, verdict.what)
}
