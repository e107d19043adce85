//! Shows a run on standard error while it goes: bars on a terminal, lines elsewhere. Standard output is for results alone.

mod bars;
mod lines;
mod tally;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

use crate::events::Observer;

use bars::Bars;
use lines::Lines;

/// How much of a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Showing {
    /// Bars on a terminal, lines elsewhere.
    Progress,
    /// What went wrong and nothing else.
    Trouble,
}

/// Standard error, shared by bars and log lines so that neither is drawn over the other. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: MultiProgress,
    is_terminal: bool,
}

impl Screen {
    pub fn standard_error() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether colours are good on standard error, as far as the screen itself says.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Somebody who shows a run here. The bars go when it is dropped.
    pub fn observer(&self, showing: Showing, colour: bool) -> Arc<dyn Observer> {
        let colour = colour && self.is_terminal;
        match showing {
            Showing::Progress if self.is_terminal => Arc::new(Bars::new(&self.bars, colour)),
            _ => Arc::new(Lines::new(Box::new(io::stderr()), showing, colour)),
        }
    }
}

/// Writes a log line above the bars.
#[derive(Debug)]
pub struct AboveBars<'a>(&'a MultiProgress);

impl Write for AboveBars<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = AboveBars<'a>;

    fn make_writer(&'a self) -> AboveBars<'a> {
        AboveBars(&self.bars)
    }
}
