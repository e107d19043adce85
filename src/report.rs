//! Sums up a run: what became of each asset, what it cost, and the exit code that it deserves.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{BinaryBytes, FormattedDuration, HumanCount};
use serde::{Serialize, Serializer};

use crate::asset::Key;
use crate::record::FailureClass;

/// How a run ended, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    Done,
    SomeFailed,
    /// A mistake in the command or the configuration, or a target that can't be used: nothing was begun.
    Unusable,
    Interrupted,
    /// What is there differs from what is wanted, and nothing was done about it.
    Differs,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::Unusable => 2,
            Self::Differs => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What became of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Fetched and published.
    Transferred,
    /// Was there and right.
    Skipped,
    /// Was there and wrong, and is right now.
    Repaired,
    Failed,
    /// A pointer that stays where it was, since a release that it leads to is not complete: what failed is that release's.
    Withheld,
    /// Was under way when the run was stopped.
    Cancelled,
    /// Was not begun when the run was stopped.
    Left,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Transferred,
        Self::Skipped,
        Self::Repaired,
        Self::Failed,
        Self::Withheld,
        Self::Cancelled,
        Self::Left,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Transferred => "Transferred",
            Self::Skipped => "Skipped",
            Self::Repaired => "Repaired",
            Self::Failed => "Failed",
            Self::Withheld => "Withheld",
            Self::Cancelled => "Cancelled",
            Self::Left => "Not begun",
        }
    }
}

/// What a run carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    #[default]
    File,
    /// A container image, with all its blobs and manifests.
    Image,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_file(thing: &Thing) -> bool {
    *thing == Thing::File
}

impl Thing {
    /// As wide for one as for several.
    fn counted(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::File, 1) => "file ",
            (Self::File, _) => "files",
            (Self::Image, 1) => "image ",
            (Self::Image, _) => "images",
        }
    }
}

/// What became of one asset, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// An image's full name, where it is one.
    pub key: Key,
    #[serde(skip_serializing_if = "is_file")]
    pub of: Thing,
    pub kind: Kind,
    /// What a failure was of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The content's length; None while nobody has told it.
    pub bytes: Option<u64>,
    /// Why it was skipped or failed, and what to do about it: one line, without secrets.
    pub why: Option<String>,
    /// The places that its bytes came from, as they may be printed.
    pub sources: Vec<String>,
    /// Who said what the content hashes to, as they may be printed.
    pub vouched_by: Vec<String>,
}

/// What one origin's host brought, and at what cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Link {
    /// Body bytes that came.
    pub bytes: u64,
    /// The most that came in a second, over a second or more.
    pub bytes_per_second_max: f64,
    /// The connections that are worth having, as far as was found out.
    pub connections: usize,
    /// The most that were in use at a time.
    pub connections_max: usize,
    /// Connections that stayed below the floor.
    pub stalls: u64,
    /// Connections that broke, or could not be made.
    pub breaks: u64,
    /// Times that it said it is asked too much.
    pub refusals: u64,
    /// Late parts that another connection was sent after.
    pub hedges: u64,
    /// Those of them where the other connection was first.
    pub hedges_won: u64,
}

/// What went to one target, and at what cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StoreLeg {
    /// Body bytes that arrived.
    pub bytes: u64,
    /// Body bytes that were sent in vain: of puts that broke, and of those that were given up to be sent again.
    pub bytes_again: u64,
    /// The most connections with a body on its way at a time.
    pub connections_max: usize,
    /// What one connection carries, as last measured; None where no body was long enough to tell.
    pub bytes_per_second: Option<f64>,
    /// Bodies that came to a stop and were given up.
    pub stalls: u64,
}

/// What became of every asset that was wanted, and what it cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
    /// Targets that the run went without, and why.
    pub away: BTreeMap<String, String>,
    /// Releases whose markers were written.
    pub marked: Vec<String>,
    /// Bytes that came from origins.
    pub bytes_fetched: u64,
    /// Those of them that had come before.
    pub bytes_refetched: u64,
    pub elapsed: Duration,
    /// That it took to find out what is there, by target.
    pub requests: BTreeMap<String, u64>,
    /// By origin's host.
    pub links: BTreeMap<String, Link>,
    /// By target, where it is reached over a network.
    pub stores: BTreeMap<String, StoreLeg>,
    /// What part of the rate that was set was used; None without one.
    pub limit_used: Option<f64>,
    /// Somebody stopped it before its end.
    pub interrupted: bool,
}

/// The sums of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    pub transferred: usize,
    pub skipped: usize,
    pub repaired: usize,
    pub failed: usize,
    /// Pointers that stay where they were, since their release is not complete.
    pub withheld: usize,
    pub cancelled: usize,
    pub left: usize,
    /// Of all assets that were not there, as far as lengths are known.
    pub bytes_wanted: u64,
    pub bytes_fetched: u64,
    pub bytes_refetched: u64,
    pub seconds: f64,
    pub mean_bytes_per_second: f64,
    /// What part of the rate that was set was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_used: Option<f64>,
}

