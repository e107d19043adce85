//! The checks before a cluster is made, by the program against the emulator.

use kops_mirror::asset::Asset;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::index::{Entry, Index, Release};
use kops_mirror::loopback::registry::{LoopbackRegistry, Options};
use kops_mirror::store::bucket_policy::{Readers, bucket_policy};
use serde_json::Value;

use super::desk::Desk;
use super::network::vpc;
use super::world::CHINA;

/// The findings of these checks, and how it ended.
async fn found(site: &Desk, flags: &str) -> (Option<i32>, Vec<Value>) {
    let (code, told) = site.json(&format!("preflight {flags}")).await;
    (code, told.as_array().unwrap().clone())
}

/// The one finding of one check: its weight and what it says.
async fn one(site: &Desk, check: &str) -> (String, String) {
    let (_, found) = found(site, &format!("--only {check}")).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let text = |name: &str| found[0][name].as_str().unwrap_or_default().to_owned();
    (
        text("weight"),
        format!("{}: {}", text("what"), text("remedy")),
    )
}

/// What is put into the mirror for the files that are read first.
fn content(asset: &Asset) -> String {
    format!("content of {}", asset.key)
}

/// A mirror with an index of what kops and nodes read first.
async fn mirror(site: &Desk) {
    let (overlay, bucket) = (&site.world.overlay, site.mirror_bucket());
    overlay.make_bucket(&bucket, CHINA).await;
    let mut files = Vec::new();
    for asset in site.file().files().unwrap().assets {
        let name = asset.key.file_name();
        if !["nodeup", "kubelet"].contains(&name) {
            continue;
        }
        let content = content(&asset);
        let digest = |algorithm| Digest::of(algorithm, content.as_bytes());
        overlay
            .put_public(&bucket, &format!("k8s/{}", asset.key), &content)
            .await;
        let sidecar = asset.key.sidecar(Algorithm::Sha256);
        let hex = digest(Algorithm::Sha256).hex();
        overlay
            .put_public(&bucket, &format!("k8s/{sidecar}"), &hex)
            .await;
        files.push(Entry {
            key: asset.key.clone(),
            length: content.len() as u64,
            md5: digest(Algorithm::Md5),
            sha256: digest(Algorithm::Sha256),
            sha1: None,
            sha512: None,
            canonical: asset.canonical.to_string(),
            sources: Vec::new(),
            vouched_by: Vec::new(),
            sidecars: vec![Algorithm::Sha256],
        });
    }
    assert!(files.len() >= 2, "{files:?}");
    let index = Index {
        format: 1,
        release: Release {
            name: "kops-1.36.2".to_owned(),
            ..Release::default()
        },
        written_by: "tests".to_owned(),
        completed_at: "2026-01-01T00:00:00Z".to_owned(),
        files,
        pointers: Vec::new(),
    };
    let text = serde_json::to_string(&index).unwrap();
    overlay
        .put_public(&bucket, "k8s/releases/kops-1.36.2.json", &text)
        .await;
    overlay
        .put_public(
            &bucket,
            "k8s/kubernetes/kops/master/channels/stable",
            "spec: {}",
        )
        .await;
    overlay
        .put_public(&bucket, "k8s/channels/stable", "spec: {}")
        .await;
}

#[tokio::test]
async fn whose_credentials_they_are_is_told_by_the_partition() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let (weight, what) = one(&site, "P01").await;
    assert_eq!(weight, "fine", "{what}");
    let overlay = &site.world.overlay;
    overlay.refuse("GetCallerIdentity", 403, "InvalidClientTokenId");
    let (weight, what) = one(&site, "P01").await;
    assert_eq!(weight, "error");
    assert!(what.contains("never those of AWS"), "{what}");
    site.change(
        "image: {use: ami-0c240000000000002}",
        "image: {copy: {fromRegion: us-east-1, source: ami-0a240000000000002, engine: ebs-direct}}",
    );
    site.world.overlay.orders().refused.clear();
    let (weight, what) = one(&site, "P02").await;
    assert_eq!(weight, "error", "{what}");
}

