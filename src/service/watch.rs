//! Follows a run by its events, and keeps the board's picture of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::asset::Key;
use crate::board::{Board, FileProgress, Progress};
use crate::events::{Event, Observer};

/// The board is written no more often: a page that draws ten times a second shows nothing more.
const EVERY: Duration = Duration::from_millis(250);

/// Where nothing happens it is written this often.
const STALE: Duration = Duration::from_secs(1);

/// A speed is that of so long.
const WINDOW: Duration = Duration::from_secs(10);

/// One who listens to a run for the board.
#[derive(Debug)]
pub(super) struct Watch {
    board: Arc<Board>,
    set: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    /// Those under way.
    files: BTreeMap<Key, FileProgress>,
    /// What came when, over the window, in steps of [`EVERY`].
    came: VecDeque<(Instant, u64)>,
    written: Option<Instant>,
    notes: Vec<String>,
}

impl Watch {
    pub(super) fn new(board: Arc<Board>, set: &str, progress: Progress) -> Arc<Self> {
        let watch = Self {
            board,
            set: set.to_owned(),
            state: Mutex::new(State {
                progress,
                files: BTreeMap::new(),
                came: VecDeque::new(),
                written: None,
                notes: Vec::new(),
            }),
        };
        watch.write(&mut watch.locked());
        Arc::new(watch)
    }

    /// Writes down how it is now, also where nothing has happened: a speed falls by itself.
    pub(super) async fn refresh(&self) {
        loop {
            sleep(STALE).await;
            self.write(&mut self.locked());
        }
    }

    /// What the run warned of.
    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.locked().notes)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State) {
        let now = Instant::now();
        state.written = Some(now);
        state.forget_before(now);
        let mut progress = state.progress.clone();
        progress.bytes_per_second = state.speed(now);
        progress.files = state
            .files
            .values()
            .take(Progress::FILES_MAX)
            .cloned()
            .collect();
        self.board.update(|status| {
            if let Some(set) = status.set_mut(&self.set) {
                set.show_progress(progress);
            }
        });
    }
}

impl State {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Planned {
                transfers, bytes, ..
            } => {
                "fetching".clone_into(&mut self.progress.phase);
                self.progress.files_total = *transfers as u64;
                self.progress.bytes_total = *bytes;
            }
            Event::Started {
                key,
                length,
                resumed_bytes,
            } => {
                let file = FileProgress {
                    key: key.to_string(),
                    bytes: *resumed_bytes,
                    length: *length,
                };
                self.files.insert(key.clone(), file);
            }
            Event::Received { key, bytes } => {
                self.count(*bytes);
                self.progress.bytes_done += bytes;
                if let Some(file) = self.files.get_mut(key) {
                    file.bytes += bytes;
                }
            }
            Event::Finished { key } | Event::Failed { key, .. } => {
                self.files.remove(key);
                self.progress.files_done += 1;
            }
            Event::Warned { what } => self.notes.push(what.clone()),
            _ => {}
        }
    }

    fn count(&mut self, bytes: u64) {
        let now = Instant::now();
        match self.came.back_mut() {
            Some((when, together)) if now.duration_since(*when) < EVERY => *together += bytes,
            _ => self.came.push_back((now, bytes)),
        }
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((when, _)) = self.came.front()
            && now.duration_since(*when) > WINDOW
        {
            self.came.pop_front();
        }
    }

    /// Bytes a second over the window, or over what there is of it.
    fn speed(&self, now: Instant) -> f64 {
        let Some((first, _)) = self.came.front() else {
            return 0.0;
        };
        let span = now.duration_since(*first).max(Duration::from_secs(1));
        let bytes: u64 = self.came.iter().map(|(_, bytes)| bytes).sum();
        bytes as f64 / span.as_secs_f64()
    }
}

impl Observer for Watch {
    fn event(&self, event: &Event) {
        let mut state = self.locked();
        state.hear(event);
        if state
            .written
            .is_none_or(|written| written.elapsed() >= EVERY)
        {
            self.write(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::board::SetStatus;
    use crate::record::Purpose;

    fn board() -> Arc<Board> {
        let board = Board::new("1.0.0", Timestamp::UNIX_EPOCH);
        board.update(|status| {
            status.sets.push(SetStatus::named("all"));
        });
        Arc::new(board)
    }

    fn progress(run: &str, purpose: Purpose) -> Progress {
        Progress::begun(run, purpose, Timestamp::UNIX_EPOCH)
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrub_is_shown_while_nothing_else_is_under_way() {
        let board = board();
        let shown = || {
            board.status().sets[0]
                .progress
                .clone()
                .map(|shown| shown.run)
        };
        let scrub = Watch::new(Arc::clone(&board), "all", progress("scrub", Purpose::Scrub));
        assert_eq!(shown().as_deref(), Some("scrub"));
        let _sync = Watch::new(Arc::clone(&board), "all", progress("sync", Purpose::Sync));
        let known = || board.status().sets[0].progress_of("scrub").is_some();
        assert!(known(), "it goes on beside");
        refreshed(&scrub).await;
        assert_eq!(shown().as_deref(), Some("sync"));
        assert!(known(), "it goes on beside");
        board.update(|status| status.sets[0].end_progress("scrub"));
        assert_eq!(
            shown().as_deref(),
            Some("sync"),
            "it is not the scrub's to end"
        );
        assert!(!known(), "it has ended");
        refreshed(&scrub).await;
        board.update(|status| status.sets[0].end_progress("sync"));
        assert_eq!(shown().as_deref(), Some("scrub"));
        refreshed(&scrub).await;
        assert_eq!(shown().as_deref(), Some("scrub"));
        assert!(board.status().sets[0].beside.is_none());
    }

    async fn refreshed(watch: &Watch) {
        let _never = tokio::time::timeout(STALE + STALE / 2, watch.refresh()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_board_shows_what_is_under_way_and_how_fast() {
        let board = board();
        let watch = Watch::new(Arc::clone(&board), "all", progress("1", Purpose::Sync));
        let key: Key = "a/file".parse().unwrap();
        let started = Event::Started {
            key: key.clone(),
            length: Some(4000),
            resumed_bytes: 1000,
        };
        watch.event(&started);
        for _ in 0..2 {
            let key = key.clone();
            watch.event(&Event::Received { key, bytes: 1000 });
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        refreshed(&watch).await;
        let shown = board.status().sets[0].progress.clone().unwrap();
        assert_eq!(shown.files[0].bytes, 3000);
        assert_eq!(shown.bytes_done, 2000);
        assert!((500.0..=1000.0).contains(&shown.bytes_per_second));
        watch.event(&Event::Finished { key });
        tokio::time::advance(Duration::from_secs(60)).await;
        refreshed(&watch).await;
        let shown = board.status().sets[0].progress.clone().unwrap();
        assert!(shown.files.is_empty());
        assert_eq!(shown.files_done, 1);
        assert!(shown.bytes_per_second.abs() < f64::EPSILON);
    }
}