impl fmt::Display for Link {
    /// `64 connections, 6.20 MiB/s at best; 3 stalls, 1 break`: what went wrong is told where something did.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = plural(self.connections_max as u64, "connection");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a speed is positive and below 2^64"
        )]
        let best = self.bytes_per_second_max as u64;
        write!(f, "{connections}")?;
        if best > 0 {
            write!(f, ", {}/s at best", BinaryBytes(best))?;
        }
        let troubles = [
            (self.stalls, "stall"),
            (self.breaks, "break"),
            (self.refusals, "refusal"),
            (self.hedges, "late part"),
        ];
        let troubles = troubles.iter().filter(|(count, _)| *count > 0);
        let troubles: Vec<String> = troubles.map(|(count, what)| plural(*count, what)).collect();
        if !troubles.is_empty() {
            write!(f, "; {}", troubles.join(", "))?;
        }
        if self.hedges_won > 0 {
            write!(f, " ({} won)", self.hedges_won)?;
        }
        Ok(())
    }
}

impl fmt::Display for StoreLeg {
    /// `205.04 MiB over 64 connections at most, 91.00 KiB/s each; 5.00 MiB again; 1 stall`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = plural(self.connections_max as u64, "connection");
        write!(f, "{} over {connections} at most", BinaryBytes(self.bytes))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a speed is positive and below 2^64"
        )]
        if let Some(speed) = self.bytes_per_second {
            write!(f, ", {}/s each", BinaryBytes(speed as u64))?;
        }
        if self.bytes_again > 0 {
            write!(f, "; {} again", BinaryBytes(self.bytes_again))?;
        }
        if self.stalls > 0 {
            write!(f, "; {}", plural(self.stalls, "stall"))?;
        }
        Ok(())
    }
}

fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", HumanCount(count))
}

impl Report {
    /// This run and one before it, as one.
    #[must_use]
    pub fn after(mut self, mut earlier: Self) -> Self {
        earlier.outcomes.append(&mut self.outcomes);
        earlier.links.append(&mut self.links);
        earlier.stores.append(&mut self.stores);
        Self {
            outcomes: earlier.outcomes,
            links: earlier.links,
            stores: earlier.stores,
            bytes_fetched: self.bytes_fetched + earlier.bytes_fetched,
            bytes_refetched: self.bytes_refetched + earlier.bytes_refetched,
            elapsed: self.elapsed + earlier.elapsed,
            interrupted: self.interrupted || earlier.interrupted,
            ..self
        }
    }

    /// Success is only said when everything that was wanted is there.
    pub fn exit(&self) -> Exit {
        let any = |kind| self.of(kind).next().is_some();
        if self.interrupted || any(Kind::Cancelled) || any(Kind::Left) {
            return Exit::Interrupted;
        }
        if any(Kind::Failed) || any(Kind::Withheld) || !self.away.is_empty() {
            return Exit::SomeFailed;
        }
        Exit::Done
    }

    /// Counts are of files and images.
    pub fn totals(&self) -> Totals {
        let count = |kind| self.of(kind).count();
        let wanted = self.outcomes.iter().filter(|o| o.kind != Kind::Skipped);
        let seconds = self.elapsed.as_secs_f64();
        Totals {
            transferred: count(Kind::Transferred),
            skipped: count(Kind::Skipped),
            repaired: count(Kind::Repaired),
            failed: count(Kind::Failed),
            withheld: count(Kind::Withheld),
            cancelled: count(Kind::Cancelled),
            left: count(Kind::Left),
            bytes_wanted: wanted.filter_map(|outcome| outcome.bytes).sum(),
            bytes_fetched: self.bytes_fetched,
            bytes_refetched: self.bytes_refetched,
            seconds,
            mean_bytes_per_second: self.mean_speed(),
            limit_used: self.limit_used,
        }
    }

