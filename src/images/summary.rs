//! Prints what would be done about images: which are there, and what the others would cost.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Missed;
use super::plan::{Planned, Step};
use super::shelf::Shelf;
use crate::digest::Digest;
use crate::image::Reference;
use crate::plan::Action;

/// What would be done about images, as it is shown; also a part of the document of `plan --output json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// In a user's words.
    pub places: Vec<String>,
    pub totals: Totals,
    /// Every image that is wanted, by its name.
    pub images: Vec<Line>,
    /// Images whose manifests could not be had, or that may not come, and why.
    pub refused: Vec<Refused>,
    /// How many images other shards bring.
    pub of_other_shards: usize,
}

/// Sums. A blob that several images lack is counted once.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Images that some place lacks.
    pub bring: usize,
    /// Images that are at every place.
    pub skip: usize,
    pub refused: usize,
    /// Blobs that have to cross.
    pub blobs: usize,
    /// Their lengths together.
    pub bytes: u64,
    /// Blobs that a registry has already in another repository, and blobs that go to more repositories than one.
    pub mounts: usize,
}

/// One image.
#[derive(Debug, Serialize)]
pub struct Line {
    pub image: Reference,
    /// Of its root, as it would be put.
    pub digest: Digest,
    /// Of its blobs, those that have to cross and that no image before it brings.
    pub blobs: usize,
    /// Their lengths together.
    pub bytes: u64,
    /// In the order of the places.
    pub at: Vec<At>,
}

/// An image at one place.
#[derive(Debug, Serialize)]
pub struct At {
    pub state: State,
    /// Where it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Blobs that are not in its repository there.
    pub lacks: usize,
    /// Those of them that come from other repositories there.
    pub mounts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Present,
    Missing,
    /// It has no name there, or the place can't be looked at.
    Refused,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub image: Reference,
    pub why: String,
}

impl Summary {
    /// `missed` are images whose manifests could not be had, or that may not come.
    pub fn new(
        planned: &[Planned],
        shelves: &[Arc<dyn Shelf>],
        missed: Vec<Missed>,
        of_other_shards: usize,
    ) -> Self {
        let mut seen = Seen::default();
        let mut images: Vec<Line> = planned.iter().map(|one| seen.line(one)).collect();
        images.sort_by(|a, b| a.image.cmp(&b.image));
        let is = |state: State| {
            let has = move |line: &&Line| line.at.iter().any(|at| at.state == state);
            images.iter().filter(has).count()
        };
        let totals = Totals {
            bring: is(State::Missing),
            skip: planned.iter().filter(|planned| planned.is_done()).count(),
            refused: missed.len() + is(State::Refused),
            blobs: images.iter().map(|line| line.blobs).sum(),
            bytes: images.iter().map(|line| line.bytes).sum(),
            mounts: images
                .iter()
                .flat_map(|line| &line.at)
                .map(|at| at.mounts)
                .sum(),
        };
        let refused = missed
            .into_iter()
            .map(|Missed { image, why, .. }| Refused { image, why });
        Self {
            places: shelves
                .iter()
                .map(|shelf| shelf.place().to_owned())
                .collect(),
            totals,
            images,
            refused: refused.collect(),
            of_other_shards,
        }
    }
}

/// What images before have brought already.
#[derive(Default)]
struct Seen {
    crossed: BTreeSet<Digest>,
    /// With the number of the place.
    sent: BTreeSet<(usize, Digest)>,
}

impl Seen {
    fn line(&mut self, planned: &Planned) -> Line {
        let (mut blobs, mut bytes) = (0, 0);
        for item in planned.crossing() {
            if item
                .wanted
                .name()
                .is_none_or(|name| self.crossed.insert(name))
            {
                blobs += 1;
                bytes += item.likely_length().unwrap_or_default();
            }
        }
        let steps = planned.steps.iter().enumerate();
        Line {
            image: planned.image.reference.clone(),
            digest: planned.image.root().digest,
            blobs,
            bytes,
            at: steps.map(|(at, step)| self.at(planned, at, step)).collect(),
        }
    }

    fn at(&mut self, planned: &Planned, at: usize, step: &Step) -> At {
        let (state, why) = match step {
            Step::Held => (State::Present, None),
            Step::Put { .. } => (State::Missing, None),
            Step::Refused { why } | Step::Away { why } => (State::Refused, Some(why.clone())),
        };
        let (mut lacks, mut mounts) = (0, 0);
        let items = planned.items.iter();
        let lacking = items.filter(|item| item.actions[at] != Action::Skip);
        for name in lacking.filter_map(|item| item.wanted.name()) {
            lacks += 1;
            let is_new = self.sent.insert((at, name));
            mounts += usize::from(planned.mounts[at].contains_key(&name) || !is_new);
        }
        At {
            state,
            why,
            lacks,
            mounts,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.images {
            for (at, place) in line.at.iter().zip(&self.places) {
                let image = &line.image;
                match (&at.why, at.state) {
                    (Some(why), _) => write!(f, "refused   {image}: {why}")?,
                    (None, State::Present) => write!(f, "present   {image}")?,
                    (None, _) => write!(
                        f,
                        "missing   {image}  {} blobs to fetch, {}; {} to mount",
                        line.blobs,
                        indicatif::BinaryBytes(line.bytes),
                        at.mounts
                    )?,
                }
                match self.places.len() {
                    1 => writeln!(f)?,
                    _ => writeln!(f, "  [{place}]")?,
                }
            }
        }
        for refused in &self.refused {
            writeln!(f, "refused   {}: {}", refused.image, refused.why)?;
        }
        let Totals {
            bring,
            skip,
            refused,
            blobs,
            bytes,
            mounts,
        } = &self.totals;
        writeln!(f, "Images at    {}", self.places.join(", "))?;
        let bytes = indicatif::BinaryBytes(*bytes);
        writeln!(
            f,
            "To bring     {bring} ({blobs} blobs, {bytes}; {mounts} to mount)"
        )?;
        writeln!(f, "To skip      {skip}")?;
        if self.of_other_shards > 0 {
            writeln!(
                f,
                "To others    {}: other shards bring them",
                self.of_other_shards
            )?;
        }
        writeln!(f, "Refused      {refused}")
    }
}
