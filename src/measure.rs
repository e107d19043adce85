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
            failed: None,
            left_behind: Vec::new(),
        }
    }

    fn take(&mut self, climbed: Climbed) {
        self.bytes = climbed.bytes;
        self.readings = climbed.readings;
        self.ended = climbed.refused;
        self.failed = climbed.failed;
        if self.side == Side::Store {
            self.readings
                .iter_mut()
                .for_each(|reading| reading.silences = None);
        }
        let carried_some = self.readings.iter().any(|it| it.bits_per_second > 0.0);
        if !carried_some && self.failed.is_none() {
            self.failed = self.ended.take().or(climbed.broke);
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
