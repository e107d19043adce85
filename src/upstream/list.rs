//! Reads the lists of releases that GitHub keeps, newest first, as far back as somebody needs them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::header::{self, HeaderMap};
use semver::Version;
use serde::{Deserialize, Serialize};
use url::Url;

use super::allowance::Allowance;
use super::conditional::{Heard, Validator, Wire};
use crate::catalogue::version;
use crate::events::told;
use crate::follow::{self, Needs, Product};
use crate::origin::Shown;

/// More pages than either list has today: Kubernetes ten, kops two dozen.
const PAGES_MAX: usize = 40;

/// The releases of one product, as they were last read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct List {
    pages: Vec<Page>,
    releases: BTreeSet<Release>,
    /// All releases from this one on are in it.
    complete_from: Option<Release>,
    /// When it was last known to be so.
    as_of: Option<Timestamp>,
}

/// One page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    validator: Validator,
    releases: Vec<Release>,
    /// Of any kind: who knows nothing of pages answers each with the same.
    first_tag: Option<String>,
    has_next: bool,
}

/// A version in the words of its text, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Release(pub(super) Version);

/// Why a list could not be read this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(
        "{host} takes no more requests until {until:.0}; with a token in the headers of [origins.\"{host}\"] it takes more"
    )]
    Resting { host: String, until: Timestamp },
    #[error("{0}")]
    Failed(String),
}

impl List {
    pub(super) fn releases(&self) -> BTreeSet<Version> {
        self.releases
            .iter()
            .map(|release| release.0.clone())
            .collect()
    }

    pub(super) fn complete_from(&self) -> Option<Version> {
        Some(self.complete_from.clone()?.0)
    }

    pub(super) fn as_of(&self) -> Option<Timestamp> {
        self.as_of
    }

    /// Reads it again, page by page until the needs are met. When that fails, the list stays as it was.
    pub(super) async fn read_again(
        &mut self,
        product: Product,
        needs: &Needs,
        wire: &Wire<'_>,
        allowance: &mut Allowance,
        now: Timestamp,
    ) -> Result<(), Unread> {
        let mut seen = BTreeSet::new();
        let mut is_whole = false;
        let mut read = 0;
        while read < PAGES_MAX && !is_whole && !needs.is_content_with(product, &seen) {
            self.read_page(product, read, wire, allowance, now).await?;
            let page = &self.pages[read];
            let before = read.checked_sub(1).map(|before| &self.pages[before]);
            let is_repeated = before.is_some_and(|before| before.first_tag == page.first_tag);
            is_whole = is_repeated || !page.has_next;
            seen.extend(page.releases.iter().map(|release| release.0.clone()));
            read += 1;
        }
        self.pages.truncate(read);
        self.complete_from = if is_whole {
            Some(Release(Version::new(0, 0, 0)))
        } else {
            follow::complete_from(&seen).map(Release)
        };
        self.releases = seen.into_iter().map(Release).collect();
        self.as_of = Some(now);
        Ok(())
    }

    async fn read_page(
        &mut self,
        product: Product,
        place: usize,
        wire: &Wire<'_>,
        allowance: &mut Allowance,
        now: Timestamp,
    ) -> Result<(), Unread> {
        let url = page_url(product, place + 1)?;
        let resting = |until| Unread::Resting {
            host: url.host_str().unwrap_or_default().to_owned(),
            until,
        };
        if let Some(until) = allowance.rests_until(now) {
            return Err(resting(until));
        }
        let before = self.pages.get(place).map(|page| &page.validator);
        let heard = wire.hear(&url, before).await;
        let heard = heard.map_err(|error| Unread::Failed(told(&error)))?;
        let (Heard::Same(reply) | Heard::Other(reply, _) | Heard::Refused(reply)) = &heard;
        let is_refused = allowance.heed(reply, now);
        match heard {
            Heard::Same(_) => Ok(()),
            Heard::Other(reply, validator) => {
                let page = page_of(product, &reply.content, &reply.headers, validator);
                let page = page.map_err(|why| Unread::Failed(format!("{}: {why}", Shown(&url))))?;
                match self.pages.get_mut(place) {
                    Some(before) => *before = page,
                    None => self.pages.push(page),
                }
                Ok(())
            }
            Heard::Refused(reply) => Err(match allowance.rests_until(now) {
                Some(until) if is_refused => resting(until),
                _ => Unread::Failed(told(&reply.into_error())),
            }),
        }
    }
}

