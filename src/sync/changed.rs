//! What upstream has changed of releases that are complete: never followed, always told.

use super::{Left, LeftTo, Prepared};
use crate::asset::Key;
use crate::plan::{Item, contradicts};

/// A file of a complete release that upstream has with other bytes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The releases that have it.
    pub releases: Vec<String>,
    pub key: Key,
    /// Who says so and what was mirrored, in one line.
    pub why: String,
}

impl Prepared {
    /// Leaves alone what a complete release has here under another digest than its vouchers tell now. A release does not change
    /// once it is out: somebody has replaced it, or the way to it is not to be trusted.
    ///
    /// Where a redirected host that has bytes of its own is silent, its silence is no change.
    pub fn hold_changed(&mut self) -> Vec<Changed> {
        let (mut kept, mut changed) = (Vec::new(), Vec::new());
        for item in std::mem::take(&mut self.plan.items) {
            match self.changed(&item) {
                None => kept.push(item),
                Some(_) if item.wanted.is_public_alone => self.left.push(unheard(item)),
                Some(change) => {
                    self.left.push(Left {
                        key: change.key.clone(),
                        why: change.why.clone(),
                        by: LeftTo::Operator,
                    });
                    changed.push(change);
                }
            }
        }
        self.plan.items = kept;
        changed
    }

    fn changed(&self, item: &Item) -> Option<Changed> {
        let key = &item.wanted.asset.key;
        let releases = self.releases.iter().filter(|(_, keys)| keys.contains(key));
        let mut of = Vec::new();
        let mut entry = None;
        for (release, _) in releases {
            let indexes = self.seen.iter().filter_map(|seen| seen.index(release));
            let files = indexes.flat_map(|index| &index.files);
            let other = files
                .filter(|file| file.key == *key)
                .find(|file| contradicts(&item.wanted, file));
            if let Some(other) = other {
                of.push(release.name.clone());
                entry.get_or_insert(other);
            }
        }
        let entry = entry?;
        let now = item.wanted.name().map(|digest| digest.to_string());
        let why = format!(
            "upstream has other bytes under this name now: {} was mirrored from {}, and {} says {}; it is left as it is",
            entry.sha256,
            entry.canonical,
            item.wanted.vouched_by.join(" and "),
            now.as_deref().unwrap_or("something else"),
        );
        Some(Changed {
            releases: of,
            key: key.clone(),
            why,
        })
    }
}

fn unheard(item: Item) -> Left {
    let asset = item.wanted.asset;
    let host = asset.canonical.host_str().unwrap_or_default();
    Left {
        why: format!(
            "the checksum that {host} is redirected to was not heard, and what was mirrored from there is not the public release; \
             it is left as it is"
        ),
        key: asset.key,
        by: LeftTo::Witness,
    }
}
