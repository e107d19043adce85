//! Shows a run as bars: one for each of the first files in flight, and one for all of them with speed and time to go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::lines::line;
use super::tally::{Flight, Tally};
use crate::asset::Key;
use crate::events::{Event, Observer};

/// Files that are shown at once. More would fill the screen and say less.
const SHOWN: usize = 8;

/// Characters of a key that are shown, the last ones: they tell keys apart.
const NAME_WIDTH: usize = 44;

/// Draws bars; they go when this is dropped.
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    colour: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    shown: BTreeMap<Key, ProgressBar>,
    knows_the_end: bool,
}

impl Bars {
    pub(super) fn new(all: &MultiProgress, colour: bool) -> Self {
        let total = all.add(ProgressBar::no_length());
        total.set_style(style("{spinner} {msg} {bytes} {binary_bytes_per_sec}"));
        total.enable_steady_tick(Duration::from_millis(250));
        Self {
            all: all.clone(),
            total,
            colour,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &mut State, key: &Key, flight: Flight) {
        let shown = state.shown.len();
        if let Some(bar) = state.shown.get(key) {
            place(bar, flight);
        } else if shown < SHOWN {
            let bar = self
                .all
                .insert_before(&self.total, ProgressBar::no_length());
            let colour = if self.colour { ".cyan" } else { "" };
            bar.set_style(style(&format!(
                "  {{prefix:{NAME_WIDTH}}} {{bar:24{colour}}} {{binary_bytes:>11}} of {{binary_total_bytes:11}} {{msg}}"
            )));
            bar.set_prefix(tail(key.as_str(), NAME_WIDTH));
            place(&bar, flight);
            bar.force_draw();
            state.shown.insert(key.clone(), bar);
        }
    }

    /// Takes a file's bar away, and gives its place to one that had none.
    fn hide(&self, state: &mut State, key: &Key) {
        let Some(bar) = state.shown.remove(key) else {
            return;
        };
        bar.finish_and_clear();
        self.all.remove(&bar);
        let waiting = |(key, _): &(&Key, &Flight)| !state.shown.contains_key(*key);
        let next = state.tally.flights.iter().find(waiting);
        if let Some((key, flight)) = next.map(|(key, flight)| (key.clone(), *flight)) {
            self.show(state, &key, flight);
        }
    }

    /// The total moves by what was received and ends where nothing is left, so that its speed and time are those of the line.
    fn move_total(&self, state: &mut State) {
        let Tally {
            finished,
            failed,
            transfers,
            received,
            ..
        } = state.tally;
        if let Some(left) = state.tally.left() {
            if !state.knows_the_end {
                state.knows_the_end = true;
                self.total.set_style(style(
                    "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}",
                ));
            }
            self.total.set_length(received + left);
        }
        self.total.set_position(received);
        let failed = match failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.total.set_message(format!(
            "{finished} of {transfers} {}{failed}{}",
            state.tally.things(),
            state.tally.links()
        ));
    }
}

impl Observer for Bars {
    fn event(&self, event: &Event) {
        let mut state = self.state();
        let state = &mut *state;
        state.tally.note(event);
        match event {
            Event::Resolving { done, total } => {
                self.total
                    .set_message(format!("looking up digests, {done} of {total}"));
                return;
            }
            Event::Measuring { .. } => {
                // Nothing is kept, so there are no bytes of files to show.
                self.total.set_style(style("{spinner} {msg}"));
                self.total
                    .set_message(line(event, self.colour).unwrap_or_default());
                return;
            }
            Event::Started { key, .. } => {
                let flight = state.tally.flights[key];
                self.show(state, key, flight);
            }
            Event::Received { key, bytes } => {
                if let Some(bar) = state.shown.get(key) {
                    bar.inc(*bytes);
                }
            }
            Event::Verified { key } => {
                if let Some(bar) = state.shown.get(key) {
                    bar.set_message("publishing");
                }
            }
            Event::Finished { key } | Event::Failed { key, .. } => self.hide(state, key),
            _ => {}
        }
        // What is published shows in the bars; the rest of the lines has no other place.
        let line = line(event, self.colour).filter(|_| !matches!(event, Event::Published { .. }));
        if let Some(line) = line {
            // A terminal that is gone is no reason to stop mirroring.
            let _unseen = self.all.println(line);
        }
        self.move_total(state);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
        for bar in self.state().shown.values() {
            bar.finish_and_clear();
        }
    }
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bars").finish_non_exhaustive()
    }
}

