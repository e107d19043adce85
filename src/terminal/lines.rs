//! Shows a run as lines, for logs and pipes: one for each thing that ended or went wrong, and a sum every ten seconds.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{BinaryBytes, FormattedDuration};
use tokio::time::Instant;

use super::Showing;
use super::tally::Tally;
use crate::events::{Event, Observer};

/// Often enough to see that it lives, and a log of an hour has 360 of them.
const BETWEEN_SUMS: Duration = Duration::from_secs(10);

/// Writes lines. Driven by events alone: while nothing happens, nothing is written.
pub(super) struct Lines {
    showing: Showing,
    colour: bool,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    tally: Tally,
    summed_at: Instant,
    received_then: u64,
}

impl Lines {
    pub(super) fn new(out: Box<dyn Write + Send>, showing: Showing, colour: bool) -> Self {
        let state = State {
            out,
            tally: Tally::default(),
            summed_at: Instant::now(),
            received_then: 0,
        };
        Self {
            showing,
            colour,
            state: Mutex::new(state),
        }
    }
}

impl Observer for Lines {
    fn event(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tally.note(event);
        let is_trouble = matches!(event, Event::Failed { .. } | Event::Warned { .. });
        if self.showing == Showing::Trouble && !is_trouble {
            return;
        }
        if let Some(line) = line(event, self.colour) {
            state.write(&line);
        }
        let is_under_way = state.tally.transfers > 0;
        if self.showing == Showing::Progress
            && is_under_way
            && state.summed_at.elapsed() >= BETWEEN_SUMS
        {
            let sum = state.sum();
            state.write(&sum);
        }
    }
}

impl State {
    fn write(&mut self, line: &str) {
        // Nobody reads any more: that is no reason to stop mirroring.
        let _unread = writeln!(self.out, "{line}");
    }

    /// A line on how far it has come, and the beginning of the next stretch.
    fn sum(&mut self) -> String {
        let seconds = self.summed_at.elapsed().as_secs().max(1);
        let speed = (self.tally.received - self.received_then) / seconds;
        self.summed_at = Instant::now();
        self.received_then = self.tally.received;
        let Tally {
            finished,
            transfers,
            received,
            ..
        } = self.tally;
        let left = match self.tally.left() {
            Some(left) => format!(", {} left{}", BinaryBytes(left), time_for(left, speed)),
            None => String::new(),
        };
        format!(
            "{finished} of {transfers} {}, {} received, {}/s{left}{}",
            self.tally.things(),
            BinaryBytes(received),
            BinaryBytes(speed),
            self.tally.links()
        )
    }
}

/// The time that so many bytes take at that speed, in words; empty while nothing moves.
fn time_for(bytes: u64, speed: u64) -> String {
    bytes.checked_div(speed).map_or(String::new(), |seconds| {
        let time = FormattedDuration(Duration::from_secs(seconds));
        format!(" (about {time})")
    })
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("showing", &self.showing)
            .finish_non_exhaustive()
    }
}

