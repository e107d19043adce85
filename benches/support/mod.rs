//! Prints what a bench measured beside what it must be, and fails the bench for what is not met when that is asked for.

// Each bench uses its own part of this.
#![allow(dead_code)]

use std::process::ExitCode;

/// With this variable set to 1 a bench that misses a limit exits with 1.
const REQUIRE: &str = "BENCH_REQUIRE";

/// Whether Cargo asks for numbers; `cargo test --benches` only asks whether it runs.
pub(crate) fn measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// What names on the command line leave of the cases, as Cargo passes them on: `cargo bench --bench transfer -- folder`.
pub(crate) fn chosen(name: &str) -> bool {
    let mut names = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    names.peek().is_none() || names.any(|chosen| name.contains(&chosen))
}

/// A table of measurements, in Markdown so that it can be kept.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    missed: Vec<String>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![
                head.iter().map(ToString::to_string).collect(),
                vec!["---".to_owned(); head.len()],
            ],
            missed: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        println!("| {} |", cells.join(" | "));
        self.rows.push(cells);
    }

    /// Notes a limit; `is_met` says whether what was measured is within.
    pub(crate) fn limit(&mut self, limit: &str, is_met: bool) {
        if !is_met {
            self.missed.push(limit.to_owned());
        }
    }

    /// Prints the table, and what was missed.
    pub(crate) fn end(self) -> ExitCode {
        println!();
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        println!();
        for missed in &self.missed {
            println!("MISSED: {missed}");
        }
        let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
        ExitCode::from(u8::from(required && !self.missed.is_empty()))
    }
}