fn place(bar: &ProgressBar, flight: Flight) {
    if let Some(length) = flight.length {
        bar.set_length(length);
    }
    bar.set_position(flight.at_hand);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates here are well formed: a test draws them")
        .progress_chars("━╸ ")
}

/// The last characters of a text, with a mark where something is missing.
fn tail(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(length - width + 1).collect();
    format!("…{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    fn screen() -> (InMemoryTerm, MultiProgress) {
        let term = InMemoryTerm::new(40, 140);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255);
        (term, MultiProgress::with_draw_target(target))
    }

    fn key(at: usize) -> Key {
        format!("release/v1.34.8/bin/linux/amd64/file-{at:02}")
            .parse()
            .unwrap()
    }

    fn started(at: usize) -> Event {
        Event::Started {
            key: key(at),
            length: Some(1 << 20),
            resumed_bytes: 0,
        }
    }

    fn names_on(term: &InMemoryTerm) -> Vec<String> {
        let find = |line: &str| line.find("file-").map(|at| line[at..at + 7].to_owned());
        term.contents().lines().filter_map(find).collect()
    }

    #[test]
    fn a_bounded_number_of_files_is_shown_and_others_move_up() {
        let (term, all) = screen();
        let bars = Bars::new(&all, false);
        bars.event(&Event::Planned {
            images: None,
            transfers: 20,
            inspected: 0,
            bytes: Some(20 << 20),
            skipped: 0,
        });
        for at in 0..20 {
            bars.event(&started(at));
        }
        bars.event(&Event::Received {
            key: key(1),
            bytes: 1 << 19,
        });
        assert_eq!(bars.state().shown.len(), SHOWN);
        bars.event(&Event::Finished { key: key(0) });
        assert_eq!(bars.state().shown.len(), SHOWN);
        bars.total.force_draw();
        let names = names_on(&term);
        assert_eq!(names.len(), SHOWN, "{}", term.contents());
        assert!(names.contains(&"file-08".to_owned()) && !names.contains(&"file-00".to_owned()));
        assert!(
            term.contents().contains("1 of 20 files"),
            "{}",
            term.contents()
        );
    }

    #[test]
    fn nothing_stays_on_the_screen_but_what_went_wrong() {
        let (term, all) = screen();
        let bars = Bars::new(&all, false);
        bars.event(&started(0));
        bars.event(&started(1));
        bars.event(&Event::Failed {
            key: key(0),
            why: "no such file".into(),
        });
        drop(bars);
        let wanted = format!("failed {}: no such file", key(0));
        assert_eq!(term.contents().trim(), wanted);
    }

    #[test]
    fn a_measurement_is_shown_without_bytes_of_files() {
        let (term, all) = screen();
        let bars = Bars::new(&all, false);
        bars.event(&Event::Measuring {
            place: "dl.k8s.io:443".to_owned(),
            connections: 8,
        });
        bars.total.force_draw();
        let shown = term.contents();
        let wanted = "measuring dl.k8s.io:443 over 8 connections";
        assert!(shown.trim().ends_with(wanted), "{shown}");
    }

    #[test]
    fn long_keys_keep_their_ends() {
        assert_eq!(tail("abc", 3), "abc");
        assert_eq!(tail("abcd", 3), "…cd");
    }
}
