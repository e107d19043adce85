//! Says what settings suit a link, by what was read on it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use indicatif::{BinaryBytes, HumanDuration};
use serde::Serialize;

use super::{Kernel, Measured, Reading, Side, mbit};

/// So much of the best is as good: readings of a few seconds differ by as much, and connections that bring nothing crowd others.
const AS_GOOD: f64 = 0.9;

/// Where twice the connections brought so much more, still more may.
const STILL_RISING: f64 = 1.2;

/// Between two congestion controls, less than this is chance.
const CLEARLY_BETTER: f64 = 1.2;

/// Many files of a release are so small that one connection brings each; with fewer at once a long link idles.
const FILES_USUAL: usize = 32;

/// Few connections are soon busy, and a file at once is for the tail's sake.
const FILES_MIN: usize = 4;

/// What is to be mirrored, by the host of canonical URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Size {
    /// In bytes.
    pub bytes: BTreeMap<String, u64>,
    /// Files whose length nobody tells.
    pub untold: usize,
}

/// Settings for one canonical host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForHost {
    /// The fewest that bring nearly as much as any number.
    pub connections: usize,
    pub bits_per_second: f64,
    pub bits_per_second_of_one: f64,
    /// The last step up still brought more.
    pub more_may_help: bool,
}

/// Settings for the store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForStore {
    /// Uploads side by side: the fewest that carry nearly as much as any number.
    pub connections: usize,
    pub bits_per_second: f64,
    pub bits_per_second_of_one: f64,
    pub more_may_help: bool,
    /// `single-part` where one connection fills the link, `auto` where it does not.
    pub publish: &'static str,
    /// The congestion control that carried most, where there was a choice.
    pub congestion: Option<String>,
}

/// How long a release takes with these settings, at most about: hosts one after another, as they share the line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Time {
    pub bytes: u64,
    /// Files whose length nobody tells, not counted.
    pub files_untold: usize,
    pub origin_seconds: Option<f64>,
    pub store_seconds: Option<f64>,
    /// Both legs at once, since files are put while others come.
    pub seconds: f64,
}

/// What suits the link.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Advice {
    pub hosts: BTreeMap<String, ForHost>,
    /// By store, in a user's words.
    pub stores: BTreeMap<String, ForStore>,
    /// Files in flight at once.
    pub files: Option<usize>,
    pub release: Option<Time>,
    /// The same in sentences.
    pub words: Vec<String>,
    /// Lines for a configuration file.
    pub settings: String,
}

impl Advice {
    pub fn of(measured: &[Measured], size: &Size, kernel: Option<&Kernel>) -> Self {
        let mut advice = Self {
            hosts: hosts(measured),
            stores: stores(measured),
            ..Self::default()
        };
        advice.files = advice.files();
        advice.release = advice.release(size);
        advice.words = advice.words(kernel);
        advice.settings = advice.settings();
        advice
    }

    fn most_connections(&self) -> Option<usize> {
        self.hosts.values().map(|host| host.connections).max()
    }

    /// A file's upload has one connection: where several uploads carry more, so many files must be under way.
    fn files(&self) -> Option<usize> {
        let for_origins = self.most_connections().map(|most| most.min(FILES_USUAL));
        let for_stores = self.stores.values().map(|store| store.connections).max();
        let most = for_origins.max(for_stores)?;
        Some(most.max(FILES_MIN))
    }

    fn release(&self, size: &Size) -> Option<Time> {
        let bytes: u64 = size.bytes.values().sum();
        let origin_seconds = self.origin_seconds(size);
        let slowest = self.stores.values().map(|store| store.bits_per_second);
        let store_seconds = slowest
            .reduce(f64::min)
            .map(|rate| bytes as f64 * 8.0 / rate);
        let seconds = origin_seconds
            .into_iter()
            .chain(store_seconds)
            .reduce(f64::max)?;
        (bytes > 0).then_some(Time {
            bytes,
            files_untold: size.untold,
            origin_seconds,
            store_seconds,
            seconds,
        })
    }

    /// Hosts that were not measured are taken to be as slow as the slowest that was.
    fn origin_seconds(&self, size: &Size) -> Option<f64> {
        let rates = self.hosts.values().map(|host| host.bits_per_second);
        let slowest = rates.reduce(f64::min)?;
        let seconds = size.bytes.iter().map(|(host, bytes)| {
            let rate = self
                .hosts
                .get(host)
                .map_or(slowest, |it| it.bits_per_second);
            *bytes as f64 * 8.0 / rate
        });
        Some(seconds.sum())
    }

