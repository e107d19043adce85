//! Keeps what the upstreams last said, and asks them for what has changed since.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join, join_all};
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::allowance::Allowance;
use super::channel_url;
use super::conditional::{Heard, Validator, Wire};
use super::list::{List, Release, Unread};
use crate::catalogue::version;
use crate::events::told;
use crate::follow::{Known, Needs, Product};

/// Minors whose channels stand in for a list that was never had: Kubernetes supports three or four of them at a time.
const MINORS_INSTEAD: u64 = 6;

/// What the upstreams last said. To be kept over restarts: it is what a conditional request needs, and what is known while an
/// upstream is away. Any state of it is a good one to begin with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstreams {
    channels: BTreeMap<String, Channel>,
    kubernetes: List,
    kops: List,
    /// Of the API that has both lists.
    allowance: Allowance,
}

/// A channel, as it was last read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    names: Release,
    validator: Validator,
    /// When it was last known to be so.
    as_of: Timestamp,
}

/// What a look at the upstreams came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    pub known: Known,
    /// Lines for people: what could not be asked, why, and since when it may have changed. Empty when all answered.
    pub notes: Vec<String>,
}

/// What asking for a channel came to.
type Asked = (String, Result<Channel, String>);

impl Upstreams {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of what these needs are about, without asking. Nobody can say by it that a version is gone.
    pub fn known(&self, needs: &Needs) -> Known {
        self.known_by(needs, needs.channels().iter())
    }

    fn known_by<'a>(&self, needs: &Needs, channels: impl Iterator<Item = &'a String>) -> Known {
        let of_list = |product, list: &List| match needs.needs_list(product) {
            true => list.releases(),
            false => BTreeSet::new(),
        };
        let named = channels.filter_map(|name| {
            let channel = self.channels.get(name)?;
            Some((name.clone(), channel.names.0.clone()))
        });
        let channels: BTreeMap<String, Version> = named.collect();
        let mut kubernetes = of_list(Product::Kubernetes, &self.kubernetes);
        kubernetes.extend(channels.values().cloned());
        Known {
            kubernetes,
            kops: of_list(Product::Kops, &self.kops),
            channels,
            kubernetes_complete_from: None,
            kops_complete_from: None,
        }
    }

    /// Asks for what has changed, all that these needs are about and nothing else; what does not answer stays as it was known.
    pub async fn look(&mut self, needs: &Needs, wire: &Wire<'_>, now: Timestamp) -> Look {
        let mut names = needs.channels().clone();
        let (asked, lists) = join(
            ask(&self.channels, &names, wire, now),
            read_lists(
                (&mut self.kubernetes, &mut self.kops),
                &mut self.allowance,
                needs,
                wire,
                now,
            ),
        )
        .await;
        let mut notes = self.take(asked);
        notes.extend(lists.notes);
        if needs.needs_list(Product::Kubernetes) && self.kubernetes.as_of().is_none() {
            notes.extend(self.ask_instead_of_list(&mut names, wire, now).await);
        }
        let mut known = self.known_by(needs, names.iter());
        if lists.kubernetes {
            known.kubernetes_complete_from = self.kubernetes.complete_from();
        }
        if lists.kops {
            known.kops_complete_from = self.kops.complete_from();
        }
        Look { known, notes }
    }

    /// Keeps what was answered; a note for each channel that was not.
    fn take(&mut self, asked: Vec<Asked>) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, answer) in asked {
            match (answer, self.channels.get(&name)) {
                (Ok(channel), _) => drop(self.channels.insert(name, channel)),
                (Err(why), Some(before)) => notes.push(format!(
                    "{name} is taken for Kubernetes {}, as it was at {:.0}: {why}",
                    before.names.0, before.as_of
                )),
                (Err(why), None) => {
                    notes.push(format!(
                        "which Kubernetes {name} is can't be found out: {why}"
                    ));
                }
            }
        }
        notes
    }

    /// Where Kubernetes' list was never had, the channels of its newest minors tell the newest patch of each.
    async fn ask_instead_of_list(
        &mut self,
        names: &mut BTreeSet<String>,
        wire: &Wire<'_>,
        now: Timestamp,
    ) -> Vec<String> {
        let stable = "stable".to_owned();
        let mut notes = Vec::new();
        if names.insert(stable.clone()) {
            let asked = ask(&self.channels, &[stable.clone()].into(), wire, now).await;
            notes.extend(self.take(asked));
        }
        let Some(newest) = self.channels.get(&stable) else {
            return notes;
        };
        let Version { major, minor, .. } = newest.names.0;
        let oldest = (minor + 1).saturating_sub(MINORS_INSTEAD);
        let of_minors = (oldest..=minor).map(|minor| format!("stable-{major}.{minor}"));
        let asked_for = of_minors.filter(|name| !names.contains(name)).collect();
        let asked = ask(&self.channels, &asked_for, wire, now).await;
        self.take(asked);
        names.extend(asked_for);
        notes.push(format!(
            "of Kubernetes only the newest release of each minor from {major}.{oldest} on is known, by its channel"
        ));
        notes
    }
}

