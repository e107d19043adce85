//! A network that is another when the plan is carried out: refused, before anything is made in it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kops_mirror::cluster::{ClusterFile, Found};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::events::Silent;
use kops_mirror::provision::steps::{self, Observed};
use kops_mirror::provision::{self, Addresses, Journal, Step, StepError, StepName};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::site::{Ran, Site};
use super::world::CHINA;
use crate::support::program::finish;

/// A VPC with a subnet in the first zone: their ids.
async fn network(site: &Site) -> (String, String) {
    let overlay = &site.world.overlay;
    let vpc = [("Action", "CreateVpc"), ("CidrBlock", "10.8.0.0/16")];
    let vpc = overlay.ec2(&vpc, "vpcId").await;
    let subnet = [
        ("Action", "CreateSubnet"),
        ("VpcId", vpc.as_str()),
        ("CidrBlock", "10.8.1.0/24"),
        ("AvailabilityZone", "cn-north-1a"),
    ];
    let subnet = overlay.ec2(&subnet, "subnetId").await;
    (vpc, subnet)
}

/// A site in that network, whose other shortcomings are accepted.
async fn site_in_network() -> Option<(Site, String)> {
    let site = Site::today().await?;
    let (vpc, subnet) = network(&site).await;
    site.edit(
        "network: {}",
        &format!("network: {{vpc: {vpc}, subnets: [{{zone: {CHINA}a, id: {subnet}}}]}}"),
    );
    site.edit("acknowledge: [P04]", "acknowledge: [P04, P09, P10]");
    Some((site, subnet))
}

async fn delete(site: &Site, subnet: &str) {
    let delete = [("Action", "DeleteSubnet"), ("SubnetId", subnet)];
    site.world.overlay.ec2(&delete, "requestId").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_a_subnet_that_is_gone_is_not_carried_out() {
    let Some((site, subnet)) = site_in_network().await else {
        return;
    };
    site.run(&["plan", "--out", "plan.json"]).await.ends(3);
    delete(&site, &subnet).await;
    site.run(&["apply", "--plan", "plan.json"])
        .await
        .ends(2)
        .says(&format!(
            "there is no {subnet} in {CHINA}: look at network.subnets"
        ));
    assert!(site.state_keys().await.is_empty());
    assert_eq!(site.instances().await, 0);
}

/// After the plan was made and before the first step: kops waits there until the network has moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_moves_while_apply_is_at_work_is_seen_by_its_step() {
    let Some((site, subnet)) = site_in_network().await else {
        return;
    };
    let (waiting, go) = (site.path("waiting"), site.path("go"));
    // For half a minute at most, so that nobody waits for a test that has failed.
    let script = format!(
        "#!/bin/sh\ncase \"$1 $2 $KOPS_STATE_STORE\" in\n\"get cluster s3://\"*)\n  : > '{}'\n  for i in $(seq 300); do [ -e '{}' ] && break; sleep 0.1; done;;\nesac\nexec '{}' \"$@\"\n",
        waiting.display(),
        go.display(),
        site.kops().display()
    );
    let program = site.path("waits");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = site.command_without_kops(&["apply", "--yes", "--no-wait"]);
    command.arg("--kops").arg(&program);
    let running = tokio::spawn(async move { Ran::from(finish(command).await) });
    let patience = Instant::now() + Duration::from_secs(60);
    while !waiting.exists() {
        assert!(
            Instant::now() < patience,
            "kops was never asked for the cluster"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    delete(&site, &subnet).await;
    std::fs::write(&go, "").unwrap();
    running
        .await
        .unwrap()
        .ends(2)
        .says("network: it failed")
        .says(&format!("there is no {subnet}"));
    assert_eq!(site.instances().await, 0);
    let keys = site.state_keys().await;
    assert!(
        !keys.iter().any(|key| key.starts_with("china.k8s.local/")),
        "{keys:?}"
    );
}

/// The step by itself, with what a plan saw of the network.
#[tokio::test]
async fn the_step_goes_by_what_the_plan_saw() {
    let Some(mut desk) = Desk::start().await else {
        return;
    };
    let (vpc, subnet) = super::network::vpc(&desk).await;
    desk.change(
        "network: {}",
        &format!("network: {{vpc: {vpc}, subnets: [{{zone: cn-north-1a, id: {subnet}}}]}}"),
    );
    let cloud = desk.world.cloud(CHINA).await;
    let step = steps::Network(cloud.clone());
    let file = desk.file();
    let mut found = Found::default();
    let seen = Addresses::look_up(&cloud, &file).await.unwrap();
    assert_eq!(seen.subnets[&subnet], "10.7.1.0/24");
    seen.clone().put_into(&mut found);
    let mut site = work(&desk, file.clone(), found.clone());
    let observed = step.observe(&mut site).await.unwrap();
    assert!(matches!(observed, Observed::Right(_)), "{observed:?}");

    let moves: [fn(&mut Found, &str); 3] = [
        |found, subnet| {
            let other = "10.7.2.0/24".to_owned();
            found.subnet_cidrs.insert(subnet.to_owned(), other);
        },
        |found, _| found.vpc_cidr = Some("10.6.0.0/16".to_owned()),
        |found, _| found.subnet_cidrs.clear(),
    ];
    for moved in moves {
        let mut other = found.clone();
        moved(&mut other, &subnet);
        let mut site = work(&desk, file.clone(), other);
        let observed = step.observe(&mut site).await.unwrap();
        assert!(matches!(observed, Observed::Wanting(_)), "{observed:?}");
        let steps: Vec<Box<dyn Step>> = vec![Box::new(steps::Network(cloud.clone()))];
        let (name, error) = provision::run(&steps, &mut site).await.unwrap_err();
        assert_eq!(name, StepName::Network);
        let StepError::Blocked { what } = error else {
            panic!("{error:?}");
        };
        assert!(
            what.contains(&format!("the addresses of {vpc} have changed")),
            "{what}"
        );
    }

    // A subnet that is in another VPC than the file says.
    let other = [("Action", "CreateVpc"), ("CidrBlock", "10.7.0.0/16")];
    let other = desk.world.overlay.ec2(&other, "vpcId").await;
    desk.change(&vpc, &other);
    let mut site = work(&desk, desk.file(), found);
    let error = step.observe(&mut site).await.unwrap_err();
    let told = kops_mirror::events::told(&error);
    assert!(
        told.contains(&format!("{subnet} is in {vpc}, and not in {other}")),
        "{told}"
    );
}

fn work(desk: &Desk, file: ClusterFile, found: Found) -> provision::Site {
    let base = "https://s3.cn-north-1.amazonaws.com.cn/mirror/k8s"
        .parse()
        .unwrap();
    provision::Site {
        digest: Digest::of(Algorithm::Sha256, b"the file"),
        settings: file.settings(base, None).unwrap(),
        journal: Journal::new(&file.name),
        file,
        found,
        manifest: None,
        kept: None,
        state: None,
        folder: desk.folder(),
        acted: BTreeSet::new(),
        observer: Arc::new(Silent),
        stop: CancellationToken::new(),
    }
}
