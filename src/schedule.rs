//! Tells when a run is due: so long after the last one began, or when a clock says so.
//!
//! `every 1h` counts from the beginning of the last run. `0 3 * * * Asia/Shanghai` is five fields of cron and a time zone, since a
//! clock without one means another time on each machine. Either may end in `, jitter 10m`: up to so much later, each mirror by
//! another time, so that many of them do not ask at the same second.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};

/// When runs are due.
#[derive(Debug, Clone)]
pub struct Schedule {
    rhythm: Rhythm,
    jitter: SignedDuration,
}

#[derive(Debug, Clone)]
enum Rhythm {
    Every(SignedDuration),
    Clock {
        /// In one form, so that the same is equal however it was spaced.
        text: String,
        crontab: Box<cronexpr::Crontab>,
    },
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is no schedule: {why}; for example 'every 1h', or '0 3 * * * Asia/Shanghai, jitter 10m'",
    text.escape_debug()
)]
pub struct NotASchedule {
    text: String,
    why: String,
}

impl Schedule {
    /// When the next run is due, seen at `after`, where `last` is when the last one began.
    ///
    /// An interval counts from the last run: one that is overdue, and the first, is due at `after` itself. A clock does not make up
    /// for what was missed, and is not satisfied twice by one time of day. Jitter depends on nothing but `salt` and the occasion:
    /// who asks again gets the same answer. [`Timestamp::MAX`] is never.
    ///
    /// A time of day that a clock skips when it is put forward does not come that day; one that it shows twice comes twice.
    pub fn next(&self, after: Timestamp, last: Option<Timestamp>, salt: u64) -> Timestamp {
        match &self.rhythm {
            Rhythm::Every(interval) => match last {
                None => after,
                Some(last) => self.jittered(later(last, *interval), salt).max(after),
            },
            Rhythm::Clock { crontab, .. } => self.next_on_clock(crontab, after, last, salt),
        }
    }

    /// Looks as far back as jitter reaches: what was due on the clock a moment ago may have been put off until after now.
    fn next_on_clock(
        &self,
        crontab: &cronexpr::Crontab,
        after: Timestamp,
        last: Option<Timestamp>,
        salt: u64,
    ) -> Timestamp {
        let back = after.checked_sub(self.jitter).unwrap_or(Timestamp::MIN);
        let mut occasion = last.map_or(back, |last| back.max(last));
        while let Ok(next) = crontab.find_next(occasion) {
            occasion = next.timestamp();
            let due = self.jittered(occasion, salt);
            if due > after {
                return due;
            }
        }
        Timestamp::MAX
    }