#[tokio::test]
async fn zones_offerings_and_quotas_are_those_of_the_region() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    assert_eq!(one(&site, "P03").await.0, "fine");
    let (weight, what) = one(&site, "P12").await;
    assert_eq!(weight, "unknown", "moto offers nothing in China: {what}");
    site.offer("m6i.large");
    let (code, found_) = found(&site, "--only P12").await;
    assert_eq!((code, found_.len()), (Some(1), 2), "{found_:#?}");
    {
        let mut orders = site.world.overlay.orders();
        orders
            .offerings
            .insert("m5.large".to_owned(), vec!["cn-north-1a".to_owned()]);
        for (code, limit) in [
            ("L-1216C47A", 64.0),
            ("L-0263D0A3", 5.0),
            ("L-FE5A380F", 5.0),
            ("L-69A177A2", 50.0),
            ("L-F678F1CE", 5.0),
        ] {
            orders.quotas.insert(code.to_owned(), limit);
        }
    }
    assert_eq!(one(&site, "P12").await.0, "fine");
    assert_eq!(one(&site, "P13").await.0, "fine");
    site.world
        .overlay
        .orders()
        .quotas
        .insert("L-1216C47A".to_owned(), 4.0);
    let (weight, what) = one(&site, "P13").await;
    assert_eq!(weight, "warning");
    assert!(what.contains("6 more vCPUs"), "{what}");
    site.change("zones: [cn-north-1a]", "zones: [cn-north-1c]");
    let (weight, what) = one(&site, "P03").await;
    assert_eq!(weight, "error");
    assert!(what.contains("cn-north-1c is no zone"), "{what}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_stops_nothing() {
    let Some(site) = Desk::start().await else {
        return;
    };
    let denied = [
        (
            "DescribeAvailabilityZones",
            "P03",
            "ec2:DescribeAvailabilityZones",
        ),
        ("DescribeImages", "P11", "ec2:DescribeImages"),
        (
            "DescribeInstanceTypeOfferings",
            "P12",
            "ec2:DescribeInstanceTypeOfferings",
        ),
        ("DescribeTags", "P20", "ec2:DescribeTags"),
    ];
    for (operation, check, right) in denied {
        let overlay = &site.world.overlay;
        overlay.refuse(operation, 403, "UnauthorizedOperation");
        let (code, found) = found(&site, &format!("--only {check}")).await;
        assert_eq!(code, Some(0), "{found:#?}");
        assert_eq!(found[0]["weight"], "unknown", "{found:#?}");
        assert!(
            found[0]["what"].as_str().unwrap().contains(right),
            "{found:#?}"
        );
    }
}

#[tokio::test]
async fn the_state_store_is_looked_at() {
    let Some(site) = Desk::start().await else {
        return;
    };
    assert_eq!(one(&site, "P05").await.0, "fine");
    site.world.overlay.make_bucket(&site.bucket, CHINA).await;
    let (weight, what) = one(&site, "P05").await;
    assert_eq!(weight, "warning");
    assert!(what.contains("not versioned"), "{what}");
    assert_eq!(site.json("state-bucket ensure").await.0, Some(0));
    assert_eq!(one(&site, "P05").await.0, "fine");
}

#[tokio::test]
async fn the_mirror_is_read_as_nodes_read_it() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    mirror(&site).await;
    let bucket = site.mirror_bucket();
    let channel = format!("{}{bucket}/k8s/channels/stable", site.world.overlay.url());
    let endpoint = format!("endpoint: '{}'", site.world.overlay.url());
    site.change(&endpoint, &format!("{endpoint}, channel: '{channel}'"));
    let (weight, what) = one(&site, "P06").await;
    assert_eq!(weight, "fine", "{what}");
    // Another content, under the same name.
    let assets = site.file().files().unwrap().assets;
    let nodeup = assets
        .iter()
        .find(|asset| asset.key.file_name() == "nodeup")
        .unwrap();
    site.world
        .overlay
        .put_public(&bucket, &format!("k8s/{}", nodeup.key), "something else")
        .await;
    let (code, wrong) = found(&site, "--only P06").await;
    assert_eq!(code, Some(1));
    assert!(
        wrong[0]["what"]
            .as_str()
            .unwrap()
            .contains("is not what was mirrored"),
        "{wrong:#?}"
    );
    site.world.overlay.orders().refuses_anonymous = true;
    let (code, refused) = found(&site, "--only P06").await;
    assert_eq!(code, Some(1));
    assert!(
        refused[0]["what"]
            .as_str()
            .unwrap()
            .contains("is refused (403)"),
        "{refused:#?}"
    );
    // Whoever is let in by the endpoint alone is not this machine.
    let limited = Readers::VpcEndpoints(vec!["vpce-0a".to_owned()]);
    let policy = bucket_policy(
        kops_mirror::partition::Partition::of_region(CHINA),
        &bucket,
        "k8s",
        &[limited],
    )
    .unwrap();
    site.world.overlay.put_policy(&bucket, &policy);
    let (code, unknown) = found(&site, "--only P06,P07").await;
    assert_eq!(code, Some(0), "{unknown:#?}");
    assert_eq!(unknown.last().unwrap()["weight"], "fine", "{unknown:#?}");
    let open = bucket_policy(
        kops_mirror::partition::Partition::of_region(CHINA),
        &bucket,
        "k8s",
        &[Readers::Public],
    )
    .unwrap();
    site.world.overlay.put_policy(&bucket, &open);
    assert_eq!(one(&site, "P07").await.0, "warning");
}

