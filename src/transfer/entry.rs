//! Writes down what an index is to say of an asset.

use crate::digest::Digests;
use crate::index::Entry;
use crate::plan::Item;

/// The index entry of an asset whose content is at hand, without it having been carried.
pub fn entry_of_content(item: &Item) -> Option<Entry> {
    let content = item.wanted.content.as_ref()?;
    Some(entry(item, content.digests(), content.length(), &[]))
}

/// An index keeps what it said of the same content: who vouched for it and where it came from then.
pub(super) fn entry(item: &Item, digests: &Digests, length: u64, sources: &[String]) -> Entry {
    let asset = &item.wanted.asset;
    if let Some(before) = item
        .entry
        .as_ref()
        .filter(|before| sources.is_empty() && before.sha256 == digests.sha256)
    {
        let mut sidecars = before.sidecars.clone();
        sidecars.extend(
            asset
                .sidecars
                .iter()
                .filter(|sidecar| !before.sidecars.contains(sidecar)),
        );
        return Entry {
            sidecars,
            sha1: before.sha1.or(digests.sha1),
            sha512: before.sha512.or(digests.sha512),
            ..before.clone()
        };
    }
    Entry {
        key: asset.key.clone(),
        length,
        md5: digests.md5,
        sha256: digests.sha256,
        sha1: digests.sha1,
        sha512: digests.sha512,
        canonical: asset.canonical.to_string(),
        sources: sources.to_vec(),
        vouched_by: item.wanted.vouched_by.clone(),
        sidecars: asset.sidecars.clone(),
    }
}