    /// Bytes per second; nought for a run that took no time.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a speed needs no more than 52 bits"
    )]
    fn mean_speed(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return 0.0;
        }
        self.bytes_fetched as f64 / seconds
    }

    /// The outcomes of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |o| o.kind == kind)
    }

    /// The closing table, for people: counts, cost, and each failure with its reason. Ends in a newline.
    pub fn table(&self, colour: bool) -> String {
        let mut table = String::new();
        self.write_table(&mut table, colour)
            .expect("writing to a string can't fail");
        table
    }

    fn write_table(&self, out: &mut String, colour: bool) -> fmt::Result {
        let (red, plain) = if colour {
            ("\x1b[31m", "\x1b[0m")
        } else {
            ("", "")
        };
        for (place, why) in &self.away {
            writeln!(out, "{red}failed{plain}  {place}\n        {why}")?;
        }
        for failed in self.of(Kind::Failed) {
            let why = failed
                .why
                .as_deref()
                .unwrap_or("for no reason that it told");
            writeln!(out, "{red}failed{plain}  {}\n        {why}", failed.key)?;
        }
        for withheld in self.of(Kind::Withheld) {
            let why = withheld.why.as_deref().unwrap_or_default();
            writeln!(out, "withheld  {}\n        {why}", withheld.key)?;
        }
        self.write_counts(out)?;
        self.write_cost(out)?;
        for release in &self.marked {
            writeln!(out, "Complete     {release}")?;
        }
        if self.exit() == Exit::Interrupted {
            writeln!(out, "Interrupted: the same command goes on from here.")?;
        } else if self.exit() == Exit::SomeFailed {
            writeln!(
                out,
                "The rest is there; the same command takes up what failed."
            )?;
        }
        Ok(())
    }

    fn write_counts(&self, out: &mut String) -> fmt::Result {
        let is_there = |thing| self.outcomes.iter().any(|outcome| outcome.of == thing);
        if is_there(Thing::Image) {
            self.write_counts_of(Thing::Image, out)?;
        }
        if is_there(Thing::File) || !is_there(Thing::Image) {
            self.write_counts_of(Thing::File, out)?;
        }
        Ok(())
    }

    fn write_counts_of(&self, thing: Thing, out: &mut String) -> fmt::Result {
        for kind in Kind::ALL {
            let outcomes = || self.of(kind).filter(|outcome| outcome.of == thing);
            let count = outcomes().count();
            let always = matches!(kind, Kind::Transferred | Kind::Skipped | Kind::Failed);
            if count == 0 && !always {
                continue;
            }
            let things = thing.counted(count);
            let bytes: u64 = outcomes().filter_map(|outcome| outcome.bytes).sum();
            let bytes = BinaryBytes(bytes).to_string();
            let count = HumanCount(count as u64).to_string();
            writeln!(out, "{:<12} {count:>7} {things} {bytes:>12}", kind.title())?;
        }
        Ok(())
    }

    fn write_cost(&self, out: &mut String) -> fmt::Result {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a speed is positive and below 2^64"
        )]
        let speed = self.mean_speed() as u64;
        writeln!(
            out,
            "Fetched      {} in {}, {}/s on average; {} of it again",
            BinaryBytes(self.bytes_fetched),
            FormattedDuration(self.elapsed),
            BinaryBytes(speed),
            BinaryBytes(self.bytes_refetched),
        )?;
        if let Some(used) = self.limit_used {
            writeln!(out, "Limit        {:.0} % of it used", used * 100.0)?;
        }
        for (at, (host, link)) in self.links.iter().enumerate() {
            let title = if at == 0 { "Links" } else { "" };
            writeln!(out, "{title:<12} {host}: {link}")?;
        }
        for (at, (place, leg)) in self.stores.iter().enumerate() {
            let title = if at == 0 { "Put" } else { "" };
            writeln!(out, "{title:<12} {place}: {leg}")?;
        }
        let width = self
            .requests
            .keys()
            .map(|place| place.chars().count())
            .max();
        let asked = self.requests.iter().filter(|(_, count)| **count > 0);
        for (at, (place, count)) in asked.enumerate() {
            let title = if at == 0 { "Looked at" } else { "" };
            let count = HumanCount(*count).to_string();
            let width = width.unwrap_or_default();
            let s = if count == "1" { "" } else { "s" };
            writeln!(out, "{title:<12} {place:<width$}: {count} request{s}")?;
        }
        Ok(())
    }
}

