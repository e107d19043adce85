//! The mirror as nodes see it, and the registry.

use super::*;
use crate::store::bucket_policy::Audience;
use crate::store::s3::{BucketSettings, Property};

fn read(status: u16, expected: Option<Expected>) -> Read {
    Read {
        what: "nodeup".to_owned(),
        url: "https://mirror/nodeup".to_owned(),
        key: None,
        answer: Ok(Answered {
            status,
            length: Some(10),
            etag: Some("00000000000000000000000000000001".to_owned()),
            text: Some("abc\n".to_owned()),
        }),
        expected,
    }
}

fn reading(reads: Vec<Read>) -> Facts {
    Facts {
        reads: Ok(reads),
        ..Facts::unasked()
    }
}

/// The mirror is not known here, so a 403 is S3's refusal and not an absence.
#[test]
fn refused_missing_and_wrong_are_told_apart() {
    let of = |length, last: char| {
        Some(Expected::File {
            length,
            md5: format!("{}{last}", "0".repeat(31)),
        })
    };
    for (read, weight, part) in [
        (read(200, None), Weight::Fine, "1 files"),
        (read(200, of(10, '1')), Weight::Fine, ""),
        (read(200, of(11, '1')), Weight::Error, "10 bytes, not 11"),
        (read(200, of(10, '2')), Weight::Error, "its ETag is"),
        (
            read(200, Some(Expected::Digest("abc".to_owned()))),
            Weight::Fine,
            "",
        ),
        (
            read(200, Some(Expected::Digest("abd".to_owned()))),
            Weight::Error,
            "it says 'abc', not abd",
        ),
        (
            read(403, None),
            Weight::Error,
            "nodes read without credentials",
        ),
        (
            read(404, None),
            Weight::Error,
            "is not at https://mirror/nodeup",
        ),
        (read(302, None), Weight::Error, "answered with 302"),
    ] {
        let (got, said) = one(6, &file(), &reading(vec![read]));
        assert_eq!(got, weight, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

/// Outside the VPC nobody can tell, and that is no error.
#[test]
fn a_policy_for_endpoints_refuses_this_machine_rightly() {
    let mut facts = reading(vec![read(403, None)]);
    facts.audience = Ok(Some(Audience::Limited(vec!["vpce-0a".to_owned()])));
    let (weight, said) = one(6, &file(), &facts);
    assert_eq!(weight, Weight::Unknown);
    assert!(said.contains("vpce-0a"), "{said}");
}

#[test]
fn public_reads_are_a_warning_and_none_an_error() {
    let facts = |audience| Facts {
        audience: Ok(audience),
        ..Facts::unasked()
    };
    let (weight, said) = one(7, &file(), &facts(Some(Audience::Everybody)));
    assert_eq!(weight, Weight::Warning);
    assert!(said.contains("ICP"), "{said}");
    assert_eq!(
        one(7, &file(), &facts(Some(Audience::Nobody))).0,
        Weight::Error
    );
    // Objects may be public by themselves.
    let read = Facts {
        reads: Ok(vec![read(200, None)]),
        ..facts(Some(Audience::Nobody))
    };
    assert_eq!(one(7, &file(), &read).0, Weight::Warning);
    let limited = Audience::Limited(vec!["vpce-0a".to_owned()]);
    assert_eq!(one(7, &file(), &facts(Some(limited))).0, Weight::Fine);
    assert_eq!(one(7, &file(), &facts(None)).0, Weight::Fine);
}

#[test]
fn the_state_store_is_judged_by_what_apply_may_do() {
    let facts = |lacks: &[Property]| Facts {
        state_bucket: Ok(Some(StateBucket {
            settings: BucketSettings::default(),
            lacks: lacks.to_vec(),
        })),
        ..Facts::unasked()
    };
    let kept = file_with(&[("bucket: state-store", "bucket: state-store, create: false")]);
    assert_eq!(one(5, &file(), &facts(&[])).0, Weight::Fine);
    let (weight, said) = one(
        5,
        &file(),
        &facts(&[Property::Versioned, Property::TlsOnly]),
    );
    assert_eq!(weight, Weight::Warning);
    assert!(said.contains("not versioned, not for TLS only"), "{said}");
    assert_eq!(one(5, &kept, &facts(&[Property::Private])).0, Weight::Error);
    let absent = Facts {
        state_bucket: Ok(None),
        ..Facts::unasked()
    };
    assert_eq!(one(5, &file(), &absent).0, Weight::Fine);
    assert_eq!(one(5, &kept, &absent).0, Weight::Error);
    assert_eq!(one(5, &file(), &Facts::unasked()).0, Weight::Error);
}

#[test]
fn a_channel_on_a_blocked_host_is_an_error() {
    let channel = "mirror: {at: s3://mirror/k8s, channel: 'https://raw.githubusercontent.com/kubernetes/kops/master/channels/stable'}";
    let blocked = file_with(&[("mirror: {at: s3://mirror/k8s}", channel)]);
    assert_eq!(one(17, &blocked, &Facts::unasked()).0, Weight::Error);
    assert_eq!(one(17, &file(), &Facts::unasked()).0, Weight::Fine);
    let named = file_with(&[(
        "mirror: {at: s3://mirror/k8s}",
        "mirror: {at: s3://mirror/k8s, channel: stable}",
    )]);
    assert_eq!(one(17, &named, &Facts::unasked()).0, Weight::Error);
}

#[test]
fn what_kops_would_take_for_its_version_is_its_version() {
    let file = file();
    let mut told = told(&file);
    told.settings.environment.push(crate::consumer::Setting {
        name: "KOPS_BASE_URL".to_owned(),
        value: "https://other/mykops/".to_owned(),
        why: String::new(),
    });
    let found = mirror_check(&file, &told);
    assert!(
        found[0].to_string().contains("ends in 'mykops'"),
        "{found:?}"
    );
    assert!(
        found[1]
            .to_string()
            .contains("KOPS_BASE_URL is at other and fileRepository at s3.cn-north-1"),
        "{found:?}"
    );
}

fn mirror_check(file: &ClusterFile, told: &Told) -> Vec<Finding> {
    judge(CheckId::new(17), file, told, &Facts::unasked())
}

#[test]
fn a_registry_is_named_as_kubelet_knows_it() {
    let registry = |host: &str| {
        let registry =
            format!("image: {{use: ami-1}}\nregistry: {{containerRegistry: {host}/k8s}}");
        file_with(&[("image: {use: ami-1}", &registry)])
    };
    for (host, weight) in [
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            Weight::Fine,
        ),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            Weight::Error,
        ),
        (
            "123456789012.dkr.ecr.cn-northwest-1.amazonaws.com.cn",
            Weight::Warning,
        ),
        ("registry.example.cn", Weight::Fine),
    ] {
        let (got, said) = one(15, &registry(host), &Facts::unasked());
        assert_eq!(got, weight, "{said}");
    }
    assert_eq!(one(14, &file(), &Facts::unasked()).0, Weight::Warning);
}

const WITH_ECR: &str = "image: {use: ami-1}\nregistry: {containerRegistry: 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn}\n";

#[test]
fn hosts_may_read_the_registry_unless_overrides_say_otherwise() {
    for (over, weight) in [
        ("iam: {allowContainerRegistry: false}", Weight::Error),
        ("iam: {allowContainerRegistry: null}", Weight::Error),
        ("iam: null", Weight::Error),
        ("iam: {allowContainerRegistry: true}", Weight::Fine),
        ("iam: {legacy: true}", Weight::Fine),
        ("sshAccess: []", Weight::Fine),
    ] {
        let text = format!("{WITH_ECR}overrides: {{cluster: {{{over}}}}}");
        let file = file_with(&[("image: {use: ami-1}", &text)]);
        let (got, said) = one(15, &file, &Facts::unasked());
        assert_eq!(got, weight, "{over}: {said}");
    }
}

/// Which releases know ECR's hosts in China; those between know them as well as the newest.
#[test]
fn releases_whose_kubelet_has_no_login_for_china_are_told() {
    let found = |kops: &str, kubernetes: &str, region: &str| {
        let file = file_with(&[
            ("kopsVersion: 1.36.2", &format!("kopsVersion: {kops}")),
            (
                "kubernetesVersion: 1.35.5",
                &format!("kubernetesVersion: {kubernetes}"),
            ),
            (
                "image: {use: ami-1}",
                &format!("{WITH_ECR}ssh: {{publicKey: id.pub}}"),
            ),
        ]);
        let text = serde_yaml_ng::to_string(&file).unwrap();
        let suffix = match region {
            "cn-north-1" => "amazonaws.com.cn",
            _ => "amazonaws.com",
        };
        let text = text
            .replace("cn-north-1", region)
            .replace("amazonaws.com.cn", suffix);
        one(15, &ClusterFile::parse(&text).unwrap(), &Facts::unasked())
    };
    for (kops, kubernetes) in [
        ("1.9.2", "1.9.11"),
        ("1.20.3", "1.20.15"),
        ("1.24.5", "1.24.17"),
        ("1.26.6", "1.26.15"),
        ("1.27.0-alpha.2", "1.26.15"),
        ("1.27.0-beta.1", "1.27.16"),
        ("1.27.3", "1.27.16"),
        ("1.36.2", "1.35.5"),
    ] {
        let (weight, said) = found(kops, kubernetes, "cn-north-1");
        assert_eq!(weight, Weight::Fine, "{kops}: {said}");
    }
    for (kops, kubernetes, part) in [
        ("1.8.1", "1.8.7", "under amazonaws.com alone"),
        ("1.27.0-alpha.2", "1.27.16", "Unauthorized"),
    ] {
        let (weight, said) = found(kops, kubernetes, "cn-north-1");
        assert_eq!(weight, Weight::Error, "{kops}: {said}");
        assert!(said.contains(part), "{said}");
        assert_eq!(
            found(kops, kubernetes, "us-east-1").0,
            Weight::Fine,
            "{kops}"
        );
    }
}

#[test]
fn a_mirror_of_registries_answers_as_one() {
    let mirrored =
        "image: {use: ami-1}\nregistry: {mirrors: {docker.io: ['https://hub.example.cn']}}";
    let file = file_with(&[("image: {use: ami-1}", mirrored)]);
    let facts = |status: Known<u16>| {
        let mut facts = Facts::unasked();
        facts
            .registry_mirrors
            .insert("https://hub.example.cn".to_owned(), status);
        facts
    };
    for (status, weight) in [
        (Ok(200), Weight::Fine),
        (Ok(401), Weight::Fine),
        (Ok(403), Weight::Warning),
        (Err("it does not answer".to_owned()), Weight::Warning),
    ] {
        let (got, said) = one(16, &file, &facts(status));
        assert_eq!(got, weight, "{said}");
    }
}