#[tokio::test]
async fn a_vpc_is_looked_at_with_its_ways_out() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let (vpc, subnet) = vpc(&site).await;
    site.change(
        "network: {}",
        &format!("network: {{vpc: {vpc}, subnets: [{{zone: cn-north-1a, id: {subnet}}}]}}"),
    );
    let overlay = &site.world.overlay;
    let (_, names) = found(&site, "--only P10").await;
    assert!(
        names[0]["what"]
            .as_str()
            .unwrap()
            .contains("enableDnsHostnames off"),
        "{names:#?}"
    );
    overlay
        .ec2(
            &[
                ("Action", "ModifyVpcAttribute"),
                ("VpcId", &vpc),
                ("EnableDnsHostnames.Value", "true"),
            ],
            "requestId",
        )
        .await;
    let (weight, what) = one(&site, "P10").await;
    assert_eq!(weight, "fine", "{what}");
    let (code, closed) = found(&site, "--only P09").await;
    assert_eq!(code, Some(1));
    let last = closed.last().unwrap()["what"].as_str().unwrap();
    assert!(
        last.contains("no way out and no endpoints for s3 (gateway), ec2, sts"),
        "{closed:#?}"
    );
    let gateway = overlay
        .ec2(&[("Action", "CreateInternetGateway")], "internetGatewayId")
        .await;
    overlay
        .ec2(
            &[
                ("Action", "AttachInternetGateway"),
                ("InternetGatewayId", &gateway),
                ("VpcId", &vpc),
            ],
            "requestId",
        )
        .await;
    let tables = [
        ("Action", "DescribeRouteTables"),
        ("Filter.1.Name", "vpc-id"),
        ("Filter.1.Value.1", &vpc),
    ];
    let table = overlay.ec2(&tables, "routeTableId").await;
    let route = [
        ("Action", "CreateRoute"),
        ("RouteTableId", &table),
        ("DestinationCidrBlock", "0.0.0.0/0"),
        ("GatewayId", &gateway),
    ];
    overlay.ec2(&route, "requestId").await;
    let (_, what) = one(&site, "P09").await;
    assert!(what.contains("no public addresses"), "{what}");
    let endpoint = [
        ("Action", "CreateVpcEndpoint"),
        ("VpcId", &vpc),
        ("ServiceName", "com.amazonaws.cn-north-1.s3"),
        ("RouteTableId.1", &table),
    ];
    overlay.ec2(&endpoint, "vpcEndpointId").await;
    let nat = [
        ("Action", "CreateNatGateway"),
        ("SubnetId", &subnet),
        ("ConnectivityType", "private"),
    ];
    let nat = overlay.ec2(&nat, "natGatewayId").await;
    overlay
        .ec2(
            &[
                ("Action", "DeleteRoute"),
                ("RouteTableId", &table),
                ("DestinationCidrBlock", "0.0.0.0/0"),
            ],
            "requestId",
        )
        .await;
    let route = [
        ("Action", "CreateRoute"),
        ("RouteTableId", &table),
        ("DestinationCidrBlock", "0.0.0.0/0"),
        ("NatGatewayId", &nat),
    ];
    overlay.ec2(&route, "requestId").await;
    let (weight, what) = one(&site, "P09").await;
    assert_eq!(weight, "fine", "{what}");
}

