//! Draws the shares of the link as bars, row by row, ours beside the peers, as SVG.

use std::fmt::Write as _;

use super::figures::{Figures, Row};
use super::measure::End;
use super::tools::{PEERS, Tool};

const WIDTH: f64 = 1050.0;
/// Where the bars begin, and how long 100 % is.
const LEFT: f64 = 480.0;
const FULL: f64 = 480.0;
const BAR: f64 = 14.0;
const GAP: f64 = 16.0;
const TOP: f64 = 70.0;

const OURS: &str = "#0b6e4f";
const COLOURS: [&str; PEERS.len()] = [
    "#c44536", "#e09f3e", "#f2cc8f", "#6c757d", "#adb5bd", "#3a7ca5",
];

pub(crate) fn svg(figures: &Figures) -> String {
    let rows: Vec<&Row> = figures
        .rows
        .iter()
        .filter(|row| row.scenario.has_link())
        .collect();
    let mut body = String::new();
    let mut y = TOP;
    for row in &rows {
        y += group(&mut body, row, y);
    }
    axis(&mut body, y);
    legend(&mut body, &rows);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"24\" font-size=\"15\">Share of a 100 Mbit/s link, 200 ms round trip, that files filled</text>\n\
         {body}</svg>\n",
        height = y + 30.0,
    )
}

/// One row: its title, and a bar for each tool. Returns its height.
fn group(body: &mut String, row: &Row, y: f64) -> f64 {
    let tools = row.tools();
    let height = BAR * tools.len() as f64;
    text(
        body,
        LEFT - 10.0,
        y + height / 2.0 + 4.0,
        "end",
        row.scenario.title,
    );
    for (at, (tool, runs)) in tools.into_iter().enumerate() {
        let run = row.median(runs);
        let y = y + BAR * at as f64;
        let Some(share) = run.share(row.wanted) else {
            text(
                body,
                LEFT + 4.0,
                y + 11.0,
                "start",
                &format!("{}: {}", tool.name(), run.end),
            );
            continue;
        };
        let length = share.min(1.0) * FULL;
        let _ = writeln!(
            body,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>",
            BAR - 2.0,
            colour(tool),
        );
        let about = if run.end == End::Capped { "≈ " } else { "" };
        let label = format!("{about}{:.1} %", share * 100.0);
        text(body, LEFT + length + 5.0, y + 10.5, "start", &label);
    }
    height + GAP
}

fn axis(body: &mut String, bottom: f64) {
    for tenths in [0.0, 2.0, 4.0, 6.0, 8.0, 10.0] {
        let x = LEFT + FULL * tenths / 10.0;
        let _ = writeln!(
            body,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#888\" stroke-opacity=\"0.35\"/>",
            TOP - 6.0,
        );
        text(
            body,
            x,
            bottom + 14.0,
            "middle",
            &format!("{:.0} %", tenths * 10.0),
        );
    }
}

/// The tools that occur.
fn legend(body: &mut String, rows: &[&Row]) {
    let occurs = |tool: Tool| {
        let tools = rows.iter().flat_map(|row| row.tools());
        tools.map(|(used, _)| used).any(|used| used == tool)
    };
    let tools = std::iter::once(Tool::Ours).chain(PEERS.map(Tool::Peer));
    let mut x = 20.0;
    for tool in tools.filter(|tool| occurs(*tool)) {
        let _ = writeln!(
            body,
            "<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{}\"/>",
            colour(tool),
        );
        text(body, x + 16.0, 48.0, "start", tool.name());
        x += 40.0 + 7.5 * tool.name().len() as f64;
    }
}

fn colour(tool: Tool) -> &'static str {
    let Tool::Peer(peer) = tool else {
        return OURS;
    };
    let place = PEERS.iter().position(|known| *known == peer);
    place.map_or(OURS, |place| COLOURS[place])
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}
