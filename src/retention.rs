//! Says which releases are kept, and why, by rules that people write.
//!
//! A rule is one or more conditions with commas between them, and keeps a release that meets all of them:
//!
//! | condition | what meets it |
//! |---|---|
//! | `followed` | what is followed now; implied wherever there is a rule |
//! | `latest 5 minors` | Kubernetes releases of the newest five minor versions that are there |
//! | `latest 2 patches` | the newest two Kubernetes patches of each minor version |
//! | `kops latest 2 minors` | the same, by the version of kops |
//! | `for 90d` | what was complete less than so long ago; `h`, `d` and `w` |
//! | `v1.32.4`, `kops 1.34.1` | that version |
//! | `v1.32`, `kops 1.34` | all patches of that minor version |
//! | `release NAME` | the release that is called so, as `kops-1.36.2_kubernetes-1.34.8` |
//!
//! What meets one rule is kept. Without any rule everything is.

mod rule;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use semver::Version;

pub use self::rule::{BadKeep, Keep};
use crate::asset::Key;

/// A release that is there, as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub name: String,
    pub kops: Option<Version>,
    pub kubernetes: Option<Version>,
    /// None where it can't be told: such a one counts as new.
    pub completed: Option<Timestamp>,
}

/// What is kept at one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Without any, everything is kept.
    pub rules: Vec<Keep>,
    /// The releases that are followed now, by name, with the keys of their files, whether those are there yet or not. No keys where
    /// nobody knows them.
    pub followed: BTreeMap<String, BTreeSet<Key>>,
}

/// What the rules say of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Kept { why: String },
    NotKept,
}

impl Keeping {
    /// What two sets keep that share a target: all that one of them does.
    #[must_use]
    pub fn unite(mut self, other: Self) -> Self {
        if other.rules.is_empty() {
            self.rules.clear();
        } else if !self.rules.is_empty() {
            self.rules.extend(other.rules);
        }
        for (name, keys) in other.followed {
            self.followed.entry(name).or_default().extend(keys);
        }
        self
    }

    pub fn follows(&self, name: &str) -> bool {
        self.followed.contains_key(name)
    }

    /// What is said of each of the releases that are there.
    pub fn judge(&self, held: &[Held], now: Timestamp) -> BTreeMap<String, Verdict> {
        held.iter()
            .map(|release| {
                let why = self.why_kept(release, held, now);
                let verdict = why.map_or(Verdict::NotKept, |why| Verdict::Kept { why });
                (release.name.clone(), verdict)
            })
            .collect()
    }

