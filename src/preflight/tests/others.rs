//! Images, machines, quotas, names, and what is left.

use super::*;
use crate::asset::Arch;
use crate::cloud::{Image, ImageState, InstanceType, Offering, Tagged};

fn image(owner: &str) -> Image {
    Image {
        image_id: "ami-1".to_owned(),
        name: Some("ubuntu".to_owned()),
        owner: owner.to_owned(),
        state: ImageState::Available,
        architecture: Some("x86_64".to_owned()),
        ena_support: Some(true),
        ..Image::default()
    }
}

fn with_image(image: Known<Result<Image, String>>) -> Facts {
    let mut facts = Facts::unasked();
    facts.types = Ok(vec![machine("m6i.large")]);
    facts.images.push(HostImage {
        whose: "nodes".to_owned(),
        arch: Arch::Amd64,
        asked: "ami-1".to_owned(),
        is_to_be_made: false,
        region: "cn-north-1".to_owned(),
        image,
    });
    facts
}

fn machine(name: &str) -> InstanceType {
    serde_json::from_value(serde_json::json!({
        "instanceType": name,
        "vCpuInfo": {"defaultVCpus": 2},
        "networkInfo": {"enaSupport": "required"},
    }))
    .unwrap()
}

#[test]
fn an_image_is_one_that_the_hosts_start_from() {
    let canonical = "837727238323";
    let changed = |change: fn(&mut Image)| {
        let mut image = image(canonical);
        change(&mut image);
        with_image(Ok(Ok(image)))
    };
    for (facts, weight, part) in [
        (changed(|_| {}), Weight::Fine, "837727238323/ubuntu"),
        (
            changed(|image| image.state = ImageState::Pending),
            Weight::Error,
            "is pending",
        ),
        (
            changed(|image| image.architecture = Some("arm64".to_owned())),
            Weight::Error,
            "is for arm64",
        ),
        (
            changed(|image| image.ena_support = Some(false)),
            Weight::Error,
            "ENA",
        ),
        (
            changed(|image| image.owner = "666666666666".to_owned()),
            Weight::Warning,
            "no known publisher's",
        ),
        (
            with_image(Ok(Err("there is no image ami-1".to_owned()))),
            Weight::Error,
            "provision ami resolve",
        ),
        (
            with_image(Err("allow ec2:DescribeImages".to_owned())),
            Weight::Unknown,
            "ec2:DescribeImages",
        ),
    ] {
        let (got, said) = one(11, &file(), &facts);
        assert_eq!(got, weight, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

/// A number stands for a publisher in one partition only, and one's own images are trusted wherever one's account is.
#[test]
fn whose_an_image_is_is_told_by_account_and_partition() {
    let weight = |owner: &str, region: &str, of_identity: Option<&str>| {
        let mut facts = with_image(Ok(Ok(image(owner))));
        facts.images[0].region = region.to_owned();
        if let Some(partition) = of_identity {
            let arn = format!("arn:{partition}:iam::123456789012:user/a");
            facts.identity = Ok(identity(&arn));
        }
        one(11, &file(), &facts)
    };
    for (owner, region) in [
        ("837727238323", "cn-north-1"),
        ("837727238323", "cn-northwest-1"),
        ("141808717104", "cn-north-1"),
        ("841258680906", "cn-north-1"),
        ("099720109477", "us-east-1"),
        ("137112412989", "us-east-1"),
        ("136693071363", "eu-west-1"),
        ("513442679011", "us-gov-west-1"),
    ] {
        assert_eq!(
            weight(owner, region, None).0,
            Weight::Fine,
            "{owner} in {region}"
        );
    }
    for (owner, region) in [
        // Nobody's, as far as is known.
        ("666666666666", "cn-north-1"),
        ("141071453412", "cn-north-1"),
        // Canonical's and Debian's elsewhere.
        ("099720109477", "cn-north-1"),
        ("136693071363", "cn-north-1"),
        ("837727238323", "us-east-1"),
        ("123456789012", "cn-north-1"),
    ] {
        let (got, said) = weight(owner, region, None);
        assert_eq!(got, Weight::Warning, "{owner} in {region}: {said}");
        assert!(
            said.contains(&format!(
                "the account {owner}, which is no known publisher's"
            )),
            "{said}"
        );
    }
    assert_eq!(
        weight("123456789012", "cn-north-1", Some("aws-cn")).0,
        Weight::Fine
    );
    assert_eq!(
        weight("123456789012", "cn-north-1", Some("aws")).0,
        Weight::Warning
    );
    // What is copied comes from another account of one's own.
    let mut copied = with_image(Ok(Ok(image("210987654321"))));
    copied.images[0].region = "us-west-2".to_owned();
    assert_eq!(one(11, &file(), &copied).0, Weight::Warning);
    copied.source = Some(Ok(Identity {
        account: "210987654321".to_owned(),
        ..identity("arn:aws:iam::210987654321:user/a")
    }));
    assert_eq!(one(11, &file(), &copied).0, Weight::Fine);
}

#[test]
fn types_are_offered_where_they_are_to_run() {
    let offerings = |letters: &str| Facts {
        offerings: Ok(letters
            .chars()
            .map(|letter| Offering {
                instance_type: "m6i.large".to_owned(),
                location: format!("cn-north-1{letter}"),
            })
            .collect()),
        ..Facts::unasked()
    };
    assert_eq!(one(12, &file(), &offerings("abc")).0, Weight::Fine);
    let found = found(12, &file(), &offerings("ab"));
    assert_eq!(
        found.len(),
        2,
        "the control plane and the nodes: {found:#?}"
    );
    assert!(
        found[0]
            .to_string()
            .contains("is not offered in cn-north-1c"),
        "{found:#?}"
    );
    assert!(
        found[0].remedy.contains("only cn-north-1a, cn-north-1b"),
        "{found:#?}"
    );
}

fn allowed(quota: Quota, limit: Option<f64>, used: f64) -> Facts {
    let allowance = Allowance {
        limit,
        used,
        place: None,
    };
    Facts {
        types: Ok(vec![machine("m6i.large")]),
        quotas: vec![(quota, Ok(allowance))],
        ..Facts::unasked()
    }
}

#[test]
fn quotas_are_held_against_what_is_used_and_needed() {
    let facts = |limit, used| allowed(Quota::Vcpus, limit, used);
    // Six hosts of two.
    assert_eq!(one(13, &file(), &facts(Some(16.0), 4.0)).0, Weight::Fine);
    let (weight, said) = one(13, &file(), &facts(Some(16.0), 5.0));
    assert_eq!(weight, Weight::Warning);
    assert!(
        said.contains("12 more vCPUs")
            && said.contains("others use 5")
            && said.contains("L-1216C47A"),
        "{said}"
    );
    assert_eq!(one(13, &file(), &facts(None, 0.0)).0, Weight::Unknown);
    let mut unknown = facts(Some(16.0), 0.0);
    unknown.types = Err("nobody tells".to_owned());
    assert_eq!(one(13, &file(), &unknown).0, Weight::Unknown);
}

/// A gateway and an address in each zone, a load balancer, a VPC: the last that the account may have are enough, one less is not.
#[test]
fn each_quota_has_its_own_need() {
    for (quota, need) in [
        (Quota::ElasticIps, 3.0),
        (Quota::NatGatewaysPerZone, 1.0),
        (Quota::NetworkLoadBalancers, 1.0),
        (Quota::Vpcs, 1.0),
    ] {
        let (weight, said) = one(13, &file(), &allowed(quota, Some(5.0), 5.0 - need));
        assert_eq!(weight, Weight::Fine, "{said}");
        let (weight, said) = one(13, &file(), &allowed(quota, Some(5.0), 6.0 - need));
        assert_eq!(weight, Weight::Warning, "{said}");
        assert!(said.contains(&format!("{need} more")), "{said}");
    }
}

#[test]
fn what_exists_counts_against_no_quota() {
    let concerned =
        |changes: &[(&str, &str)]| crate::preflight::quotas::concerned(&file_with(changes));
    assert_eq!(concerned(&[]).len(), 5);
    let subnets = "network: {vpc: vpc-1, subnets: [{zone: cn-north-1a, id: subnet-a}, {zone: cn-north-1b, egress: nat-1, cidr: 10.0.1.0/24}, {zone: cn-north-1c, id: subnet-c}]}";
    assert_eq!(
        concerned(&[("network: {}", subnets)]),
        [Quota::Vcpus, Quota::NetworkLoadBalancers]
    );
    // One zone has neither.
    let two = "network: {vpc: vpc-1, subnets: [{zone: cn-north-1a, id: subnet-a}, {zone: cn-north-1b, id: subnet-b}]}";
    let two = [("network: {}", two)];
    assert!(
        concerned(&two).contains(&Quota::NatGatewaysPerZone)
            && !concerned(&two).contains(&Quota::Vpcs)
    );
    let facts = allowed(Quota::ElasticIps, Some(1.0), 0.0);
    assert_eq!(one(13, &file_with(&two), &facts).0, Weight::Fine);
    // Up to 1.25 the load balancer is a classic one.
    let old = [
        ("kopsVersion: 1.36.2", "kopsVersion: 1.24.5"),
        ("kubernetesVersion: 1.35.5", "kubernetesVersion: 1.24.17"),
    ];
    assert!(!concerned(&old).contains(&Quota::NetworkLoadBalancers));
    let public = [(
        "image: {use: ami-1}",
        "image: {use: ami-1}\ntopology: public\napi: {type: public}",
    )];
    assert!(!concerned(&public).contains(&Quota::ElasticIps));
}

#[test]
fn machines_of_other_families_are_not_counted_as_standard_ones() {
    let file = file_with(&[(
        "nodes: [{name: nodes, machineType: m6i.large, min: 3, max: 6}]",
        "nodes: [{name: nodes, machineType: g4dn.xlarge, min: 30}, {name: spot, machineType: m6i.large, min: 9, maxPrice: \"0.1\"}]",
    )]);
    // The control plane alone: three of two.
    let (weight, said) = one(13, &file, &allowed(Quota::Vcpus, Some(6.0), 0.0));
    assert_eq!(weight, Weight::Unknown);
    assert!(
        said.contains("g4dn.xlarge count against a quota of their own family"),
        "{said}"
    );
    let found = found(13, &file, &allowed(Quota::Vcpus, Some(5.0), 0.0));
    assert!(found[0].to_string().contains("6 more vCPUs"), "{found:#?}");
}

#[test]
fn a_public_api_in_china_is_to_be_accepted() {
    assert_eq!(one(8, &file(), &Facts::unasked()).0, Weight::Fine);
    let public = file_with(&[(
        "image: {use: ami-1}",
        "image: {use: ami-1}\napi: {type: public}",
    )]);
    let (weight, said) = one(8, &public, &Facts::unasked());
    assert_eq!(weight, Weight::Error);
    assert!(said.contains("ICP"), "{said}");
    let abroad = FILE.replace("cn-north-1", "us-east-1").replace(
        "image: {use: ami-1}",
        "image: {use: ami-1}\napi: {type: public}",
    );
    let abroad = ClusterFile::parse(&abroad).unwrap();
    assert_eq!(one(8, &abroad, &Facts::unasked()).0, Weight::Warning);
}

#[test]
fn load_balancers_and_names_suit_the_release() {
    assert_eq!(one(18, &file(), &Facts::unasked()).0, Weight::Fine);
    for over in [
        "api: {loadBalancer: {class: Classic}}",
        "topology: {dns: {type: Private}}",
    ] {
        let over = format!("image: {{use: ami-1}}\noverrides: {{cluster: {{{over}}}}}");
        let file = file_with(&[("image: {use: ami-1}", &over)]);
        assert_eq!(one(18, &file, &Facts::unasked()).0, Weight::Error, "{over}");
    }
}

#[test]
fn strangers_locks_and_leftovers_stop() {
    let clean = || Facts {
        clock: Ok(SignedDuration::ZERO),
        kept: Ok(None),
        holder: Ok(None),
        tagged: Ok(Vec::new()),
        ..Facts::unasked()
    };
    assert_eq!(one(20, &file(), &clean()).0, Weight::Fine);
    let kept = |is_ours| {
        Ok(Some(Kept {
            kops: None,
            kubernetes: None,
            is_ours,
        }))
    };
    let volume = Tagged {
        resource_id: "vol-1".to_owned(),
        resource_type: "volume".to_owned(),
        key: "KubernetesCluster".to_owned(),
        value: "prod.k8s.local".to_owned(),
    };
    let cases: [(Facts, &str); 3] = [
        (
            Facts {
                holder: Ok(Some("host (4711)".to_owned())),
                ..clean()
            },
            "worked on by host (4711)",
        ),
        (
            Facts {
                kept: kept(false),
                ..clean()
            },
            "no journal says",
        ),
        (
            Facts {
                tagged: Ok(vec![volume.clone()]),
                ..clean()
            },
            "volume vol-1",
        ),
    ];
    for (facts, part) in cases {
        let (weight, said) = one(20, &file(), &facts);
        assert_eq!(weight, Weight::Error, "{said}");
        assert!(said.contains(part), "{said}");
    }
    let running = Facts {
        kept: kept(true),
        tagged: Ok(vec![volume]),
        ..clean()
    };
    assert_eq!(one(20, &file(), &running).0, Weight::Fine);
}