/// GitHub REST API, "List releases". A release of kops comes with the description of its files, some 100 KiB, so fewer of them are
/// asked for at a time; rules seldom reach further back than one such page.
fn page_url(product: Product, number: usize) -> Result<Url, Unread> {
    let (repository, per_page) = match product {
        Product::Kubernetes => ("kubernetes", 100),
        Product::Kops => ("kops", 20),
    };
    let url = format!(
        "https://api.github.com/repos/kubernetes/{repository}/releases?per_page={per_page}&page={number}"
    );
    Url::parse(&url).map_err(|error| Unread::Failed(told(&error)))
}

fn page_of(
    product: Product,
    content: &[u8],
    headers: &HeaderMap,
    validator: Validator,
) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Entry {
        tag_name: String,
        #[serde(default)]
        draft: bool,
        #[serde(default)]
        prerelease: bool,
    }
    let entries: Vec<Entry> = serde_json::from_slice(content)
        .map_err(|error| format!("it is no list of releases: {error}"))?;
    let published = entries.iter().filter(|it| !it.draft && !it.prerelease);
    // Tags that are no versions are of other things; there are some in kops' first years.
    let versions = published.filter_map(|entry| match product {
        Product::Kubernetes => version::kubernetes(&entry.tag_name).ok(),
        Product::Kops => version::kops(&entry.tag_name).ok(),
    });
    let releases = versions.filter(|version| version.pre.is_empty());
    Ok(Page {
        validator,
        releases: releases.map(Release).collect(),
        first_tag: entries.first().map(|entry| entry.tag_name.clone()),
        has_next: !entries.is_empty() && links_to_next(headers).unwrap_or(true),
    })
}

/// Whether `Link` (RFC 8288) names a next page; None without such a header. Only the fact is taken: where the API is, the settings
/// say.
fn links_to_next(headers: &HeaderMap) -> Option<bool> {
    let links = headers.get(header::LINK)?.to_str().ok()?;
    let mut parameters = links.split([',', ';']).map(str::trim);
    Some(parameters.any(|parameter| matches!(parameter, "rel=\"next\"" | "rel=next")))
}

impl TryFrom<String> for Release {
    type Error = semver::Error;

    fn try_from(text: String) -> Result<Self, semver::Error> {
        Version::parse(&text).map(Self)
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(product: Product, text: &str, link: Option<&str>) -> Result<Page, String> {
        let link = link.map(|link| (header::LINK, link.parse().unwrap()));
        let headers = link.into_iter().collect();
        page_of(product, text.as_bytes(), &headers, Validator::default())
    }

    #[test]
    fn drafts_and_pre_releases_are_left_out() {
        let text = r#"[
            {"tag_name": "v1.37.0-alpha.1", "prerelease": true, "assets": [{"name": "kops"}]},
            {"tag_name": "v1.36.3", "draft": true},
            {"tag_name": "v1.36.2", "draft": false, "prerelease": false},
            {"tag_name": "v1.36.1-beta.1", "prerelease": false},
            {"tag_name": "1.15.0"},
            {"tag_name": "nightly"}
        ]"#;
        let page = page(Product::Kops, text, None).unwrap();
        let releases: Vec<String> = page.releases.into_iter().map(String::from).collect();
        assert_eq!(releases, ["1.36.2", "1.15.0"]);
        assert_eq!(page.first_tag.as_deref(), Some("v1.37.0-alpha.1"));
        assert!(page.has_next);
    }

    #[test]
    fn the_last_page_is_the_one_that_links_to_none_or_is_empty() {
        let has_next = |text, link| page(Product::Kubernetes, text, link).unwrap().has_next;
        let one = r#"[{"tag_name": "v1.34.0"}]"#;
        let next = r#"<https://api.example/r?page=1>; rel="prev", <https://api.example/r?page=3>; rel="next""#;
        let last = r#"<https://api.example/r?page=2>; rel="prev""#;
        assert!(has_next(one, Some(next)));
        assert!(!has_next(one, Some(last)));
        assert!(has_next(one, None));
        assert!(!has_next("[]", None));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let refusal = page(Product::Kops, r#"{"message": "hello"}"#, None).unwrap_err();
        assert!(refusal.contains("no list of releases"), "{refusal}");
    }

    #[test]
    fn a_list_is_kept_over_a_restart() {
        let list = List {
            releases: [Release(Version::new(1, 34, 8))].into(),
            complete_from: Some(Release(Version::new(1, 34, 0))),
            as_of: Some(Timestamp::UNIX_EPOCH),
            pages: vec![Page::default()],
        };
        let text = serde_json::to_string(&list).unwrap();
        assert!(text.contains("\"1.34.8\""), "{text}");
        assert_eq!(serde_json::from_str::<List>(&text).unwrap(), list);
        assert!(serde_json::from_str::<Release>("\"1.34\"").is_err());
    }
}
