use proptest::prelude::*;

use super::*;

fn versions(texts: &[&str]) -> BTreeSet<Version> {
    texts.iter().map(|text| version(text)).collect()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

fn known() -> Known {
    Known {
        kubernetes: versions(&[
            "1.32.9",
            "1.33.0",
            "1.33.1",
            "1.33.2",
            "1.33.3",
            "1.34.0",
            "1.34.1",
            "1.35.0",
            "1.36.0-rc.0",
        ]),
        kops: versions(&["1.33.1", "1.34.0", "1.34.1", "1.35.0", "1.35.2"]),
        channels: BTreeMap::from([
            ("stable".to_owned(), version("1.35.0")),
            ("stable-1.34".to_owned(), version("1.34.1")),
        ]),
        kubernetes_complete_from: Some(version("1.33.0")),
        kops_complete_from: None,
    }
}

fn followed(product: Product, text: &str) -> Vec<String> {
    let followed = follow(product, &[rule(text)], &known());
    followed.versions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_rule_takes_what_it_says_of_kubernetes() {
    for (text, wanted) in [
        ("stable", &["1.35.0"][..]),
        ("stable-1.34", &["1.34.1"]),
        ("v1.34.8", &["1.34.8"]),
        ("1.36.0-rc.0", &["1.36.0-rc.0"]),
        ("latest", &["1.35.0"]),
        ("latest 2 minors", &["1.34.1", "1.35.0"]),
        ("latest 1 patch", &["1.32.9", "1.33.3", "1.34.1", "1.35.0"]),
        (
            ">=1.33, latest 3 patches",
            &["1.33.1", "1.33.2", "1.33.3", "1.34.0", "1.34.1", "1.35.0"],
        ),
        (
            "latest 2 minors, latest 2 patches",
            &["1.34.0", "1.34.1", "1.35.0"],
        ),
        (
            ">=1.30, <1.34, latest 2 patches",
            &["1.32.9", "1.33.2", "1.33.3"],
        ),
        ("<1.34, latest 1 minors", &["1.33.3"]),
        (">=1.34", &["1.34.0", "1.34.1", "1.35.0"]),
        ("~1.34", &["1.34.0", "1.34.1"]),
        (">1.34", &["1.35.0"]),
    ] {
        assert_eq!(followed(Product::Kubernetes, text), wanted, "{text}");
    }
}

#[test]
fn kops_has_its_newest_releases_where_kubernetes_has_channels() {
    for (text, wanted) in [
        ("latest", &["1.35.2"][..]),
        ("stable", &["1.35.2"]),
        ("stable-1.34", &["1.34.1"]),
        ("1.36.2", &["1.36.2"]),
        ("latest 2 minors", &["1.34.1", "1.35.2"]),
        (">=1.34, latest 1 patches", &["1.34.1", "1.35.2"]),
    ] {
        assert_eq!(followed(Product::Kops, text), wanted, "{text}");
    }
}

#[test]
fn a_rule_that_nothing_fits_is_named_and_hinders_no_other() {
    let rules = [rule(">=1.99"), rule("stable"), rule("stable-1.99")];
    let followed = follow(Product::Kubernetes, &rules, &known());
    assert_eq!(followed.versions, versions(&["1.35.0"]));
    let told: Vec<String> = followed.unmet.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "no Kubernetes version fits '>=1.99': the newest known is 1.36.0-rc.0",
            "no Kubernetes version fits 'stable-1.99': upstream has not said which version that is",
        ]
    );
    let nothing = follow(Product::Kops, &[rule("latest")], &Known::default());
    assert_eq!(
        nothing.unmet[0].to_string(),
        "no kops version fits 'latest': none are known yet"
    );
}

