//! The status as it changes, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::problem::Problem;
use super::{LISTENERS_MAX, Served};
use crate::board::Status;

/// At most four a second: people see no more, and bytes come far more often.
const BETWEEN_EVENTS: Duration = Duration::from_millis(250);

/// Shorter than proxies wait.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a browser whose connection broke asks again.
const RECONNECT: Duration = Duration::from_secs(2);

/// Somebody who looks on.
struct Listener {
    served: Arc<Served>,
    changes: watch::Receiver<u64>,
    /// What was told last.
    told: Option<Status>,
    may_tell: Instant,
    _place: OwnedSemaphorePermit,
}

/// The first event has all of it. The next ones leave out a set's `releases` where they are as they were, since they are nearly
/// all of it and seldom change.
pub(super) async fn events(
    State(served): State<Arc<Served>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = Arc::clone(&served.listeners).try_acquire_owned();
    let place = place.map_err(|_| Problem::too_many_listeners(LISTENERS_MAX))?;
    let listener = Listener {
        changes: served.board.changes(),
        served,
        told: None,
        may_tell: Instant::now(),
        _place: place,
    };
    let stream = futures::stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Listener {
    /// None when the server stops.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.served.stop.clone();
        stop.run_until_cancelled(self.changed()).await
    }

    async fn changed(&mut self) -> Event {
        loop {
            sleep_until(self.may_tell).await;
            self.changes.mark_unchanged();
            let status = self.served.board.status();
            if self.told.as_ref() != Some(&status) {
                self.may_tell = Instant::now() + BETWEEN_EVENTS;
                return self.tell(status);
            }
            // It ends with the board, which `served` holds.
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn tell(&mut self, status: Status) -> Event {
        let mut told = serde_json::json!(status);
        if let Some(before) = &self.told {
            leave_out_same_releases(&mut told, before, &status);
        }
        let event = Event::default().event("status").data(told.to_string());
        let event = match self.told {
            None => event.retry(RECONNECT),
            Some(_) => event,
        };
        self.told = Some(status);
        event
    }
}

fn leave_out_same_releases(told: &mut Value, before: &Status, now: &Status) {
    let sets = told["sets"].as_array_mut().into_iter().flatten();
    for (told, set) in sets.zip(&now.sets) {
        let is_same = before
            .set(&set.name)
            .is_some_and(|before| before.releases == set.releases);
        if let (true, Some(told)) = (is_same, told.as_object_mut()) {
            told.remove("releases");
        }
    }
}
