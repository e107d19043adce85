//! Runs the emulator between two hosts, and asks it what crossed.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::emulator::{Counters, Crossed, Line};
use crate::bench::hosts::{Host, ip};

/// A running emulator; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Emulated {
    process: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Emulated {
    /// Starts the emulator and moves its devices to the hosts.
    pub(super) fn between(line: &Line, first: &Host, second: &Host) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("emulate")
            .args(line.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("it was asked for"));
        let mut emulated = Self {
            process,
            asks,
            answers,
        };
        if emulated.answer()?.trim() != "ready" {
            return Err(io::Error::other("the link's emulator did not start"));
        }
        for (device, host) in [(&line.first, first), (&line.second, second)] {
            ip(&["link", "set", device, "netns", &host.name])?;
        }
        Ok(emulated)
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    pub(super) fn carried(&mut self) -> io::Result<Counters> {
        if let Some(asks) = &mut self.asks {
            asks.write_all(b"\n")?;
        }
        let crossed: Crossed = serde_json::from_str(&self.answer()?)?;
        Ok(crossed.from_first)
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.asks = None;
        let _ = self.process.wait();
    }
}
