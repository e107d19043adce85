//! Counts what a run tells: how much is done, how much is left. Pure; both ways of showing stand on it.

use std::collections::BTreeMap;

use crate::asset::Key;
use crate::events::Event;
use crate::report::Link;

/// How far a run has come.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Tally {
    /// The transfers are of blobs.
    of_images: bool,
    pub(super) transfers: usize,
    pub(super) finished: usize,
    pub(super) failed: usize,
    /// Bytes that came in this run, some of them perhaps again.
    pub(super) received: u64,
    /// Of all transfers; None while unknown.
    wanted: Option<u64>,
    /// Bytes of transfers that ended, either way.
    settled: u64,
    /// Begun and not ended; as many as the engine has in flight.
    pub(super) flights: BTreeMap<Key, Flight>,
    /// The connections in use at each host, and what went wrong with them.
    links: BTreeMap<String, Link>,
}

/// One transfer under way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) length: Option<u64>,
    pub(super) at_hand: u64,
}

impl Tally {
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Planned {
                images,
                transfers,
                bytes,
                ..
            } => {
                self.of_images = images.is_some();
                self.transfers = *transfers;
                self.wanted = *bytes;
            }
            Event::Started {
                key,
                length,
                resumed_bytes,
            } => {
                let flight = Flight {
                    length: *length,
                    at_hand: *resumed_bytes,
                };
                self.flights.insert(key.clone(), flight);
            }
            Event::Received { key, bytes } => {
                self.received += bytes;
                if let Some(flight) = self.flights.get_mut(key) {
                    flight.at_hand += bytes;
                }
            }
            Event::Finished { key } => {
                self.finished += 1;
                self.settle(key);
            }
            Event::Measured { host, link } => {
                self.links.insert(host.clone(), *link);
            }
            Event::Failed { key, .. } => {
                self.failed += 1;
                self.settle(key);
            }
            _ => {}
        }
    }

    /// What the transfers are of.
    pub(super) fn things(&self) -> &'static str {
        if self.of_images { "blobs" } else { "files" }
    }

    fn settle(&mut self, key: &Key) {
        if let Some(flight) = self.flights.remove(key) {
            self.settled += flight.length.unwrap_or(flight.at_hand);
        }
    }

    /// `, 64 connections, 3 stalls`: how the links do; empty before anything is known.
    pub(super) fn links(&self) -> String {
        let sum = |count: fn(&Link) -> u64| self.links.values().map(count).sum::<u64>();
        let counts = [
            (sum(|link| link.connections as u64), "connections"),
            (sum(|link| link.stalls), "stalls"),
            (sum(|link| link.breaks), "breaks"),
            (sum(|link| link.refusals), "refusals"),
            (sum(|link| link.hedges_won), "hedges won"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = counts
            .map(|(count, what)| format!(", {count} {what}"))
            .collect();
        told.concat()
    }

    /// Bytes that are still to come; None while that is unknown.
    pub(super) fn left(&self) -> Option<u64> {
        let at_hand: u64 = self.flights.values().map(|flight| flight.at_hand).sum();
        self.wanted
            .map(|wanted| wanted.saturating_sub(self.settled + at_hand))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        name.parse().unwrap()
    }

    fn started(name: &str, length: u64, resumed_bytes: u64) -> Event {
        Event::Started {
            key: key(name),
            length: Some(length),
            resumed_bytes,
        }
    }

    fn received(name: &str, bytes: u64) -> Event {
        Event::Received {
            key: key(name),
            bytes,
        }
    }

    fn tally(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        tally.note(&Event::Planned {
            images: None,
            transfers: 2,
            inspected: 0,
            bytes: Some(150),
            skipped: 0,
        });
        for event in events {
            tally.note(event);
        }
        tally
    }

    #[test]
    fn what_was_there_before_is_neither_left_nor_received() {
        let tally = tally(&[started("a", 100, 40), received("a", 10)]);
        assert_eq!((tally.received, tally.left()), (10, Some(100)));
    }

    #[test]
    fn what_begins_anew_is_left_again() {
        let tally = tally(&[
            started("a", 100, 0),
            received("a", 100),
            started("a", 100, 0),
        ]);
        assert_eq!((tally.received, tally.left()), (100, Some(150)));
    }

    #[test]
    fn links_are_summed_and_tell_only_what_there_is() {
        let measured = |host: &str, stalls| Event::Measured {
            host: host.to_owned(),
            link: Link {
                connections: 32,
                stalls,
                ..Link::default()
            },
        };
        let tally = tally(&[measured("a", 1), measured("a", 2), measured("b", 0)]);
        assert_eq!(tally.links(), ", 64 connections, 2 stalls");
        assert_eq!(Tally::default().links(), "");
    }

    #[test]
    fn nothing_is_left_of_what_ended() {
        let why = String::new();
        let tally = tally(&[
            started("a", 100, 0),
            received("a", 100),
            Event::Finished { key: key("a") },
            started("b", 50, 0),
            Event::Failed { key: key("b"), why },
        ]);
        assert_eq!((tally.finished, tally.failed), (1, 1));
        assert_eq!(tally.left(), Some(0));
        assert!(tally.flights.is_empty());
    }
}
