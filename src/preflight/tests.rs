//! The checks on facts, without anybody to ask.

mod mirror;
mod network;
mod others;

use jiff::SignedDuration;
use semver::Version;

use super::facts::*;
use super::*;
use crate::cloud::{Identity, Zone};
use crate::partition::Partition;

const FILE: &str = "apiVersion: kops-mirror/v1\nname: prod.k8s.local\nregion: cn-north-1\nkopsVersion: 1.36.2\n\
    kubernetesVersion: 1.35.5\nmirror: {at: s3://mirror/k8s}\nstateStore: {bucket: state-store}\n\
    network: {}\nimage: {use: ami-1}\n\
    controlPlane: {zones: [cn-north-1a, cn-north-1b, cn-north-1c], machineType: m6i.large}\n\
    nodes: [{name: nodes, machineType: m6i.large, min: 3, max: 6}]\n";

/// The file with some of its text replaced, which must be there.
fn file_with(changes: &[(&str, &str)]) -> ClusterFile {
    let mut text = FILE.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    ClusterFile::parse(&text).unwrap()
}

fn file() -> ClusterFile {
    file_with(&[])
}

fn told(file: &ClusterFile) -> Told {
    let base: Url = "https://s3.cn-north-1.amazonaws.com.cn/mirror/k8s"
        .parse()
        .unwrap();
    let settings = file.settings(base.clone(), None).unwrap();
    Told::new(file, settings, base)
}

/// What one check finds.
fn found(number: u8, file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut told = told(file);
    told.placed_in(file, facts);
    judge(CheckId::new(number), file, &told, facts)
}

/// The one finding of a check: its weight, and what it says.
fn one(number: u8, file: &ClusterFile, facts: &Facts) -> (Weight, String) {
    let found = found(number, file, facts);
    let [finding] = found.as_slice() else {
        panic!("{found:#?}");
    };
    let is_helpful = finding.weight < Weight::Warning || !finding.remedy.is_empty();
    assert!(is_helpful, "{finding}");
    (finding.weight, finding.to_string())
}

fn identity(arn: &str) -> Identity {
    Identity {
        account: "123456789012".to_owned(),
        arn: arn.to_owned(),
        partition: arn.split(':').nth(1).and_then(Partition::named),
    }
}

fn zone(name: &str) -> Zone {
    Zone {
        zone_name: name.to_owned(),
        zone_id: String::new(),
        zone_state: "available".to_owned(),
        zone_type: None,
    }
}

#[test]
fn checks_are_chosen_by_number_and_findings_accepted() {
    let id = CheckId::new;
    let all = Asked::of(&[], &[]);
    assert_eq!(all.0.len(), 20);
    let some = Asked::of(&[id(1), id(4)], &[id(4)]);
    assert_eq!(some.0.into_iter().collect::<Vec<_>>(), [id(1)]);
}

/// What nobody may look at is told, and stops nothing: whoever has fewer rights still gets the rest.
#[test]
fn every_check_says_something_when_nothing_is_known() {
    let (file, facts) = (file(), Facts::unasked());
    for id in CheckId::all() {
        let found = found(id.number(), &file, &facts);
        assert!(!found.is_empty(), "{id}");
        assert!(found.iter().all(|finding| finding.check == id), "{id}");
    }
}

#[test]
fn credentials_of_another_partition_are_an_error() {
    let facts = |arn| Facts {
        identity: Ok(identity(arn)),
        ..Facts::unasked()
    };
    let (weight, _) = one(1, &file(), &facts("arn:aws-cn:iam::123456789012:user/a"));
    assert_eq!(weight, Weight::Fine);
    let (weight, said) = one(1, &file(), &facts("arn:aws:iam::123456789012:user/a"));
    assert_eq!(weight, Weight::Error);
    assert!(
        said.contains("are of aws (arn:aws:iam::123456789012:user/a), and cn-north-1 is in aws-cn"),
        "{said}"
    );
}

