//! Heeds the rate limit of GitHub's REST API: whoever asks on when it is used up may be shut out.
//!
//! docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api: 60 requests an hour without a token, counted by address;
//! the headers of each answer tell what is left, and when there will be more.

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::origin::Reply;

/// A limit is for an hour; more than this is a clock that is wrong, and must not silence us for days.
const REST_MAX: SignedDuration = SignedDuration::from_hours(2);
/// "Otherwise, wait for at least one minute before retrying."
const REST_MIN: SignedDuration = SignedDuration::from_mins(1);

/// Whether the API may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Allowance {
    resting_until: Option<Timestamp>,
}

impl Allowance {
    /// Until when nothing is to be asked; None when it may be.
    pub(super) fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        // What was kept over a restart may be of a clock that has been put back since.
        self.resting_until
            .filter(|until| *until > now)
            .map(|until| until.min(later(now, REST_MAX)))
    }

    /// Takes note of what an answer says of the limit; true when it is a refusal for its sake.
    pub(super) fn heed(&mut self, reply: &Reply, now: Timestamp) -> bool {
        let asked_for = reply.retry_after().and_then(|pause| {
            let pause = SignedDuration::try_from(pause).ok()?;
            Some(later(now, pause))
        });
        self.note(reply.status, &reply.headers, asked_for, now)
    }

    fn note(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        asked_for: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let used_up = number(headers, "x-ratelimit-remaining") == Some(0);
        let reset = number(headers, "x-ratelimit-reset")
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .filter(|_| used_up);
        let is_refusal = matches!(status.as_u16(), 403 | 429);
        let least = later(now, REST_MIN);
        let until = match status.as_u16() {
            403 | 429 if asked_for.is_some() => asked_for,
            403 | 429 if used_up => Some(reset.map_or(least, |reset| reset.max(least))),
            429 => Some(least),
            _ => reset,
        };
        if let Some(until) = until {
            self.resting_until = Some(until.min(later(now, REST_MAX)));
        }
        is_refusal && until.is_some()
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Seconds of rest after an answer, and whether it was a refusal.
    fn rest(status: u16, headers: &[(&'static str, i64)], retry_after: Option<i64>) -> (i64, bool) {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, value.to_string().parse().unwrap())
        });
        let mut allowance = Allowance::default();
        let status = StatusCode::from_u16(status).unwrap();
        let asked_for = retry_after.map(|seconds| at(NOW + seconds));
        let refused = allowance.note(status, &headers.collect(), asked_for, at(NOW));
        let until = allowance.rests_until(at(NOW));
        (until.map_or(0, |until| until.as_second() - NOW), refused)
    }

    #[test]
    fn rests_as_long_as_the_headers_say() {
        let left = ("x-ratelimit-remaining", 5);
        let used_up = ("x-ratelimit-remaining", 0);
        let reset = |seconds| ("x-ratelimit-reset", NOW + seconds);
        for (status, headers, retry_after, expected) in [
            (200, &[left, reset(900)][..], None, (0, false)),
            (200, &[used_up, reset(900)], None, (900, false)),
            (304, &[used_up, reset(900)], None, (900, false)),
            (200, &[], None, (0, false)),
            (403, &[used_up, reset(900)], None, (900, true)),
            (403, &[left, reset(900)], Some(30), (30, true)),
            // A proxy's refusal has nothing to do with a rate.
            (403, &[], None, (0, false)),
            (429, &[], None, (60, true)),
            (429, &[used_up, reset(-100)], None, (60, true)),
            (429, &[used_up, reset(1_000_000)], None, (7200, true)),
        ] {
            let rest = rest(status, headers, retry_after);
            assert_eq!(rest, expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_rest_ends() {
        let allowance = Allowance {
            resting_until: Some(at(NOW)),
        };
        assert_eq!(allowance.rests_until(at(NOW - 1)), Some(at(NOW)));
        assert_eq!(allowance.rests_until(at(NOW)), None);
    }
}
