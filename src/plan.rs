//! Decides what to do: what is wanted × what each target holds. Pure; a plan can be printed, saved and refused, and `sync`
//! carries out nothing else.

pub mod summary;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::asset::{Key, Role};
use crate::digest::{Algorithm, Digest, Digests};
use crate::index::{self, Entry, Index};
use crate::store::{Condition, ETag, Object};
use crate::vouch::Vouched;

/// What one target holds, and what its indexes say of it.
#[derive(Debug, Clone, Default)]
pub struct Held {
    objects: BTreeMap<Key, Object>,
    entries: BTreeMap<Key, Entry>,
}

impl Held {
    /// Indexes that speak of one key twice: the last is heard.
    pub fn new(objects: Vec<Object>, indexes: &[Index]) -> Self {
        let files = indexes
            .iter()
            .flat_map(|index| index.files.iter().chain(&index.pointers));
        Self {
            objects: objects
                .into_iter()
                .map(|object| (object.key.clone(), object))
                .collect(),
            entries: files
                .map(|entry| (entry.key.clone(), entry.clone()))
                .collect(),
        }
    }

    /// What the listing shows there.
    pub fn object(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// What an index says of it, whether it is there or not.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    fn sidecars(&self, key: &Key) -> BTreeMap<Algorithm, ETag> {
        let there = |algorithm| {
            Some((
                algorithm,
                self.object(&key.sidecar(algorithm))?.etag.clone(),
            ))
        };
        Algorithm::ALL.into_iter().filter_map(there).collect()
    }

    fn holds(&self, key: &Key, md5: &Digest) -> bool {
        self.objects
            .get(key)
            .is_some_and(|object| object.etag == ETag::from(*md5))
    }
}

/// What is to be done about one asset at one target, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// It is there and right.
    Skip,
    /// Only sidecars are missing or wrong.
    Sidecars { sidecars: Vec<Algorithm> },
    /// An object is there, but nothing says what it holds: it is looked at inside the store first.
    Inspect { why: String },
    /// It has to be put.
    Transfer { why: String },
}

/// One wanted asset and what to do about it at each target, in the order of the targets.
#[derive(Debug, Clone)]
pub struct Item {
    pub wanted: Vouched,
    pub actions: Vec<Action>,
    /// The digests of what is there already, where an index tells them.
    pub held: Option<Digests>,
    /// In bytes, where an index or the content at hand tells it.
    pub length: Option<u64>,
    /// What the origin says of the length, where nothing better does: enough for a plan and for bars, never for a decision.
    pub told_length: Option<u64>,
    /// What an index says of the same content already.
    pub entry: Option<Entry>,
    /// The sidecars that are there now, by target.
    pub sidecars: Vec<BTreeMap<Algorithm, ETag>>,
    /// The objects that are there now, to be replaced only while they are still those.
    pub replaces: Vec<Option<ETag>>,
}

impl Item {
    /// Whether bytes have to come from somewhere.
    pub fn needs_content(&self) -> bool {
        self.actions
            .iter()
            .any(|action| matches!(action, Action::Transfer { .. }))
    }

    /// The length as far as anybody tells it.
    pub fn likely_length(&self) -> Option<u64> {
        self.length.or(self.told_length)
    }

    /// What must still be so at a target when it is put there.
    pub fn condition(&self, at: usize) -> Condition {
        let there = self.replaces[at].clone();
        there.map_or(Condition::Absent, Condition::Unchanged)
    }

    /// Whether every target has it, sidecars included.
    pub fn is_done(&self) -> bool {
        self.actions.iter().all(|action| *action == Action::Skip)
    }
}

/// Two files that want the same key with different contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} is wanted with two contents: as {first}, and as {second}; mirror them under different prefixes"
)]
pub struct Conflict {
    pub key: Key,
    pub first: String,
    pub second: String,
}

/// What to do, in order: small things first, pointers apart.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Files, in the order to carry them: those that need bytes first, the smaller first where lengths are known.
    pub items: Vec<Item>,
    /// Pointers, published after the release's marker.
    pub pointers: Vec<Item>,
}

impl Plan {
    /// Compares what is wanted with what each target holds.
    pub fn new(wanted: Vec<Vouched>, held: &[Held]) -> Result<Self, Conflict> {
        let mut plan = Self::default();
        for vouched in without_duplicates(wanted)? {
            let item = decide(vouched, held);
            match item.wanted.asset.role {
                Role::File => plan.items.push(item),
                Role::Pointer => plan.pointers.push(item),
            }
        }
        plan.order();
        Ok(plan)
    }