/// The line of an event that deserves one of its own.
pub(super) fn line(event: &Event, colour: bool) -> Option<String> {
    let paint = |code: &str, word: &str| {
        if colour {
            format!("\x1b[{code}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
    };
    let line = match event {
        Event::Waiting { what } => format!("waiting for {what}"),
        Event::Measuring { place, connections } => {
            let s = if *connections == 1 { "" } else { "s" };
            format!("measuring {place} over {connections} connection{s}")
        }
        Event::Planned {
            images,
            transfers,
            inspected,
            bytes,
            skipped,
        } => {
            let crossing = transfers - inspected;
            let bytes = bytes.map_or(String::new(), |bytes| format!(", {}", BinaryBytes(bytes)));
            let looks = match inspected {
                0 => String::new(),
                _ => format!("; {inspected} to be looked at"),
            };
            match images {
                None => format!("{crossing} files to transfer{bytes}{looks}; {skipped} are there"),
                Some(images) => {
                    let s = if *images == 1 { "" } else { "s" };
                    format!(
                        "{images} image{s} to transfer, {crossing} blobs{bytes}; {skipped} are there"
                    )
                }
            }
        }
        Event::Published { key, place } => format!("{} {key} to {place}", paint("32", "published")),
        Event::Retrying { key, why, pause } => {
            let seconds = pause.as_secs_f32();
            format!("{} {key} in {seconds:.1} s: {why}", paint("33", "retrying"))
        }
        Event::Stepped { step, what } => format!("{} {what}", paint("36", &format!("{step}:"))),
        Event::Warned { what } => format!("{} {what}", paint("33", "warning:")),
        Event::Failed { key, why } => format!("{} {key}: {why}", paint("31", "failed")),
        Event::Marked { release } => format!("{} {release}", paint("32", "complete")),
        Event::Resolving { .. }
        | Event::Started { .. }
        | Event::Received { .. }
        | Event::Measured { .. }
        | Event::Verified { .. }
        | Event::Finished { .. } => return None,
    };
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn events() -> Vec<Event> {
        let key = "bin/kubelet".parse::<crate::asset::Key>().unwrap();
        vec![
            Event::Planned {
                images: None,
                transfers: 2,
                inspected: 0,
                bytes: Some(4 << 20),
                skipped: 1,
            },
            Event::Started {
                key: key.clone(),
                length: Some(2 << 20),
                resumed_bytes: 0,
            },
            Event::Received {
                key: key.clone(),
                bytes: 1 << 20,
            },
            Event::Warned {
                what: "the store ignores conditions".into(),
            },
            Event::Failed {
                key,
                why: "no such file".into(),
            },
        ]
    }

    #[test]
    fn only_what_ends_or_goes_wrong_has_a_line() {
        let paper = Paper::default();
        let lines = Lines::new(Box::new(paper.clone()), Showing::Progress, false);
        for event in events() {
            lines.event(&event);
        }
        let wanted = "\
2 files to transfer, 4.00 MiB; 1 are there
warning: the store ignores conditions
failed bin/kubelet: no such file
";
        assert_eq!(paper.text(), wanted);
    }

    #[test]
    fn files_that_are_only_looked_at_are_no_transfers() {
        let paper = Paper::default();
        let lines = Lines::new(Box::new(paper.clone()), Showing::Progress, false);
        lines.event(&Event::Planned {
            images: None,
            transfers: 23,
            inspected: 14,
            bytes: None,
            skipped: 1,
        });
        let wanted = "9 files to transfer; 14 to be looked at; 1 are there\n";
        assert_eq!(paper.text(), wanted);
    }

    #[test]
    fn when_quiet_only_trouble_is_told() {
        let paper = Paper::default();
        let lines = Lines::new(Box::new(paper.clone()), Showing::Trouble, false);
        for event in events() {
            lines.event(&event);
        }
        let wanted = "warning: the store ignores conditions\nfailed bin/kubelet: no such file\n";
        assert_eq!(paper.text(), wanted);
    }

    #[test]
    fn every_ten_seconds_there_is_a_sum() {
        let paper = Paper::default();
        let lines = Lines::new(Box::new(paper.clone()), Showing::Progress, false);
        for event in &events()[..2] {
            lines.event(event);
        }
        let earlier = lines.state.lock().unwrap().summed_at - BETWEEN_SUMS;
        lines.state.lock().unwrap().summed_at = earlier;
        lines.event(&events()[2]);
        lines.event(&events()[2]);
        let text = paper.text();
        let sums: Vec<_> = text.lines().filter(|line| line.contains("left")).collect();
        assert_eq!(
            sums,
            ["0 of 2 files, 1.00 MiB received, 102.40 KiB/s, 3.00 MiB left (about 00:00:30)"]
        );
    }
}