    fn jittered(&self, occasion: Timestamp, salt: u64) -> Timestamp {
        let span = u64::try_from(self.jitter.as_millis()).unwrap_or(0);
        if span == 0 {
            return occasion;
        }
        let drawn = scattered(salt ^ scattered(occasion.as_second().cast_unsigned())) % (span + 1);
        let drawn = i64::try_from(drawn).unwrap_or(0);
        later(occasion, SignedDuration::from_millis(drawn))
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the same on every
/// machine and in every release, as the standard library's hashers are not.
fn scattered(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl FromStr for Schedule {
    type Err = NotASchedule;

    fn from_str(text: &str) -> Result<Self, NotASchedule> {
        let refused = |why: String| NotASchedule {
            text: text.chars().take(80).collect(),
            why,
        };
        let (rhythm, jitter) = split_jitter(text).map_err(refused)?;
        let rhythm = match rhythm.strip_prefix("every ") {
            Some(interval) => interval_of(interval, jitter),
            None if rhythm == "every" => Err("'every' wants a duration".to_owned()),
            None => clock_of(rhythm),
        };
        let rhythm = rhythm.map_err(refused)?;
        Ok(Self { rhythm, jitter })
    }
}

/// Lists within cron's fields have commas too, so only the last piece can be the jitter.
fn split_jitter(text: &str) -> Result<(&str, SignedDuration), String> {
    let text = text.trim();
    let Some((rhythm, last)) = text.rsplit_once(',') else {
        return Ok((text, SignedDuration::ZERO));
    };
    match last.trim().strip_prefix("jitter") {
        Some(duration) => Ok((rhythm.trim(), duration_of(duration)?)),
        None => Ok((text, SignedDuration::ZERO)),
    }
}

fn interval_of(text: &str, jitter: SignedDuration) -> Result<Rhythm, String> {
    let interval = duration_of(text)?;
    if jitter > interval {
        return Err("its jitter is longer than its interval".to_owned());
    }
    Ok(Rhythm::Every(interval))
}

fn duration_of(text: &str) -> Result<SignedDuration, String> {
    let text = text.trim();
    text.parse::<SignedDuration>()
        .ok()
        .filter(SignedDuration::is_positive)
        .ok_or_else(|| {
            format!(
                "'{}' is not a duration with a unit, such as 1h or 10m",
                text.escape_debug()
            )
        })
}

fn clock_of(text: &str) -> Result<Rhythm, String> {
    let fields = text.split_whitespace().count();
    if fields < 6 {
        return Err(format!(
            "it is neither 'every' and a duration nor five fields (minute, hour, day of month, month, day of week) and a time zone; \
             it has {fields} of the 6"
        ));
    }
    let text = cronexpr::normalize_crontab(text);
    let crontab = cronexpr::parse_crontab(&text).map_err(|error| on_one_line(&error))?;
    // The 29th of February comes within four years of any day; the 31st never does.
    if crontab.find_next(Timestamp::UNIX_EPOCH).is_err() {
        return Err("there is no such day".to_owned());
    }
    Ok(Rhythm::Clock {
        text,
        crontab: Box::new(crontab),
    })
}

/// The parser draws arrows below what it was given; its last line says why.
fn on_one_line(error: &cronexpr::Error) -> String {
    let text = error.to_string();
    let why = text.lines().last().unwrap_or_default();
    why.trim_start_matches([' ', '^']).to_owned()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rhythm {
            Rhythm::Every(interval) => write!(f, "every {interval:#}")?,
            Rhythm::Clock { text, .. } => f.write_str(text)?,
        }
        if self.jitter.is_zero() {
            return Ok(());
        }
        write!(f, ", jitter {:#}", self.jitter)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        let rhythms = match (&self.rhythm, &other.rhythm) {
            (Rhythm::Every(this), Rhythm::Every(other)) => this == other,
            (Rhythm::Clock { text: this, .. }, Rhythm::Clock { text: other, .. }) => this == other,
            _ => false,
        };
        rhythms && self.jitter == other.jitter
    }
}

impl Eq for Schedule {}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_counts_from_the_last_run() {
        let hourly = schedule("every 1h");
        let last = at("2026-11-24T20:00:00Z");
        let next = |after| hourly.next(at(after), Some(last), 7);
        assert_eq!(next("2026-11-24T20:10:00Z"), at("2026-11-24T21:00:00Z"));
        // Overdue: at once.
        assert_eq!(next("2026-11-24T23:10:00Z"), at("2026-11-24T23:10:00Z"));
        assert_eq!(hourly.next(last, None, 7), last);
    }

    #[test]
    fn a_clock_is_that_of_its_time_zone() {
        let nightly = schedule("0 3 * * * Asia/Shanghai");
        let next = nightly.next(at("2026-11-24T12:00:00Z"), None, 7);
        assert_eq!(next, at("2026-11-24T19:00:00Z"));
        // What was missed is not made up for.
        let last = Some(at("2026-11-01T19:00:00Z"));
        assert_eq!(nightly.next(at("2026-11-24T12:00:00Z"), last, 7), next);
        assert_eq!(
            nightly.next(next, Some(next), 7),
            at("2026-11-25T19:00:00Z")
        );
    }

    #[test]
    fn the_clock_of_a_zone_with_summer_time_keeps_its_hour() {
        let nightly = schedule("0 4 * * * Europe/Berlin");
        let next = |after| nightly.next(at(after), None, 0);
        assert_eq!(next("2026-03-28T12:00:00Z"), at("2026-03-29T02:00:00Z"));
        assert_eq!(next("2026-03-27T12:00:00Z"), at("2026-03-28T03:00:00Z"));
        assert_eq!(next("2026-10-24T12:00:00Z"), at("2026-10-25T03:00:00Z"));
    }

    #[test]
    fn a_time_that_is_skipped_does_not_come_and_one_that_is_shown_twice_comes_twice() {
        let in_the_gap = schedule("30 2 * * * Europe/Berlin");
        let next = |after| in_the_gap.next(at(after), Some(at(after)), 0);
        assert_eq!(next("2026-03-28T12:00:00Z"), at("2026-03-30T00:30:00Z"));
        assert_eq!(next("2026-10-24T12:00:00Z"), at("2026-10-25T00:30:00Z"));
        assert_eq!(next("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"));
        assert_eq!(next("2026-10-25T01:30:00Z"), at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn mirrors_with_other_salts_ask_at_other_times_and_each_at_its_own() {
        let nightly = schedule("0 3 * * * UTC, jitter 10m");
        let after = at("2026-11-24T12:00:00Z");
        let times: Vec<_> = (0..20)
            .map(|salt| nightly.next(after, None, salt))
            .collect();
        let distinct: std::collections::BTreeSet<_> = times.iter().collect();
        assert!(distinct.len() > 15, "{times:?}");
        assert_eq!(nightly.next(after, None, 3), times[3]);
        let (first, end) = (at("2026-11-25T03:00:00Z"), at("2026-11-25T03:10:00Z"));
        assert!(times.iter().all(|time| (first..=end).contains(time)));
    }

    #[test]
    fn who_asks_between_the_hour_and_its_jitter_gets_the_same_answer() {
        let nightly = schedule("0 3 * * * UTC, jitter 10m");
        let due = nightly.next(at("2026-11-24T12:00:00Z"), None, 1);
        let moment = SignedDuration::from_millis(1);
        assert!(due > at("2026-11-25T03:00:01Z"), "{due}");
        assert_eq!(nightly.next(due - moment, None, 1), due);
        // A timer that is a moment early does not run it twice.
        let next = nightly.next(due - moment, Some(due - moment), 1);
        assert!(next > at("2026-11-26T02:59:59Z"), "{next}");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason_and_an_example() {
        for (text, why) in [
            ("", "neither"),
            ("hourly", "neither"),
            ("0 3 * *", "it has 4 of the 6"),
            ("0 3 * * *", "time zone"),
            ("0 3 * * * Mars/Olympus", "time"),
            ("0 25 * * * UTC", "23"),
            ("0 3 31 2 * UTC", "no such day"),
            ("every", "wants a duration"),
            ("every 5", "'5' is not a duration"),
            ("every -1h", "'-1h' is not a duration"),
            ("every 0s", "'0s' is not a duration"),
            ("every 1h, jitter", "'' is not a duration"),
            ("every 1h, jitter soon", "'soon' is not a duration"),
            ("every 1h, jitter 2h", "longer than its interval"),
            ("every 1h, twice", "is not a duration"),
        ] {
            let refusal = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(refusal.contains(why), "{text}: {refusal}");
            assert!(refusal.contains("'every 1h'"), "{refusal}");
            assert_eq!(refusal.lines().count(), 1, "{refusal}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        for (text, printed) in [
            ("every 1h", "every 1h"),
            (
                "every  1 hour 30 minutes ,jitter 10m",
                "every 1h 30m, jitter 10m",
            ),
            ("every 500ms", "every 500ms"),
            ("  0   3 * * *  Asia/Shanghai", "0 3 * * * Asia/Shanghai"),
            (
                "0,30 3 * * 1-5 UTC, jitter 90s",
                "0,30 3 * * 1-5 UTC, jitter 1m 30s",
            ),
        ] {
            let read = schedule(text);
            assert_eq!(read.to_string(), printed);
            assert_eq!(schedule(printed), read);
        }
        assert_ne!(schedule("every 1h"), schedule("every 2h"));
        assert_ne!(schedule("every 1h"), schedule("every 1h, jitter 1m"));
    }

    #[test]
    fn a_setting_is_read_by_the_same_rules() {
        #[derive(Deserialize)]
        struct Set {
            schedule: Schedule,
        }
        let set: Set = toml::from_str("schedule = 'every 1h'").unwrap();
        assert_eq!(set.schedule, schedule("every 1h"));
        assert!(toml::from_str::<Set>("schedule = 'often'").is_err());
    }

    proptest! {
        #[test]
        fn an_interval_is_kept_and_jitter_only_delays(
            last in 0_i64..4_000_000_000,
            waited in 0_i64..200_000,
            interval in 1_i64..100_000,
            jitter in 1_i64..100_000,
            salt: u64,
        ) {
            let jitter = jitter.min(interval);
            let schedule = schedule(&format!("every {interval}s, jitter {jitter}s"));
            let last = Timestamp::from_second(last).unwrap();
            let after = last + SignedDuration::from_secs(waited);
            let next = schedule.next(after, Some(last), salt);
            prop_assert!(next >= after);
            prop_assert!(next >= last + SignedDuration::from_secs(interval));
            let latest = last + SignedDuration::from_secs(interval + jitter);
            prop_assert!(next <= latest.max(after));
            prop_assert!(schedule.next(last, Some(last), salt) > last);
        }

        #[test]
        fn a_clock_goes_forward_and_is_never_early(
            after in 0_i64..4_000_000_000,
            minute in 0_u8..60,
            hour in 0_u8..24,
            jitter in 1_i64..5_000,
            salt: u64,
        ) {
            let text = format!("{minute} {hour} * * * America/New_York");
            let plain = schedule(&text);
            let jittered = schedule(&format!("{text}, jitter {jitter}s"));
            let after = Timestamp::from_second(after).unwrap();
            let next = jittered.next(after, None, salt);
            prop_assert!(next > after);
            let span = SignedDuration::from_secs(jitter);
            // The occasion that it stands for is on the clock, and no further back than jitter reaches.
            let occasion = plain.next(next - span - SignedDuration::from_millis(1), None, salt);
            prop_assert!(occasion <= next);
            // No day goes by without, but for the hour that is skipped.
            prop_assert!(next.duration_since(after) <= SignedDuration::from_hours(50) + span);
        }
    }
}