    /// Puts the files into the order in which they are carried.
    pub fn order(&mut self) {
        self.items.sort_by_cached_key(|item| {
            let key = item.wanted.asset.key.clone();
            (item.is_done(), item.likely_length(), key)
        });
    }

    pub fn all(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().chain(&self.pointers)
    }
}

fn without_duplicates(wanted: Vec<Vouched>) -> Result<Vec<Vouched>, Conflict> {
    let mut by_key: BTreeMap<Key, Vouched> = BTreeMap::new();
    for vouched in wanted {
        let Some(first) = by_key.get_mut(&vouched.asset.key) else {
            by_key.insert(vouched.asset.key.clone(), vouched);
            continue;
        };
        let contradicts = first.expected.iter().any(|digest| {
            vouched
                .expected
                .iter()
                .any(|other| other.algorithm() == digest.algorithm() && other != digest)
        });
        if contradicts {
            return Err(Conflict {
                key: vouched.asset.key,
                first: first.asset.canonical.to_string(),
                second: vouched.asset.canonical.to_string(),
            });
        }
        let sidecars: BTreeSet<Algorithm> = first
            .asset
            .sidecars
            .iter()
            .chain(&vouched.asset.sidecars)
            .copied()
            .collect();
        first.asset.sidecars = sidecars.into_iter().collect();
    }
    Ok(by_key.into_values().collect())
}

fn decide(wanted: Vouched, held: &[Held]) -> Item {
    let entry = held.iter().find_map(|held| matching_entry(&wanted, held));
    let digests = wanted
        .content
        .as_ref()
        .map(|content| content.digests().clone())
        .or_else(|| entry.map(Entry::digests));
    let length = wanted
        .content
        .as_ref()
        .map(crate::verify::Verified::length)
        .or_else(|| entry.map(|e| e.length));
    let actions = held
        .iter()
        .map(|held| action(&wanted, digests.as_ref(), held))
        .collect();
    let replaces = held
        .iter()
        .map(|held| {
            held.object(&wanted.asset.key)
                .map(|object| object.etag.clone())
        })
        .collect();
    let sidecars = held
        .iter()
        .map(|held| held.sidecars(&wanted.asset.key))
        .collect();
    Item {
        sidecars,
        entry: entry.cloned(),
        wanted,
        actions,
        held: digests,
        length,
        told_length: None,
        replaces,
    }
}

/// What an index says of the asset, if that satisfies everybody who vouches for it now.
fn matching_entry<'a>(wanted: &Vouched, held: &'a Held) -> Option<&'a Entry> {
    let entry = held.entry(&wanted.asset.key)?;
    let digests = entry.digests();
    // An algorithm that the index lacks can't be compared: then the content has to be looked at.
    wanted
        .expected
        .iter()
        .all(|digest| digests.get(digest.algorithm()) == Some(*digest))
        .then_some(entry)
}

fn action(wanted: &Vouched, digests: Option<&Digests>, held: &Held) -> Action {
    let key = &wanted.asset.key;
    let Some(object) = held.object(key) else {
        return Action::Transfer {
            why: "it is missing".to_owned(),
        };
    };
    if object.etag.md5().is_none() {
        return Action::Inspect {
            why: format!("its ETag '{}' is not an MD5", object.etag),
        };
    }
    let Some(digests) = digests else {
        let known_other = held
            .entry(key)
            .is_some_and(|e| object.etag == ETag::from(e.md5) && contradicts(wanted, e));
        if known_other {
            return Action::Transfer {
                why: "another content is wanted now".to_owned(),
            };
        }
        return Action::Inspect {
            why: "no index tells what it holds".to_owned(),
        };
    };
    if object.etag != ETag::from(digests.md5) {
        return Action::Transfer {
            why: "it is not what was stored: its ETag is another".to_owned(),
        };
    }
    let mut sidecars = Vec::new();
    for &algorithm in &wanted.asset.sidecars {
        let Some(digest) = digests.get(algorithm) else {
            return Action::Inspect {
                why: format!("no index tells its {algorithm}, which its sidecar needs"),
            };
        };
        if !held.holds(
            &key.sidecar(algorithm),
            &index::sidecar(&digest).digests().md5,
        ) {
            sidecars.push(algorithm);
        }
    }
    if sidecars.is_empty() {
        Action::Skip
    } else {
        Action::Sidecars { sidecars }
    }
}

/// Whether somebody vouches for another content than an index entry's.
pub(crate) fn contradicts(wanted: &Vouched, entry: &Entry) -> bool {
    let digests = entry.digests();
    wanted.expected.iter().any(|digest| {
        digests
            .get(digest.algorithm())
            .is_some_and(|held| held != *digest)
    })
}
