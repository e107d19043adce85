//! Joins two hosts by a slow line: the kernel's `netem` where it is there, or the project's own in user space.

mod emulated;
pub(crate) mod emulator;
mod netem;
mod pipe;
mod streams;

use std::io;

use super::hosts::Host;
use emulated::Emulated;
use emulator::{Counters, Line};
use netem::Netem;

/// What makes the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// The kernel, by `tc qdisc … netem`.
    Netem,
    /// A process of this bench, between two TUN devices.
    Tun,
}

impl By {
    /// netem where this kernel has it.
    pub(crate) fn default_here() -> io::Result<Self> {
        Ok(match netem::is_there()? {
            true => Self::Netem,
            false => Self::Tun,
        })
    }
}

/// A running line; it ends when it is dropped.
#[derive(Debug)]
pub(crate) enum Running {
    Netem(Netem),
    Emulated(Emulated),
}

impl Running {
    /// Makes a line, with a device of it on each host.
    pub(crate) fn between(by: By, line: &Line, first: &Host, second: &Host) -> io::Result<Self> {
        Ok(match by {
            By::Netem => Self::Netem(Netem::between(line, first, second)?),
            By::Tun => Self::Emulated(Emulated::between(line, first, second)?),
        })
    }

    /// What the line brought until now from the first host to the second.
    pub(crate) fn carried(&mut self) -> io::Result<Counters> {
        match self {
            Self::Netem(line) => line.carried(),
            Self::Emulated(line) => line.carried(),
        }
    }
}
