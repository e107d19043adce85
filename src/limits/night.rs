//! The part of each day in which another rate holds: `01:00-07:00 Asia/Shanghai`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

/// A span of each day, in a time zone. One that ends before it begins goes over midnight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Night {
    from: Time,
    until: Time,
    zone: TimeZone,
}

/// A text that is no such span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a span of the day in a time zone, such as 01:00-07:00 Asia/Shanghai", .0.escape_debug())]
pub struct NotASpan(String);

impl Night {
    /// Whether it is night then.
    pub fn is_at(&self, moment: Timestamp) -> bool {
        let time = moment.to_zoned(self.zone.clone()).time();
        if self.from <= self.until {
            (self.from..self.until).contains(&time)
        } else {
            time >= self.from || time < self.until
        }
    }
}

impl FromStr for Night {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let bad = || NotASpan(text.to_owned());
        let (span, zone) = text
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(bad)?;
        let (from, until) = span.split_once('-').ok_or_else(bad)?;
        let time = |text: &str| Time::strptime("%H:%M", text).map_err(|_| bad());
        let night = Self {
            from: time(from)?,
            until: time(until)?,
            zone: TimeZone::get(zone.trim()).map_err(|_| bad())?,
        };
        if night.from == night.until {
            return Err(bad());
        }
        Ok(night)
    }
}

impl fmt::Display for Night {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        let (from, until) = (self.from.strftime("%H:%M"), self.until.strftime("%H:%M"));
        write!(f, "{from}-{until} {zone}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_at(night: &str, moment: &str) -> bool {
        night
            .parse::<Night>()
            .unwrap()
            .is_at(moment.parse().unwrap())
    }

    #[test]
    fn it_is_night_where_the_zone_says_so() {
        let night = "01:00-07:00 Asia/Shanghai";
        assert!(is_at(night, "2026-11-24T17:00:00Z"));
        assert!(is_at(night, "2026-11-24T22:59:59Z"));
        assert!(!is_at(night, "2026-11-24T23:00:00Z"));
        assert!(!is_at(night, "2026-11-24T03:00:00Z"));
    }

    #[test]
    fn a_night_may_go_over_midnight() {
        let night = "22:30-06:00 UTC";
        assert!(is_at(night, "2026-11-24T23:00:00Z"));
        assert!(is_at(night, "2026-11-24T05:59:00Z"));
        assert!(!is_at(night, "2026-11-24T12:00:00Z"));
    }

    #[test]
    fn what_is_no_span_is_refused_and_what_is_one_prints_the_same() {
        for bad in [
            "",
            "01:00-07:00",
            "01:00 UTC",
            "1-2 UTC",
            "25:00-07:00 UTC",
            "01:00-07:00 Mars/Base",
            "01:00-01:00 UTC",
        ] {
            assert!(bad.parse::<Night>().is_err(), "{bad}");
        }
        let night: Night = "01:00-07:00 Asia/Shanghai".parse().unwrap();
        assert_eq!(night.to_string(), "01:00-07:00 Asia/Shanghai");
    }
}