    fn why_kept(&self, release: &Held, held: &[Held], now: Timestamp) -> Option<String> {
        if self.rules.is_empty() {
            return Some("everything is kept where no rule says what is".to_owned());
        }
        if self.follows(&release.name) {
            return Some("it is followed".to_owned());
        }
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.keeps(release, held, now))?;
        Some(format!("'{rule}' keeps it"))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T00:00:00Z".parse().unwrap()
    }

    fn held(kops: &str, kubernetes: &str, days_ago: i64) -> Held {
        Held {
            name: format!("kops-{kops}_kubernetes-{kubernetes}"),
            kops: Some(kops.parse().unwrap()),
            kubernetes: Some(kubernetes.parse().unwrap()),
            completed: Some(now() - SignedDuration::from_hours(24 * days_ago)),
        }
    }

    fn mirror() -> Vec<Held> {
        vec![
            held("1.36.2", "1.36.0-beta.1", 1),
            held("1.36.2", "1.35.0", 10),
            held("1.36.2", "1.34.8", 20),
            held("1.36.2", "1.34.7", 30),
            held("1.34.1", "1.34.7", 40),
            held("1.34.1", "1.34.2", 50),
            held("1.34.1", "1.32.4", 100),
        ]
    }

    /// The Kubernetes versions that are kept, with their kops.
    fn kept(rules: &[&str], followed: &[&str]) -> Vec<String> {
        let keeping = Keeping {
            rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            followed: followed
                .iter()
                .map(|name| ((*name).to_owned(), BTreeSet::new()))
                .collect(),
        };
        let verdicts = keeping.judge(&mirror(), now());
        mirror()
            .iter()
            .filter(|release| verdicts[&release.name] != Verdict::NotKept)
            .map(|release| {
                let version = |version: &Option<Version>| version.clone().unwrap().to_string();
                format!(
                    "{} {}",
                    version(&release.kops),
                    version(&release.kubernetes)
                )
            })
            .collect()
    }

    #[test]
    fn without_rules_everything_is_kept() {
        assert_eq!(kept(&[], &[]).len(), mirror().len());
    }

    #[test]
    fn what_is_followed_is_kept_whatever_the_rules_say() {
        let followed = ["kops-1.34.1_kubernetes-1.34.2", "kops-9_kubernetes-9"];
        assert_eq!(kept(&["v1.20.0"], &followed), ["1.34.1 1.34.2"]);
        assert_eq!(kept(&["followed"], &followed), ["1.34.1 1.34.2"]);
    }

    #[test]
    fn the_latest_minors_are_those_that_are_there() {
        // 1.33 is not there, and a pre-release pushes nothing out.
        let newest = ["1.36.2 1.36.0-beta.1", "1.36.2 1.35.0"];
        assert_eq!(kept(&["latest 1 minor"], &[]), newest);
        assert_eq!(kept(&["latest 2 minors"], &[]).len(), 6);
        assert_eq!(kept(&["latest 3 minors"], &[]).len(), 7);
        assert_eq!(kept(&["kops latest 1 minor"], &[]).len(), 4);
    }

    #[test]
    fn the_latest_patches_are_those_of_each_minor() {
        let kept = kept(&["latest 1 patch"], &[]);
        let newest = ["1.36.0-beta.1", "1.35.0", "1.34.8", "1.32.4"];
        assert_eq!(kept.len(), newest.len(), "{kept:?}");
        for (kept, newest) in kept.iter().zip(newest) {
            assert!(kept.ends_with(newest), "{kept}");
        }
    }

    #[test]
    fn a_version_counts_once_whatever_kops_it_is_with() {
        let kept = kept(&["latest 2 patches"], &[]);
        assert_eq!(kept.len(), 6, "both with 1.34.7: {kept:?}");
        assert!(!kept.contains(&"1.34.1 1.34.2".to_owned()));
    }

    #[test]
    fn conditions_of_a_rule_hold_together_and_rules_each_for_itself() {
        let together = ["kops latest 1 minor, latest 1 minor"];
        let newest = ["1.36.2 1.36.0-beta.1", "1.36.2 1.35.0"];
        assert_eq!(kept(&together, &[]), newest);
        let apart = ["kops 1.34, v1.32", "v1.35.0"];
        assert_eq!(kept(&apart, &[]), ["1.36.2 1.35.0", "1.34.1 1.32.4"]);
    }

    #[test]
    fn a_release_is_kept_for_a_time() {
        assert_eq!(kept(&["for 11d"], &[]).len(), 2);
        // Ten days ago is not less than ten days ago.
        assert_eq!(kept(&["for 10d"], &[]).len(), 1);
        assert_eq!(kept(&["for 48h"], &[]).len(), 1);
        assert_eq!(kept(&["for 6w"], &[]).len(), 5);
    }

    #[test]
    fn what_has_no_date_counts_as_new() {
        let undated = Held {
            completed: None,
            ..held("1.30.0", "1.30.0", 0)
        };
        let keeping = Keeping {
            rules: vec!["for 1h".parse().unwrap()],
            ..Keeping::default()
        };
        let verdicts = keeping.judge(std::slice::from_ref(&undated), now());
        assert_eq!(
            verdicts[&undated.name],
            Verdict::Kept {
                why: "'for 1h' keeps it".to_owned()
            }
        );
    }

    #[test]
    fn a_release_without_versions_is_kept_by_its_name_alone() {
        let list = Held {
            name: "assets-0123456789ab".to_owned(),
            kops: None,
            kubernetes: None,
            completed: Some(now() - SignedDuration::from_hours(24)),
        };
        let verdict = |rule: &str| {
            let keeping = Keeping {
                rules: vec![rule.parse().unwrap()],
                ..Keeping::default()
            };
            keeping.judge(std::slice::from_ref(&list), now())[&list.name].clone()
        };
        assert_eq!(verdict("latest 99 minors"), Verdict::NotKept);
        assert_ne!(verdict("release assets-0123456789ab"), Verdict::NotKept);
    }

    #[test]
    fn sets_that_share_a_target_keep_what_either_keeps() {
        let of = |rules: &[&str], name: &str| Keeping {
            rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            followed: BTreeMap::from([(name.to_owned(), BTreeSet::new())]),
        };
        let both = of(&["v1.34"], "a").unite(of(&["v1.35"], "b"));
        assert_eq!(both.rules.len(), 2);
        assert!(both.follows("a") && both.follows("b"));
        assert!(of(&[], "a").unite(of(&["v1.35"], "b")).rules.is_empty());
        assert!(of(&["v1.35"], "a").unite(of(&[], "b")).rules.is_empty());
    }
}