#[test]
fn a_copy_s_source_has_a_profile_of_its_own_partition() {
    let copy = |profile: &str| {
        let image = format!(
            "image: {{copy: {{fromRegion: us-west-2, {profile}source: ami-2, engine: ebs-direct}}}}"
        );
        file_with(&[("image: {use: ami-1}", &image)])
    };
    let mut facts = Facts::unasked();
    assert_eq!(one(2, &file(), &facts).0, Weight::Fine);
    facts.source = Some(Ok(identity("arn:aws:iam::123456789012:user/a")));
    assert_eq!(
        one(2, &copy("fromProfile: global, "), &facts).0,
        Weight::Fine
    );
    let (weight, said) = one(2, &copy(""), &facts);
    assert_eq!(weight, Weight::Error);
    assert!(said.contains("no account is in two partitions"), "{said}");
    facts.source = Some(Ok(identity("arn:aws-cn:iam::123456789012:user/a")));
    assert_eq!(
        one(2, &copy("fromProfile: global, "), &facts).0,
        Weight::Error
    );
}

#[test]
fn zones_are_those_of_the_account() {
    let mut facts = Facts::unasked();
    assert_eq!(one(3, &file(), &facts).0, Weight::Unknown);
    facts.zones = Ok(vec![zone("cn-north-1a"), zone("cn-north-1b")]);
    let (weight, said) = one(3, &file(), &facts);
    assert_eq!(weight, Weight::Error);
    assert!(said.contains("cn-north-1c is no zone"), "{said}");
    let mut third = zone("cn-north-1c");
    third.zone_state = "impaired".to_owned();
    facts.zones = Ok(vec![zone("cn-north-1a"), zone("cn-north-1b"), third]);
    assert!(one(3, &file(), &facts).1.contains("impaired"));
    facts.zones = Ok(["a", "b", "c"]
        .map(|letter| zone(&format!("cn-north-1{letter}")))
        .to_vec());
    assert_eq!(one(3, &file(), &facts).0, Weight::Fine);
}

#[test]
fn two_zones_are_a_coin_s_toss_that_is_to_be_accepted() {
    let facts = Facts::unasked();
    assert_eq!(one(4, &file(), &facts).0, Weight::Fine);
    let zones =
        |zones: &str| file_with(&[("zones: [cn-north-1a, cn-north-1b, cn-north-1c]", zones)]);
    let (weight, said) = one(
        4,
        &zones("count: 3, zones: [cn-north-1a, cn-north-1b]"),
        &facts,
    );
    assert_eq!(weight, Weight::Error);
    assert!(said.contains("50 % chance"), "{said}");
    assert_eq!(
        one(4, &zones("zones: [cn-north-1a]"), &facts).0,
        Weight::Warning
    );
}

#[test]
fn a_clock_that_is_off_is_told_before_aws_refuses_it() {
    let facts = |seconds| Facts {
        clock: Ok(SignedDuration::from_secs(seconds)),
        kept: Ok(None),
        holder: Ok(None),
        tagged: Ok(Vec::new()),
        ..Facts::unasked()
    };
    for (seconds, weight) in [
        (2, Weight::Fine),
        (-90, Weight::Warning),
        (400, Weight::Error),
        (-4000, Weight::Error),
    ] {
        let (got, said) = one(20, &file(), &facts(seconds));
        assert_eq!(got, weight, "{said}");
    }
}

#[test]
fn versions_never_go_back() {
    let kept = |kops: &str, kubernetes: &str| Facts {
        kops: Ok(Some(Version::parse("1.36.2").unwrap())),
        kept: Ok(Some(Kept {
            kops: Version::parse(kops).ok(),
            kubernetes: Version::parse(kubernetes).ok(),
            is_ours: true,
        })),
        ..Facts::unasked()
    };
    for (kops, kubernetes, weight, part) in [
        ("1.36.2", "1.35.5", Weight::Fine, "nothing newer"),
        ("1.35.0", "1.34.1", Weight::Fine, ""),
        (
            "1.37.0",
            "1.35.5",
            Weight::Error,
            "last updated by kops 1.37.0",
        ),
        ("1.36.2", "1.36.0", Weight::Error, "does not go back"),
        ("1.34.0", "1.33.0", Weight::Error, "go by 1.34 first"),
        ("", "", Weight::Fine, ""),
    ] {
        let (got, said) = one(19, &file(), &kept(kops, kubernetes));
        assert_eq!(got, weight, "{kops} {kubernetes}: {said}");
        assert!(said.contains(part), "{said}");
    }
}