/// Asks for channels, all at once; the limits see to how many requests go to a host at a time.
async fn ask(
    before: &BTreeMap<String, Channel>,
    names: &BTreeSet<String>,
    wire: &Wire<'_>,
    now: Timestamp,
) -> Vec<Asked> {
    let asked = names.iter().map(|name| async move {
        let answer = ask_one(name, before.get(name), wire, now).await;
        (name.clone(), answer)
    });
    join_all(asked).await
}

async fn ask_one(
    name: &str,
    before: Option<&Channel>,
    wire: &Wire<'_>,
    now: Timestamp,
) -> Result<Channel, String> {
    let url = channel_url(name).map_err(|error| told(&error))?;
    let validator = before.map(|channel| &channel.validator);
    let heard = wire.hear(&url, validator).await;
    match (heard.map_err(|error| told(&error))?, before) {
        (Heard::Same(_), Some(before)) => Ok(Channel {
            as_of: now,
            ..before.clone()
        }),
        (Heard::Other(reply, validator), _) => Ok(Channel {
            names: release_named(&reply.content)?,
            validator,
            as_of: now,
        }),
        (Heard::Same(reply) | Heard::Refused(reply), _) => Err(told(&reply.into_error())),
    }
}

fn release_named(content: &[u8]) -> Result<Release, String> {
    let text = String::from_utf8_lossy(content);
    let version = version::kubernetes(text.trim()).map_err(|error| told(&error))?;
    if version.pre.is_empty() {
        Ok(Release(version))
    } else {
        Err(format!("it names a pre-release, {version}"))
    }
}

/// Which lists were heard to the end, and what is to be said of the others.
#[derive(Debug, Default)]
struct Lists {
    kubernetes: bool,
    kops: bool,
    notes: Vec<String>,
}

/// One after the other: they share what the API allows.
async fn read_lists(
    (kubernetes, kops): (&mut List, &mut List),
    allowance: &mut Allowance,
    needs: &Needs,
    wire: &Wire<'_>,
    now: Timestamp,
) -> Lists {
    let mut lists = Lists::default();
    // kops' list is the one that most rules need, and the shorter.
    for (product, list) in [(Product::Kops, kops), (Product::Kubernetes, kubernetes)] {
        if !needs.needs_list(product) {
            continue;
        }
        match list.read_again(product, needs, wire, allowance, now).await {
            Ok(()) if product == Product::Kops => lists.kops = true,
            Ok(()) => lists.kubernetes = true,
            Err(unread) => lists.notes.push(note(product, list, &unread)),
        }
    }
    lists
}

fn note(product: Product, list: &List, unread: &Unread) -> String {
    match list.as_of() {
        Some(as_of) => format!("the releases of {product} are those of {as_of:.0}: {unread}"),
        None => format!("the releases of {product} can't be found out: {unread}"),
    }
}