    fn words(&self, kernel: Option<&Kernel>) -> Vec<String> {
        let mut words = Vec::new();
        for (host, it) in &self.hosts {
            let carry = carrying(
                it.connections,
                ["connection brings", "connections bring"],
                it.bits_per_second,
            );
            let more = more(it.more_may_help, it.connections);
            words.push(format!("{host}: {carry}.{more}"));
        }
        for (place, it) in &self.stores {
            words.extend(it.words(place, kernel));
        }
        if let Some(time) = &self.release {
            words.push(time.words());
        }
        words
    }

    fn settings(&self) -> String {
        let mut text = String::new();
        self.write_settings(&mut text)
            .expect("writing to a string can't fail");
        text
    }

    fn write_settings(&self, out: &mut String) -> std::fmt::Result {
        if let Some(publish) = self.stores.values().map(|store| store.publish).min() {
            writeln!(out, "publish = \"{publish}\"\n")?;
        }
        if self.files.is_some() {
            writeln!(out, "[fetch]")?;
        }
        if let Some(connections) = self.most_connections() {
            writeln!(out, "connections = {connections}")?;
        }
        if let Some(files) = self.files {
            writeln!(out, "files = {files}")?;
        }
        let congestion = self.stores.values().find_map(|it| it.congestion.as_ref());
        if let Some(congestion) = congestion {
            writeln!(out, "\n[s3]\ncongestion = \"{congestion}\"")?;
        }
        for (host, it) in &self.hosts {
            if Some(it.connections) != self.most_connections() {
                let connections = it.connections;
                writeln!(out, "\n[origins.\"{host}\"]\nconnections = {connections}")?;
            }
        }
        Ok(())
    }
}

impl ForStore {
    fn words(&self, place: &str, kernel: Option<&Kernel>) -> Vec<String> {
        let with = self
            .congestion
            .as_ref()
            .map_or(String::new(), |name| format!(" with {name}"));
        let carry = carrying(
            self.connections,
            ["upload at a time carries", "uploads at a time carry"],
            self.bits_per_second,
        );
        let more = more(self.more_may_help, self.connections);
        let mut words = vec![format!("{place}: {carry}{with}.{more}")];
        let way = kernel.and_then(Kernel::way_to_bbr);
        if let Some(way) = way.filter(|_| self.connections > 1) {
            words.push(format!(
                "bbr takes no loss for a full link, and was not measured: {way}, and measure again."
            ));
        }
        words
    }
}

impl Time {
    fn words(&self) -> String {
        let time = |seconds: f64| {
            let seconds = seconds.clamp(1.0, 1e9);
            HumanDuration(std::time::Duration::from_secs_f64(seconds))
        };
        let untold = match self.files_untold {
            0 => String::new(),
            untold => format!(
                " ({} of unknown length not counted)",
                counted(untold, "file")
            ),
        };
        let slower = match (self.origin_seconds, self.store_seconds) {
            (Some(origin), Some(store)) if store > origin => "; the store's side is the slower one",
            (Some(_), Some(_)) => "; the origins' side is the slower one",
            _ => "",
        };
        format!(
            "The release, {}{untold}: about {}{slower}.",
            BinaryBytes(self.bytes),
            time(self.seconds)
        )
    }
}