impl Serialize for Report {
    /// The document of `--output json`: the end, the sums, then every asset.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            result: Exit,
            exit_code: u8,
            away: &'a BTreeMap<String, String>,
            releases: &'a [String],
            totals: Totals,
            requests: &'a BTreeMap<String, u64>,
            links: &'a BTreeMap<String, Link>,
            stores: &'a BTreeMap<String, StoreLeg>,
            assets: &'a [Outcome],
        }
        Document {
            result: self.exit(),
            exit_code: self.exit().code(),
            away: &self.away,
            releases: &self.marked,
            totals: self.totals(),
            requests: &self.requests,
            links: &self.links,
            stores: &self.stores,
            assets: &self.outcomes,
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(key: &str, kind: Kind, bytes: u64) -> Outcome {
        Outcome {
            key: key.parse().unwrap(),
            of: Thing::File,
            kind,
            class: None,
            bytes: Some(bytes),
            why: (kind == Kind::Failed).then(|| "dl.k8s.io has no such file (404)".to_owned()),
            sources: Vec::new(),
            vouched_by: Vec::new(),
        }
    }

    fn report(kinds: &[Kind]) -> Report {
        let named = |(at, kind): (usize, &Kind)| outcome(&format!("a/{at}"), *kind, 1 << 20);
        Report {
            outcomes: kinds.iter().enumerate().map(named).collect(),
            ..Report::default()
        }
    }

    fn troubled() -> Link {
        Link {
            bytes_per_second_max: 2_097_152.0,
            connections: 32,
            connections_max: 64,
            stalls: 3,
            breaks: 1,
            hedges: 2,
            hedges_won: 1,
            ..Link::default()
        }
    }

    #[test]
    fn success_is_said_only_when_nothing_is_missing() {
        use Kind::{Cancelled, Failed, Left, Repaired, Skipped, Transferred, Withheld};
        for (kinds, exit) in [
            (&[][..], Exit::Done),
            (&[Transferred, Skipped, Repaired], Exit::Done),
            (&[Transferred, Failed], Exit::SomeFailed),
            (&[Transferred, Withheld], Exit::SomeFailed),
            (&[Transferred, Cancelled], Exit::Interrupted),
            (&[Failed, Left], Exit::Interrupted),
        ] {
            assert_eq!(report(kinds).exit(), exit, "{kinds:?}");
        }
        let stopped = Report {
            interrupted: true,
            ..report(&[Transferred])
        };
        assert_eq!(stopped.exit().code(), 130);
    }

    #[test]
    fn skipped_bytes_are_not_wanted() {
        let totals = report(&[Kind::Transferred, Kind::Skipped, Kind::Failed]).totals();
        assert_eq!(totals.bytes_wanted, 2 << 20);
        assert_eq!(
            (totals.transferred, totals.skipped, totals.failed),
            (1, 1, 1)
        );
    }

    #[test]
    fn the_table_shows_each_failure_with_its_reason() {
        let report = Report {
            bytes_fetched: 3 << 20,
            bytes_refetched: 1 << 10,
            elapsed: Duration::from_secs(2),
            limit_used: Some(0.914),
            links: [
                ("dl.k8s.io:443".to_owned(), troubled()),
                (
                    "github.com:443".to_owned(),
                    Link {
                        connections_max: 1,
                        ..Link::default()
                    },
                ),
            ]
            .into(),
            stores: [(
                "s3://mirror".to_owned(),
                StoreLeg {
                    bytes: 3 << 20,
                    bytes_again: 1 << 20,
                    connections_max: 5,
                    bytes_per_second: Some(93_184.0),
                    stalls: 1,
                },
            )]
            .into(),
            requests: [
                ("dl.k8s.io".to_owned(), 12),
                ("s3://mirror".to_owned(), 1234),
            ]
            .into(),
            ..report(&[Kind::Transferred, Kind::Skipped, Kind::Failed])
        };
        let wanted = "\
failed  a/2
        dl.k8s.io has no such file (404)
Transferred        1 file      1.00 MiB
Skipped            1 file      1.00 MiB
Failed             1 file      1.00 MiB
Fetched      3.00 MiB in 00:00:02, 1.50 MiB/s on average; 1.00 KiB of it again
Limit        91 % of it used
Links        dl.k8s.io:443: 64 connections, 2.00 MiB/s at best; 3 stalls, 1 break, 2 late parts (1 won)
             github.com:443: 1 connection
Put          s3://mirror: 3.00 MiB over 5 connections at most, 91.00 KiB/s each; 1.00 MiB again; 1 stall
Looked at    dl.k8s.io  : 12 requests
             s3://mirror: 1,234 requests
The rest is there; the same command takes up what failed.
";
        assert_eq!(report.table(false), wanted);
        assert!(report.table(true).contains("\x1b[31mfailed"));
    }

    #[test]
    fn the_document_has_sums_and_every_asset() {
        let report = Report {
            bytes_fetched: 10,
            elapsed: Duration::from_secs(2),
            marked: vec!["kops-1.36.2-v1.34.8".to_owned()],
            links: [("dl.k8s.io:443".to_owned(), troubled())].into(),
            ..report(&[Kind::Transferred, Kind::Failed])
        };
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!(document["result"], "some-failed");
        assert_eq!(document["exit_code"], 1);
        assert_eq!(document["releases"][0], "kops-1.36.2-v1.34.8");
        assert_eq!(document["totals"]["mean_bytes_per_second"], 5.0);
        assert_eq!(document["links"]["dl.k8s.io:443"]["stalls"], 3);
        assert!(document["stores"].is_object());
        assert_eq!(document["assets"][1]["kind"], "failed");
        assert_eq!(document["assets"][1]["key"], "a/1");
    }
}
