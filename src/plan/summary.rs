//! Prints a plan: what would be done to which file, why, and what it would cost.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::{Action, Item, Plan};
use crate::asset::{Asset, Key};
use crate::index::Release;

/// A plan as it is shown; also the document of `plan --output json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub targets: Vec<String>,
    pub totals: Totals,
    /// The releases that something is to be done for. Files that several of them have count for each.
    pub releases: Vec<ReleaseLine>,
    /// What is to be done, in order; files that are there and right are only counted.
    pub files: Vec<Line>,
    /// Files that can't be mirrored, and why.
    pub refused: Vec<Refused>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Files that have to cross.
    pub transfer: usize,
    /// Files whose objects have to be looked at inside the store.
    pub inspect: usize,
    /// Files that lack only sidecars.
    pub sidecars: usize,
    pub skip: usize,
    pub refused: usize,
    /// Bytes that have to cross, as far as somebody tells the lengths.
    pub bytes_known: u64,
    /// Files among them whose length nobody tells.
    pub lengths_unknown: usize,
    /// Requests that publishing takes at all targets together: files, sidecars, the index.
    pub requests: usize,
}

/// A release and what would be done for it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseLine {
    pub name: String,
    /// Files that something is to be done about.
    pub files: usize,
    /// Those of them that can't be mirrored.
    pub refused: usize,
    /// Bytes that have to cross, as far as somebody tells the lengths.
    pub bytes_known: u64,
}

/// One file and what would be done at each target.
#[derive(Debug, Serialize)]
pub struct Line {
    pub key: Key,
    pub canonical: String,
    pub length: Option<u64>,
    pub vouched_by: Vec<String>,
    /// In the order of the targets.
    pub actions: Vec<Action>,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub key: Key,
    pub why: String,
}

impl Summary {
    pub fn new(
        plan: &Plan,
        refused: &[(Asset, String)],
        releases: &[(Release, BTreeSet<Key>)],
        targets: &[String],
    ) -> Self {
        let mut totals = Totals {
            refused: refused.len(),
            ..Totals::default()
        };
        for item in plan.all() {
            totals.count(item);
        }
        if totals.requests > 0 && refused.is_empty() {
            totals.requests += targets.len();
        }
        let busy = plan.all().filter(|item| !item.is_done());
        Self {
            targets: targets.to_vec(),
            totals,
            releases: of_releases(plan, refused, releases),
            files: busy.map(line).collect(),
            refused: refused
                .iter()
                .map(|(asset, why)| Refused {
                    key: asset.key.clone(),
                    why: why.clone(),
                })
                .collect(),
        }
    }
}

impl Totals {
    fn count(&mut self, item: &Item) {
        let any = |wanted: fn(&Action) -> bool| item.actions.iter().any(wanted);
        if item.needs_content() {
            self.transfer += 1;
            match item.likely_length() {
                Some(length) => self.bytes_known += length,
                None => self.lengths_unknown += 1,
            }
        } else if any(|action| matches!(action, Action::Inspect { .. })) {
            self.inspect += 1;
        } else if any(|action| matches!(action, Action::Sidecars { .. })) {
            self.sidecars += 1;
        } else {
            self.skip += 1;
        }
        let of_file = item.wanted.asset.sidecars.len();
        self.requests += item
            .actions
            .iter()
            .map(|action| requests(action, of_file))
            .sum::<usize>();
    }
}

fn requests(action: &Action, sidecars_of_file: usize) -> usize {
    match action {
        Action::Skip => 0,
        Action::Sidecars { sidecars } => sidecars.len(),
        // A look, and the sidecars if it is right.
        Action::Inspect { .. } | Action::Transfer { .. } => 1 + sidecars_of_file,
    }
}

fn of_releases(
    plan: &Plan,
    refused: &[(Asset, String)],
    releases: &[(Release, BTreeSet<Key>)],
) -> Vec<ReleaseLine> {
    let busy = plan.all().filter(|item| !item.is_done());
    let busy: HashMap<&Key, &Item> = busy.map(|item| (&item.wanted.asset.key, item)).collect();
    let refused: HashSet<&Key> = refused.iter().map(|(asset, _)| &asset.key).collect();
    let lines = releases.iter().map(|(release, keys)| {
        let items = keys.iter().filter_map(|key| busy.get(key));
        let refused = keys.iter().filter(|key| refused.contains(key)).count();
        let crossing = items.clone().filter(|item| item.needs_content());
        ReleaseLine {
            name: release.name.clone(),
            files: items.count() + refused,
            refused,
            bytes_known: crossing.filter_map(|item| item.likely_length()).sum(),
        }
    });
    lines.filter(|line| line.files > 0).collect()
}

fn line(item: &Item) -> Line {
    Line {
        key: item.wanted.asset.key.clone(),
        canonical: item.wanted.asset.canonical.to_string(),
        length: item.likely_length(),
        vouched_by: item.wanted.vouched_by.clone(),
        actions: item.actions.clone(),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("skip      it is there and right"),
            Self::Sidecars { sidecars } => {
                let names: Vec<&str> = sidecars.iter().map(|sidecar| sidecar.name()).collect();
                write!(f, "sidecars  {} to be written", names.join(", "))
            }
            Self::Inspect { why } => write!(f, "inspect   {why}"),
            Self::Transfer { why } => write!(f, "transfer  {why}"),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.files {
            for (action, target) in line.actions.iter().zip(&self.targets) {
                let place = if self.targets.len() > 1 {
                    format!("  [{target}]")
                } else {
                    String::new()
                };
                writeln!(f, "{action}  {}{place}", line.key)?;
            }
        }
        for refused in &self.refused {
            writeln!(f, "refused   {}: {}", refused.key, refused.why)?;
        }
        let Totals {
            transfer,
            inspect,
            sidecars,
            skip,
            refused,
            bytes_known,
            lengths_unknown,
            requests,
        } = &self.totals;
        let bytes = indicatif::BinaryBytes(*bytes_known);
        let unknown = match lengths_unknown {
            0 => String::new(),
            files => format!(" and {files} of unknown length"),
        };
        writeln!(f, "Targets      {}", self.targets.join(", "))?;
        writeln!(f, "To transfer  {transfer} ({bytes}{unknown})")?;
        writeln!(f, "To inspect   {inspect}")?;
        writeln!(f, "To complete  {sidecars}")?;
        writeln!(f, "To skip      {skip}")?;
        writeln!(f, "Refused      {refused}")?;
        writeln!(f, "Requests     {requests} to write")
    }
}
