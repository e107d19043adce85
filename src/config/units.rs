//! Reads quantities as people write them: `64MiB`, `20mbit`, `30s`. A bare number is refused: nobody remembers its unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A number of bytes: `64MiB`, `20GiB`, `500MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// Bytes per second, as `2MiB` or `2MiB/s`; as bits per second, as networks are sold: `20mbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

/// A text that is no quantity of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not {wanted}", text.escape_debug())]
pub struct NotAQuantity {
    text: String,
    wanted: &'static str,
}

/// Units in bytes, the largest first so that printing finds the one that fits.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Units in bits per second. They are decimal everywhere.
const BIT_RATES: [(&str, u64); 4] = [
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];

impl Size {
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Rate {
    pub const fn of_bytes_per_second(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        quantity(text, &SIZES).map(Self).ok_or(NotAQuantity {
            text: text.to_owned(),
            wanted: "a size with a unit, such as 64MiB or 20GB",
        })
    }
}

impl FromStr for Rate {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let per_second = text.trim_end_matches("/s");
        let rate = match quantity(per_second, &BIT_RATES) {
            Some(bits) => Some(bits / 8),
            None => quantity(per_second, &SIZES),
        };
        rate.filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or(NotAQuantity {
                text: text.to_owned(),
                wanted: "a rate with a unit, such as 20mbit or 2MiB",
            })
    }
}

/// A number and one of `units`, whose names are known by their letters in any case; None when it is neither or too large.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let (_, unit) = units
        .iter()
        .find(|(unit, _)| unit.eq_ignore_ascii_case(name.trim()))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let tenths = u64::from_str(&format!("{fraction:0<3.3}")).ok()?;
    let part = unit.checked_mul(tenths)? / 1000;
    whole.checked_mul(*unit)?.checked_add(part)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exactly(f, self.0, &SIZES)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_mul(8) {
            Some(bits) if bits.is_multiple_of(1_000) => write_exactly(f, bits, &BIT_RATES),
            _ => write_exactly(f, self.0, &SIZES),
        }
    }
}

fn write_exactly(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |(_, unit): &&(&str, u64)| amount >= *unit && amount.is_multiple_of(*unit);
    let (name, unit) = units.iter().find(fits).unwrap_or(&units[units.len() - 1]);
    write!(f, "{}{name}", amount / unit)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// Reads a setting by the `FromStr` of its type, so that files, variables and flags take the same texts.
pub(super) fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

/// Reads `30s`, `1m 30s`, `500ms`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

/// Reads `30s`, `1m 30s`, `500ms`: a time that is not nought.
pub fn parse_duration(text: &str) -> Result<Duration, NotAQuantity> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or(NotAQuantity {
            text: text.to_owned(),
            wanted: "a duration with a unit, such as 30s or 500ms",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_in_either_base() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("20 GiB", 20 << 30),
            ("1.5KiB", 1536),
            ("500MB", 500_000_000),
            ("7B", 7),
            ("0B", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size::of_bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn bit_rates_are_an_eighth_of_their_bytes() {
        for (text, bytes) in [
            ("20mbit", 2_500_000),
            ("1Gbit/s", 125_000_000),
            ("2MiB/s", 2 << 20),
            ("1KiB", 1024),
        ] {
            assert_eq!(text.parse(), Ok(Rate::of_bytes_per_second(bytes)), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in [
            "",
            "64",
            "MiB",
            "-1MiB",
            "1.2.3MiB",
            "64 parsecs",
            "99999999999TiB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for text in ["30", "-3s", "0s", "soon"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!("0mbit".parse::<Rate>().is_err());
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        for bytes in [0, 1, 1000, 1024, 1536, 20 << 30, u64::MAX] {
            let size = Size::of_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for bytes in [1, 1024, 2_500_000, 2 << 20, u64::MAX] {
            let rate = Rate::of_bytes_per_second(bytes);
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }

    #[test]
    fn durations_take_several_units() {
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    }
}