#[tokio::test]
async fn an_image_is_looked_for_in_the_region() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let (_, told) = found(&site, "--only P11").await;
    assert!(
        told.iter().all(|finding| finding["weight"] == "fine"),
        "{told:#?}"
    );
    site.change("ami-0c240000000000002", "ami-00000000000000000");
    let (code, told) = found(&site, "--only P11").await;
    assert_eq!(code, Some(1));
    assert!(
        told[0]["what"]
            .as_str()
            .unwrap()
            .contains("there is no image ami-00000000000000000"),
        "{told:#?}"
    );
    site.change(
        "{use: ami-00000000000000000}",
        "{resolve: {distribution: ubuntu-24.04}}",
    );
    assert_eq!(found(&site, "--only P11").await.0, Some(0));
    site.change(
        "{resolve: {distribution: ubuntu-24.04}}",
        "{use: ami-0c240000000000003}",
    );
    let (_, told) = found(&site, "--only P11").await;
    assert!(
        told[0]["what"].as_str().unwrap().contains("is pending"),
        "{told:#?}"
    );
}

#[tokio::test]
async fn strangers_and_leftovers_are_found() {
    let Some(site) = Desk::start().await else {
        return;
    };
    assert_eq!(one(&site, "P20").await.0, "fine");
    site.world.overlay.orders().clock_ahead = 600;
    let (weight, what) = one(&site, "P20").await;
    assert_eq!(weight, "error");
    assert!(what.contains("s behind AWS's"), "{what}");
    site.world.overlay.orders().clock_ahead = 0;
    let (vpc, _) = vpc(&site).await;
    let tag = [
        ("Action", "CreateTags"),
        ("ResourceId.1", vpc.as_str()),
        ("Tag.1.Key", "KubernetesCluster"),
        ("Tag.1.Value", "prod.k8s.local"),
    ];
    site.world.overlay.ec2(&tag, "requestId").await;
    let (weight, what) = one(&site, "P20").await;
    assert_eq!(weight, "error");
    assert!(what.contains(&format!("vpc {vpc}")), "{what}");
    // kops has a cluster of the name, made by others: what bears its name is its own.
    assert_eq!(site.json("state-bucket ensure").await.0, Some(0));
    let config = "kind: Cluster\nspec: {kubernetesVersion: 1.35.5}\n";
    site.world
        .overlay
        .put(&site.bucket, "prod.k8s.local/config", config)
        .await;
    let (weight, what) = one(&site, "P20").await;
    assert_eq!(weight, "error");
    assert!(what.contains("no journal says"), "{what}");
    assert_eq!(found(&site, "--only P20 --ack P20").await.0, Some(0));
    site.world
        .overlay
        .put(&site.bucket, "prod.k8s.local/kops-version.txt", "1.37.0")
        .await;
    let (code, told) = found(&site, "--only P19").await;
    assert_eq!(code, Some(1));
    assert!(
        told.iter()
            .any(|finding| finding["what"].as_str().unwrap().contains("kops 1.37.0")),
        "{told:#?}"
    );
}

#[tokio::test]
async fn mirrors_of_registries_are_asked() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let registry = LoopbackRegistry::start(Options::default()).unwrap();
    let host = registry.address();
    site.change(
        "network: {}",
        &format!("network: {{}}\nregistry: {{mirrors: {{docker.io: ['http://{host}']}}}}"),
    );
    let (weight, what) = one(&site, "P16").await;
    assert_eq!(weight, "fine", "{what}");
    site.change(&format!("http://{host}"), "http://127.0.0.1:9");
    let (weight, what) = one(&site, "P16").await;
    assert_eq!(weight, "warning");
    assert!(what.contains("does not answer"), "{what}");
}

#[tokio::test]
async fn a_table_says_what_to_do_and_checks_can_be_left_out() {
    let Some(site) = Desk::start().await else {
        return;
    };
    site.offer("m6i.large");
    let (code, said) = site
        .said("preflight --only P03,P04,P08,P12,P15,P17,P18 --skip P12")
        .await;
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with('P')).collect();
    assert_eq!(lines.len(), 6, "{said}");
    assert!(said.contains("P04  warning"), "{said}");
    let (code, said) = site
        .said("preflight --only P04,P12 --ack P12 -o yaml")
        .await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is_acknowledged: true"), "{said}");
}