/// `64 connections bring 49.7 Mbit/s (0.8 each)`.
fn carrying(connections: usize, [one, many]: [&str; 2], bits_per_second: f64) -> String {
    let rate = mbit(bits_per_second);
    if connections == 1 {
        return format!("1 {one} {rate:.1} Mbit/s");
    }
    let each = rate / connections as f64;
    format!("{connections} {many} {rate:.1} Mbit/s ({each:.1} each)")
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn more(may_help: bool, connections: usize) -> String {
    if may_help {
        let twice = connections * 2;
        format!(" More may bring more: measure with --connections {twice}.")
    } else {
        String::new()
    }
}

/// The fewest connections that carry nearly as much as any number, and whether the climb ended while it still helped.
fn knee(readings: &[Reading]) -> Option<(Reading, bool)> {
    let best = readings
        .iter()
        .map(|reading| reading.bits_per_second)
        .reduce(f64::max)
        .filter(|best| *best > 0.0)?;
    let at = readings
        .iter()
        .position(|reading| reading.bits_per_second >= best * AS_GOOD)?;
    let before = at.checked_sub(1).map(|before| readings[before]);
    let is_last = at + 1 == readings.len();
    let rises = before
        .is_some_and(|before| readings[at].bits_per_second > before.bits_per_second * STILL_RISING);
    Some((readings[at], is_last && rises))
}

/// How many times as much was carried, over all numbers of connections: their geometric mean, since a small number of them is as
/// good a number as a large one.
fn times(readings: &[Reading], others: &[Reading]) -> f64 {
    let rates = readings.iter().zip(others);
    let logs: Vec<f64> = rates
        .map(|(it, other)| (it.bits_per_second, other.bits_per_second))
        .filter(|(it, other)| *it > 0.0 && *other > 0.0)
        .map(|(it, other)| (it / other).ln())
        .collect();
    (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp()
}

/// Of several sources of one host, the one that brings most counts.
fn hosts(measured: &[Measured]) -> BTreeMap<String, ForHost> {
    let mut hosts: BTreeMap<String, ForHost> = BTreeMap::new();
    for it in measured.iter().filter(|it| it.side == Side::Origin) {
        let (Some(host), Some((reading, rises))) = (&it.host, knee(&it.readings)) else {
            continue;
        };
        let advice = ForHost {
            connections: reading.connections,
            bits_per_second: reading.bits_per_second,
            bits_per_second_of_one: reading.bits_per_second_of_one(),
            more_may_help: rises && it.ended.is_none(),
        };
        let better = hosts
            .get(host)
            .is_none_or(|other| other.bits_per_second < advice.bits_per_second);
        if better {
            hosts.insert(host.clone(), advice);
        }
    }
    hosts
}

fn stores(measured: &[Measured]) -> BTreeMap<String, ForStore> {
    let mut ways: BTreeMap<&str, Vec<(&Measured, Reading, bool)>> = BTreeMap::new();
    for it in measured.iter().filter(|it| it.side == Side::Store) {
        if let Some((reading, rises)) = knee(&it.readings) {
            ways.entry(&it.place)
                .or_default()
                .push((it, reading, rises));
        }
    }
    ways.into_iter()
        .map(|(place, ways)| (place.to_owned(), for_store(&ways)))
        .collect()
}

/// The first way is the system's own: another must be clearly better.
fn for_store(ways: &[(&Measured, Reading, bool)]) -> ForStore {
    let mut best = &ways[0];
    for way in &ways[1..] {
        if times(&way.0.readings, &best.0.readings) > CLEARLY_BETTER {
            best = way;
        }
    }
    let (it, reading, rises) = best;
    ForStore {
        connections: reading.connections,
        bits_per_second: reading.bits_per_second,
        bits_per_second_of_one: reading.bits_per_second_of_one(),
        more_may_help: *rises && it.ended.is_none(),
        publish: if reading.connections == 1 {
            "single-part"
        } else {
            "auto"
        },
        congestion: it.congestion.clone().filter(|_| ways.len() > 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings in Mbit/s at 1, 2, 4, … connections.
    fn readings(mbits: &[f64]) -> Vec<Reading> {
        let at = |(at, mbit): (usize, &f64)| Reading {
            connections: 1 << at,
            bits_per_second: mbit * 1e6,
            bits_per_second_at_first: 0.0,
            seconds: 5.0,
            silences: Some(0),
            breaks: 0,
        };
        mbits.iter().enumerate().map(at).collect()
    }

    fn origin(host: &str, mbits: &[f64]) -> Measured {
        let mut measured = Measured::begun(Side::Origin, format!("{host}:443"));
        measured.host = Some(host.to_owned());
        measured.readings = readings(mbits);
        measured
    }

    fn store(congestion: &str, mbits: &[f64]) -> Measured {
        let mut measured = Measured::begun(Side::Store, "s3://mirror/k8s".to_owned());
        measured.congestion = Some(congestion.to_owned());
        measured.readings = readings(mbits);
        measured
    }

    fn size(bytes: &[(&str, u64)]) -> Size {
        Size {
            bytes: bytes
                .iter()
                .map(|(host, n)| ((*host).to_owned(), *n))
                .collect(),
            untold: 0,
        }
    }

    #[test]
    fn the_knee_is_the_fewest_connections_that_are_as_good_as_any() {
        for (mbits, connections, more_may_help) in [
            // Measured at 100 Mbit/s, 200 ms: 0.1 % and 1 % loss with cubic, 1 % with bbr.
            (&[3.3, 9.0, 20.1, 40.1, 73.9, 96.5, 96.5][..], 32, false),
            (&[0.7, 1.8, 3.7, 7.0, 12.9, 24.9, 49.7], 64, true),
            (&[49.9, 80.0, 94.1, 92.9, 96.5, 96.9, 98.1], 4, false),
            (&[20.0, 20.0, 20.0], 1, false),
            (&[20.0], 1, false),
            // More connections than a host likes.
            (&[10.0, 19.0, 30.0, 12.0], 4, false),
            (&[10.0, 11.5], 2, false),
        ] {
            let (reading, rises) = knee(&readings(mbits)).unwrap();
            assert_eq!(
                (reading.connections, rises),
                (connections, more_may_help),
                "{mbits:?}"
            );
        }
        assert_eq!(knee(&[]), None);
        assert_eq!(knee(&readings(&[0.0, 0.0])), None);
    }

    #[test]
    fn settings_say_what_the_advice_says() {
        let measured = [
            origin("dl.k8s.io", &[0.7, 1.8, 3.7, 7.0, 12.9, 24.9, 49.7]),
            origin("github.com", &[20.0, 40.0, 41.0]),
            store("cubic", &[0.7, 1.4, 2.8, 5.6, 11.0, 22.0, 45.0]),
            store("bbr", &[50.0, 60.0, 70.0, 80.0, 85.0, 90.0, 97.0]),
        ];
        let advice = Advice::of(&measured, &Size::default(), None);
        let settings: toml::Table = advice.settings.parse().unwrap();
        let wanted = toml::toml! {
            publish = "auto"
            [fetch]
            connections = 64
            files = 32
            [origins."github.com"]
            connections = 2
            [s3]
            congestion = "bbr"
        };
        assert_eq!(settings, wanted);
    }

    #[test]
    fn another_congestion_control_must_be_clearly_better() {
        let best = |cubic: &[f64], bbr: &[f64]| {
            let measured = [store("cubic", cubic), store("bbr", bbr)];
            let advice = Advice::of(&measured, &Size::default(), None);
            advice.stores["s3://mirror/k8s"].clone()
        };
        let lossy = best(&[0.7, 1.4, 2.8], &[50.0, 80.0, 94.0]);
        assert_eq!(lossy.congestion.as_deref(), Some("bbr"));
        assert_eq!(lossy.connections, 4);
        // As much in the end, with fewer connections.
        let sooner = best(&[0.7, 5.6, 45.0], &[50.0, 48.0, 46.0]);
        assert_eq!(sooner.congestion.as_deref(), Some("bbr"));
        assert_eq!(sooner.connections, 1);
        let clean = best(&[90.0, 92.0], &[92.0, 95.0]);
        assert_eq!(clean.congestion.as_deref(), Some("cubic"));
        let alone = [store("cubic", &[20.0, 20.0])];
        let advice = Advice::of(&alone, &Size::default(), None);
        let it = &advice.stores["s3://mirror/k8s"];
        assert_eq!(
            (it.congestion.as_deref(), it.publish),
            (None, "single-part")
        );
    }

    #[test]
    fn a_release_takes_as_long_as_its_slower_leg() {
        let origins = [origin("a", &[8.0]), origin("b", &[16.0])];
        let bytes = size(&[("a", 10_000_000), ("b", 20_000_000), ("small", 1_000_000)]);
        let time = Advice::of(&origins, &bytes, None).release.unwrap();
        assert_eq!((time.bytes, time.seconds), (31_000_000, 21.0));
        let with_store = [&origins[..], &[store("cubic", &[4.0])]].concat();
        let advice = Advice::of(&with_store, &bytes, None);
        let time = advice.release.as_ref().unwrap();
        assert_eq!((time.seconds, time.origin_seconds), (62.0, Some(21.0)));
        let words = advice.words.last().unwrap();
        assert!(
            words.contains("the store's side is the slower one"),
            "{words}"
        );
        assert_eq!(Advice::of(&[], &bytes, None).release, None);
    }
}