#[test]
fn what_is_no_rule_is_refused_with_the_reason_and_an_example() {
    for (text, why) in [
        ("", "it is empty"),
        ("newest", "'newest' is no comparison"),
        ("1.34", "'1.34' is no comparison"),
        ("stable-", "a channel is"),
        ("stable-1", "a channel is"),
        ("stable-1.x", "a channel is"),
        ("stables", "a channel is"),
        (">=1.33 <1.35", "is no comparison"),
        (">=1.x.y.z", "is no comparison"),
        (">=1.33,", "'' is no comparison"),
        (">=1.34.0-alpha.1", "by their exact name alone"),
        ("latest 0 minors", "'0' is no count"),
        ("latest two minors", "'two' is no count"),
        ("latest 2", "'minors' or 'patches'"),
        ("latest 2 releases", "'minors' or 'patches'"),
        ("latest 2 minors, latest 3 minors", "twice how many minors"),
        ("stable, latest 2 minors", "a channel is"),
    ] {
        let refusal = text.parse::<Rule>().unwrap_err().to_string();
        assert!(refusal.contains(why), "{text}: {refusal}");
        assert!(refusal.contains("'stable-1.34'"), "{refusal}");
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    for (text, printed) in [
        ("stable", "stable"),
        (" stable-1.34 ", "stable-1.34"),
        ("v1.34.8", "1.34.8"),
        ("latest", "latest"),
        ("latest 1 minor", "latest 1 minors"),
        (
            ">= 1.33 ,<1.36,latest  3 patches",
            ">=1.33, <1.36, latest 3 patches",
        ),
        (
            "latest 2 patches, latest 3 minors",
            "latest 3 minors, latest 2 patches",
        ),
    ] {
        assert_eq!(rule(text).to_string(), printed);
        assert_eq!(rule(printed), rule(text));
    }
}

#[test]
fn a_setting_is_read_by_the_same_rules() {
    #[derive(Deserialize)]
    struct Set {
        kubernetes: Vec<Rule>,
    }
    let set: Set = toml::from_str("kubernetes = ['stable', '>=1.33']").unwrap();
    assert_eq!(set.kubernetes, [rule("stable"), rule(">=1.33")]);
    assert!(toml::from_str::<Set>("kubernetes = ['1.34']").is_err());
}

#[test]
fn only_what_rules_need_is_asked_for() {
    let needs = Needs::of(&[rule("stable-1.34"), rule("v1.33.1")], &[rule("1.36.2")]);
    assert_eq!(
        needs.channels(),
        &BTreeSet::from(["stable-1.34".to_owned()])
    );
    assert!(!needs.needs_list(Product::Kubernetes));
    assert!(!needs.needs_list(Product::Kops));
    let others = Needs::of(&[rule("stable"), rule(">=1.33")], &[rule("stable")]);
    let all = needs.and(others);
    assert_eq!(all.channels().len(), 2);
    assert!(all.needs_list(Product::Kubernetes));
    // kops has no channel files.
    assert!(all.needs_list(Product::Kops));
}

#[test]
fn a_list_is_read_as_far_back_as_the_rules_reach() {
    let content = |rules: &[&str], seen: &[&str]| {
        let rules: Vec<Rule> = rules.iter().map(|text| rule(text)).collect();
        Needs::of(&[], &rules).is_content_with(Product::Kops, &versions(seen))
    };
    let page = ["1.36.1", "1.36.0", "1.35.3", "1.34.9"];
    assert!(content(&["latest"], &page));
    assert!(content(&[">=1.36"], &page));
    // More of 1.35 may follow, as long as its first release was not shown.
    assert!(!content(&["latest 2 minors"], &page));
    assert!(!content(&["latest", ">=1.35"], &page));
    let more = ["1.36.1", "1.36.0", "1.35.3", "1.35.0", "1.34.9"];
    assert!(content(&["latest 2 minors"], &more));
    assert!(content(&["latest", ">=1.35"], &more));
    // A minor whose first release never was.
    let skipped = ["1.36.1", "1.35.3", "1.34.0"];
    assert!(content(&["latest 2 minors", ">=1.35"], &skipped));
    assert!(!content(&["<1.36"], &more));
    assert!(!content(&["latest 2 patches"], &more));
    assert!(!content(&["latest"], &[]));
}

#[test]
fn only_what_upstream_would_have_shown_can_be_withdrawn() {
    let before = known();
    let mut now = known();
    now.kubernetes = versions(&["1.33.0", "1.33.1", "1.33.3", "1.34.0", "1.34.1", "1.35.0"]);
    now.kops.clear();
    // 1.32.9 is older than what was read this time.
    let gone = withdrawn(Product::Kubernetes, &before, &now);
    assert_eq!(gone, versions(&["1.33.2", "1.36.0-rc.0"]));
    // The list of kops was not heard.
    assert!(withdrawn(Product::Kops, &before, &now).is_empty());
    now.kubernetes_complete_from = None;
    assert!(withdrawn(Product::Kubernetes, &before, &now).is_empty());
}

#[test]
fn kops_is_paired_with_the_kubernetes_that_it_supports() {
    let kops = versions(&["1.30.0", "1.34.1", "1.35.2"]);
    let kubernetes = versions(&["1.33.3", "1.34.1", "1.35.0", "1.36.0"]);
    let supports = |kops: &Version, kubernetes: &Version| {
        (kops.minor - 2..=kops.minor).contains(&kubernetes.minor)
    };
    let pairs = pairs(&kops, &kubernetes, supports);
    assert_eq!(
        pairs.by_kops,
        BTreeMap::from([
            (version("1.34.1"), versions(&["1.33.3", "1.34.1"])),
            (version("1.35.2"), versions(&["1.33.3", "1.34.1", "1.35.0"])),
        ])
    );
    assert_eq!(pairs.kops_alone, versions(&["1.30.0"]));
    assert_eq!(pairs.kubernetes_alone, versions(&["1.36.0"]));
}

fn releases() -> impl Strategy<Value = BTreeSet<Version>> {
    let release = (20_u64..24, 0_u64..5).prop_map(|(minor, patch)| Version::new(1, minor, patch));
    proptest::collection::btree_set(release, 0..20)
}

proptest! {
    #[test]
    fn counts_are_kept_and_the_newest_are_taken(
        releases in releases(),
        minors in 1_usize..4,
        patches in 1_usize..4,
        least in 20_u64..24,
    ) {
        let known = Known { kops: releases.clone(), ..Known::default() };
        let text = format!(">=1.{least}, latest {minors} minors, latest {patches} patches");
        let taken = follow(Product::Kops, &[rule(&text)], &known).versions;
        let fits = |version: &&Version| version.minor >= least;
        let mut by_minor: BTreeMap<u64, Vec<&Version>> = BTreeMap::new();
        for version in releases.iter().filter(fits) {
            by_minor.entry(version.minor).or_default().push(version);
        }
        for (place, (_, of_minor)) in by_minor.iter().rev().enumerate() {
            for (patch_place, version) in of_minor.iter().rev().enumerate() {
                let wanted = place < minors && patch_place < patches;
                prop_assert_eq!(taken.contains(version), wanted, "{}", version);
            }
        }
        prop_assert!(taken.is_subset(&releases));
    }

    /// Reading on never changes what the rules take, once they are content.
    #[test]
    fn content_rules_take_the_same_of_the_whole_list(
        releases in releases(),
        shown in 0_usize..20,
        text in prop::sample::select(vec![
            "latest", "latest 2 minors", ">=1.22", ">=1.21, latest 2 patches", "<1.23, latest 1 minors",
            "latest 2 minors, latest 2 patches", "stable-1.22",
        ]),
    ) {
        // Published by turns: each minor begins when the one before is at its second patch.
        let mut published: Vec<Version> = releases.into_iter().collect();
        published.sort_by_key(|version| (version.minor * 2 + version.patch, version.minor));
        let seen: BTreeSet<Version> = published.iter().rev().take(shown).cloned().collect();
        let needs = Needs::of(&[], &[rule(text)]);
        let all: BTreeSet<Version> = published.into_iter().collect();
        if needs.is_content_with(Product::Kops, &seen) {
            let take = |kops: BTreeSet<Version>| {
                follow(Product::Kops, &[rule(text)], &Known { kops, ..Known::default() }).versions
            };
            prop_assert_eq!(take(seen), take(all));
        }
    }
}
