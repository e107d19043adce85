//! Tells what a run does while it does it, to whoever listens: a terminal, a log, a test.
//!
//! Events are plain facts in the past tense. Stages tell them and never format; listeners format and never decide.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::asset::Key;
use crate::report::Link;

/// What happened.
///
/// About one asset: `Started`, then `Received` as bytes come, `Verified`, `Published` once per target, and either `Finished`
/// or `Failed` at the end. `Started` comes again when the asset begins anew or its length becomes known: what it says of the
/// length and of the bytes at hand replaces what was said before.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run can't go on before something else ends: `another run that holds /var/cache/…`.
    Waiting { what: String },
    /// So many of the assets' digests have been looked up.
    Resolving { done: usize, total: usize },
    /// The link to `place` is being measured over so many connections.
    Measuring { place: String, connections: usize },
    /// What is to be done is known: so many files, `inspected` of them only to be looked at unless they turn out to be wrong. `bytes`
    /// is None while a length among them is unknown. With `images` the transfers are of blobs of so many of these, and those
    /// that are there are images too.
    Planned {
        images: Option<usize>,
        transfers: usize,
        inspected: usize,
        bytes: Option<u64>,
        skipped: usize,
    },
    /// An asset's transfer began, with `resumed_bytes` of it at hand from before.
    Started {
        key: Key,
        length: Option<u64>,
        resumed_bytes: u64,
    },
    /// So many more bytes of the asset have come from an origin.
    Received { key: Key, bytes: u64 },
    /// The whole content is there and hashes to what was vouched for.
    Verified { key: Key },
    /// The object is at `place`, a target in a user's words.
    Published { key: Key, place: String },
    /// How a host has done over the last second or so.
    Measured { host: String, link: Link },
    /// Something failed that is worth another attempt, after `pause`.
    Retrying {
        key: Key,
        why: String,
        pause: Duration,
    },
    /// A step on the way to a cluster sees something, or is done.
    Stepped { step: String, what: String },
    /// Something that the user should know and that stops nothing.
    Warned { what: String },
    /// The asset was given up; the others go on.
    Failed { key: Key, why: String },
    /// The asset is at every target, with its sidecars.
    Finished { key: Key },
    /// The release's marker was written: all of it is there.
    Marked { release: String },
}

/// Somebody who listens to a run. Called from many tasks at once, in the way of the bytes: it must be quick and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    fn event(&self, event: &Event);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event) {}
}

/// Writes what is done into the log on its way to a listener, who may not show each step.
#[derive(Debug)]
pub struct Logged(pub Arc<dyn Observer>);

impl Observer for Logged {
    fn event(&self, event: &Event) {
        match event {
            Event::Started {
                key,
                length,
                resumed_bytes,
            } => tracing::info!(length, resumed_bytes, "fetching {key}"),
            Event::Verified { key } => tracing::info!("verified {key}"),
            Event::Finished { key } => tracing::info!("finished {key}"),
            Event::Resolving { done, total } => {
                tracing::debug!("looked up digests, {done} of {total}");
            }
            _ => {}
        }
        self.0.event(event);
    }
}

/// An error and its causes in one line, as a user reads them once: `can't put …: connection reset by peer`.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries repeat their source in their own words.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What the innermost cause says: an HTTP client's layers around it say no more than that something failed.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Whether the error or one of its causes has a word in it.
pub fn mentions(error: &(dyn std::error::Error + 'static), word: &str) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains(word) {
            return true;
        }
        cause = error.source();
    }
    false
}
