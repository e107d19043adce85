//! Nothing is left behind: after destroy, and after a run that failed with --rollback.

use super::ami_build::NAME;
use super::ground::{CLUSTER, Ground};
use super::world::CHINA;

/// A cluster whose image was built.
async fn built() -> Option<Ground> {
    let place = Ground::open("resolve: {distribution: ubuntu-24.04}").await?;
    place.write_file(&Ground::build_of(&place.yard), "1.34.8");
    place.done("apply --yes --no-wait").await;
    Some(place)
}

#[tokio::test]
async fn destroy_tells_all_and_removes_what_it_is_told_to() {
    let Some(place) = built().await else { return };
    let image = place.yard.images().await.remove(0).image_id;
    let said = place.run("destroy").await;
    assert_eq!(said.code, Some(3), "{}\n{}", said.out, said.err);
    assert!(said.out.contains("vpc prod vpc-1"), "{}", said.out);
    let stays = format!("image {image} in {CHINA} ({NAME}) stays, unless --include image is given");
    assert!(said.out.contains(&stays), "{}", said.out);
    assert!(place.has_cluster() && place.yard.images().await.len() == 1);

    place.done("destroy --yes").await;
    assert!(!place.has_cluster());
    assert_eq!(place.yard.images().await.len(), 1);
    // The journal tells of what is left, and of no step any more.
    assert!(place.journal().contains(&image) && !place.journal().contains("keys"));

    place.done("destroy --yes --include image").await;
    assert_eq!(place.yard.images().await, []);
    assert_eq!(place.journal(), "");
    let left = kops_mirror::ami::leftovers(&place.yard.cloud, None)
        .await
        .unwrap();
    assert_eq!(left, []);
    // The bucket was not made here.
    let said = place.done("destroy --yes --include image,bucket").await;
    assert!(said.out.contains("kops has no cluster"), "{}", said.out);
    assert_eq!(
        place.yard.world.overlay.keys(&place.bucket).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_is_left_is_found_by_its_tags_when_journal_and_state_are_lost() {
    let Some(place) = built().await else { return };
    place.yard.world.overlay.remove_bucket(&place.bucket).await;
    std::fs::remove_dir_all(place.path("work")).unwrap();
    std::fs::write(place.path("closed"), "").unwrap();
    let mut order = place.yard.order();
    order.build.name = "another".to_owned();
    order.keeps_instance = true;
    order.pace.deadline = std::time::Duration::from_millis(300);
    place.yard.try_to_build(&order).await.unwrap_err();
    let said = place.done("destroy --yes --include image").await;
    assert!(said.out.contains("There is no state store"), "{}", said.out);
    assert_eq!(place.yard.images().await, []);
    assert_eq!(place.yard.instances().await, []);
}

#[tokio::test]
async fn hosts_that_kops_knows_nothing_of_are_told() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    let fields = [
        ("Action", "RunInstances"),
        ("ImageId", super::world::UBUNTU_CHINA),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", place.yard.subnet.as_str()),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "KubernetesCluster"),
        ("TagSpecification.1.Tag.1.Value", CLUSTER),
    ];
    place.yard.world.overlay.moto_ec2(CHINA, &fields).await;
    let said = place.run("destroy --yes").await;
    assert_eq!(said.code, Some(1), "{}\n{}", said.out, said.err);
    assert!(
        said.err.contains("kops delete cluster --external"),
        "{}",
        said.err
    );
    assert_eq!(place.yard.instances().await.len(), 1);
}

#[tokio::test]
async fn a_state_store_that_was_made_here_goes_with_all_its_versions() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    let overlay = &place.yard.world.overlay;
    overlay.keep_versions(&place.bucket).await;
    overlay
        .tag_bucket(&place.bucket, "kops-mirror/made-by", "kops-mirror")
        .await;
    for _ in 0..3 {
        overlay
            .put(&place.bucket, &format!("{CLUSTER}/config"), "x")
            .await;
    }
    place.done("apply --yes --no-wait").await;
    // Another cluster's holds it up.
    overlay
        .put(&place.bucket, "other.k8s.local/config", "x")
        .await;
    let said = place.run("destroy --yes --include bucket").await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .contains("holds more than this cluster's: other.k8s.local/"),
        "{}",
        said.err
    );
    assert!(!place.has_cluster());
    overlay
        .delete(&place.bucket, "other.k8s.local/config")
        .await;
    let said = place.done("destroy --yes --include bucket").await;
    assert!(
        said.out
            .contains(&format!("the bucket {} is removed", place.bucket)),
        "{}",
        said.out
    );
    assert!(!overlay.has_bucket(&place.bucket).await);
    // Again, and nothing is wrong.
    place.done("destroy --yes --include bucket").await;
}

#[tokio::test]
async fn a_destroy_that_failed_can_be_given_again() {
    let Some(place) = built().await else { return };
    std::fs::write(place.path("kops-delete-fails"), "").unwrap();
    let said = place.run("destroy --yes --include image").await;
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("delete went wrong"), "{}", said.err);
    assert_eq!(place.yard.images().await.len(), 1);
    std::fs::remove_file(place.path("kops-delete-fails")).unwrap();
    let overlay = &place.yard.world.overlay;
    overlay.refuse("DeregisterImage", 403, "UnauthorizedOperation");
    let said = place.run("destroy --yes --include image").await;
    assert_eq!(said.code, Some(1), "{}\n{}", said.out, said.err);
    assert!(said.err.contains("lacks a right"), "{}", said.err);
    assert!(!place.has_cluster());
    place.yard.world.overlay.orders().refused.clear();
    place.done("destroy --yes --include image").await;
    assert_eq!(place.yard.images().await, []);
}

#[tokio::test]
async fn a_run_that_fails_takes_back_what_it_made_and_nothing_else() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    let mut other = place.yard.order();
    other.build.name = "before".to_owned();
    place.yard.built(&other).await;
    place.write_file(&Ground::build_of(&place.yard), "1.34.8");
    std::fs::write(place.path("kops-update-fails"), "").unwrap();
    let said = place.run("apply --yes --no-wait --rollback").await;
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("update went wrong"), "{}", said.err);
    assert!(!place.has_cluster());
    assert!(
        place
            .kops_calls()
            .contains("delete cluster prod.k8s.local --yes")
    );
    let left = place.yard.images().await;
    let names: Vec<_> = left
        .iter()
        .filter_map(|image| image.name.as_deref())
        .collect();
    assert_eq!(names, ["before"]);
    let journal = place.journal();
    assert!(
        journal.contains("rolled back: removed the cluster prod.k8s.local, image ami-"),
        "{journal}"
    );
    assert!(!journal.contains("\"made\""), "{journal}");
    // Without it, all stays for the next try.
    let said = place.run("apply --yes --no-wait").await;
    assert_ne!(said.code, Some(0));
    assert!(place.has_cluster() && place.yard.images().await.len() == 2);
    // And a cluster that was there before is never taken away.
    let said = place.run("apply --yes --no-wait --rollback").await;
    assert_ne!(said.code, Some(0));
    assert!(place.has_cluster() && place.yard.images().await.len() == 2);
}
