//! What became of images, as the report has it: a line for each.

use super::Carried;
use crate::asset::Key;
use crate::image::Reference;
use crate::record::FailureClass;
use crate::report::{Kind, Outcome as Line, Report, Thing};
use crate::transfer::{Ended, Mirror};

/// An image that nothing was carried of: its manifests could not be had, or it may not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    pub image: Reference,
    pub class: FailureClass,
    pub why: String,
}

impl Missed {
    pub fn new(image: &Reference, class: FailureClass, why: String) -> Self {
        let image = image.clone();
        Self { image, class, why }
    }
}

/// Sums up what was carried and what was not.
pub fn report(carried: &[Carried], missed: Vec<Missed>, mirror: &Mirror) -> Report {
    mirror.limits.remember(mirror.spools.path());
    let mut outcomes: Vec<Line> = carried
        .iter()
        .map(|carried| line(carried, mirror))
        .collect();
    outcomes.extend(missed.into_iter().map(|missed| Line {
        class: Some(missed.class),
        why: Some(missed.why),
        ..of(&missed.image, Kind::Failed)
    }));
    outcomes.sort_by(|a, b| a.key.cmp(&b.key));
    let targets = mirror.targets.iter();
    let legs = targets.filter_map(|target| Some((target.place().to_owned(), target.leg()?)));
    Report {
        outcomes,
        stores: legs.collect(),
        links: mirror.limits.links(),
        limit_used: mirror.limits.share_used(),
        bytes_fetched: carried.iter().map(|carried| carried.received_bytes).sum(),
        bytes_refetched: carried.iter().map(|carried| carried.refetched_bytes).sum(),
        ..Report::default()
    }
}

fn line(carried: &Carried, mirror: &Mirror) -> Line {
    let mut class = None;
    let mut whys = Vec::new();
    for (target, ended) in mirror.targets.iter().zip(&carried.places) {
        if let Ended::Failed { class: of, why } = ended {
            class.get_or_insert(*of);
            let why = if why.contains(target.place()) {
                why.clone()
            } else {
                format!("{}: {why}", target.place())
            };
            if !whys.contains(&why) {
                whys.push(why);
            }
        }
    }
    let kind = if class.is_some() {
        Kind::Failed
    } else if carried.places.contains(&Ended::Cancelled) {
        Kind::Cancelled
    } else if carried.places.contains(&Ended::Stored) {
        Kind::Transferred
    } else {
        Kind::Skipped
    };
    let image = &carried.image;
    let manifests = image
        .manifests
        .iter()
        .map(|manifest| manifest.bytes.len() as u64);
    let blobs = image.blobs().into_iter().map(|blob| blob.length);
    Line {
        class,
        bytes: Some(manifests.chain(blobs).sum()),
        why: (!whys.is_empty()).then(|| whys.join("; ")),
        sources: carried.sources.iter().cloned().collect(),
        vouched_by: vec![image.root().digest.to_string()],
        ..of(&image.reference, kind)
    }
}

fn of(name: &Reference, kind: Kind) -> Line {
    Line {
        key: key(name),
        of: Thing::Image,
        kind,
        class: None,
        bytes: None,
        why: None,
        sources: Vec::new(),
        vouched_by: Vec::new(),
    }
}

/// A line of an image that another shard brings.
pub(crate) fn of_another_shard(name: &Reference) -> Line {
    Line {
        why: Some("another shard brings it".to_owned()),
        ..of(name, Kind::Skipped)
    }
}

/// Images are told by their names where files are told by their keys.
pub(crate) fn key(name: &Reference) -> Key {
    name.to_string()
        .parse()
        .expect("a reference has no empty or dotted segments")
}
