//! Images from one partition to another, and within one: by each engine, and taken up where an earlier run stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use kops_mirror::ami::{Buckets, Copied, CopyOrder, copy};
use kops_mirror::cloud::{Cloud, ImageState, Images};
use kops_mirror::cluster::CopyEngine;
use kops_mirror::events::Silent;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::overlay::content;
use super::world::{CHINA, GLOBAL, UBUNTU, World};

/// Both ends.
pub(super) struct Ends {
    pub(super) world: World,
    pub(super) source: Cloud,
    pub(super) target: Cloud,
    pub(super) buckets: Buckets,
}

impl Ends {
    pub(super) async fn start() -> Option<Self> {
        let world = World::start().await?;
        let (source, target) = (world.cloud(GLOBAL).await, world.cloud(CHINA).await);
        let buckets = world.buckets().await;
        Some(Self {
            world,
            source,
            target,
            buckets,
        })
    }

    pub(super) async fn copy(
        &self,
        order: &CopyOrder,
    ) -> Result<Copied, kops_mirror::ami::AmiError> {
        copy(
            &self.source,
            &self.target,
            Some(&self.buckets),
            order,
            &Silent,
        )
        .await
    }

    /// What the account has that was made by the program, at both ends.
    pub(super) async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for cloud in [&self.source, &self.target] {
            let found = kops_mirror::ami::leftovers(cloud, None).await.unwrap();
            left.extend(
                found
                    .into_iter()
                    .map(|leftover| format!("{} {}", leftover.role, leftover.id)),
            );
        }
        for depot in [&self.buckets.from, &self.buckets.to] {
            for key in self.world.overlay.keys(depot.bucket()).await {
                left.push(format!("object {key}"));
            }
        }
        left
    }

    /// A disk of so many blocks, with holes and a block that has nothing in it.
    pub(super) fn disk(&self, blocks: u64) {
        let mut noise = fastrand::Rng::with_seed(3);
        for n in 0..blocks {
            let mut block = vec![0; 512 << 10];
            if n != 2 {
                noise.fill(&mut block);
            }
            self.world.overlay.orders().disk.insert(n * 3, block);
        }
    }
}

#[tokio::test]
async fn an_object_crosses_and_becomes_an_image_and_nothing_of_the_way_stays() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    {
        let mut orders = ends.world.overlay.orders();
        (orders.storing, orders.hidden, orders.pending) = (3, 1, 2);
    }
    let copied = ends
        .copy(&ends.world.order(CopyEngine::StoreRestore))
        .await
        .unwrap();
    assert_eq!(copied.by, Some("store-restore"));
    assert_eq!(copied.image.state, ImageState::Available);
    assert_eq!(copied.image.name.as_deref(), Some("noble"));
    assert_eq!(
        copied.image.tag("kops-mirror/cluster"),
        Some("prod.k8s.local")
    );
    assert_eq!(
        copied.image.tag("kops-mirror/source"),
        Some("us-east-1/ami-0a240000000000002")
    );
    let content = content();
    assert_eq!(
        (copied.carried_bytes, copied.resumed_bytes),
        (content.len() as u64, 0)
    );
    assert_eq!(copied.sha256, Some(hex::encode(Sha256::digest(&content))));
    assert_eq!(
        ends.left().await,
        [format!("image {}", copied.image.image_id)]
    );
    // Public images can't be stored: there was a copy of one's own, within the source's partition.
    let own = ends.world.overlay.asked("CopyImage");
    assert_eq!((own.len(), own[0].region.as_str()), (1, GLOBAL));
    assert_eq!(own[0].tag("kops-mirror/role"), Some("way"));
    let tags = ends.world.overlay.asked("CreateStoreImageTask").remove(0);
    assert_eq!(tags.field("S3ObjectTag.1.Key"), Some("kops-mirror/made-by"));
}

#[tokio::test]
async fn asked_twice_there_is_one_image_and_nothing_crosses_again() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = ends.world.order(CopyEngine::StoreRestore);
    let first = ends.copy(&order).await.unwrap();
    let parts = ends.world.overlay.count("UploadPart");
    let second = ends.copy(&order).await.unwrap();
    assert_eq!(first.image, second.image);
    assert_eq!((second.by, second.carried_bytes), (None, 0));
    assert_eq!(ends.world.overlay.count("UploadPart"), parts);
    assert_eq!(ends.world.overlay.count("CreateRestoreImageTask"), 1);
}

/// The source's own parts are taken, so that the ETag of the whole is the same and proves it, whoever put which part.
#[tokio::test]
async fn a_copy_that_broke_in_the_middle_brings_only_the_parts_that_are_missing() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = ends.world.order(CopyEngine::StoreRestore);
    ends.world
        .overlay
        .orders()
        .silent_after
        .insert("UploadPart".to_owned(), 1);
    let broken = timeout(Duration::from_secs(4), ends.copy(&order)).await;
    assert!(
        broken.is_err(),
        "it was to hang after its first part: {broken:?}"
    );
    ends.world.overlay.orders().silent_after.clear();
    let copied = ends.copy(&order).await.unwrap();
    let whole = content().len() as u64;
    assert_eq!(copied.carried_bytes + copied.resumed_bytes, whole);
    assert!(copied.resumed_bytes >= 12_345, "{copied:?}");
    assert_eq!(copied.sha256, None, "not all of it passed in one run");
    for once in [
        "CopyImage",
        "CreateStoreImageTask",
        "CreateMultipartUpload",
        "CreateRestoreImageTask",
    ] {
        assert_eq!(ends.world.overlay.count(once), 1, "{once}");
    }
    assert_eq!(
        ends.left().await,
        [format!("image {}", copied.image.image_id)]
    );
}

#[tokio::test]
async fn a_copy_that_broke_while_it_was_restored_waits_for_the_same_image() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = ends.world.order(CopyEngine::StoreRestore);
    {
        let mut orders = ends.world.overlay.orders();
        (orders.pending, orders.slow_region) = (100_000, Some(CHINA.to_owned()));
    }
    let restoring = async {
        let asks_for_it = |asked: &super::overlay::Asked| {
            asked.region == CHINA && asked.field("ImageId.1").is_some()
        };
        while !ends
            .world
            .overlay
            .asked("DescribeImages")
            .iter()
            .any(asks_for_it)
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = ends.copy(&order) => panic!("it was to be pending: {ended:?}"),
        () = restoring => {}
    }
    ends.world.overlay.make_available();
    let copied = ends.copy(&order).await.unwrap();
    assert_eq!(copied.by, None, "it was there already, and only pending");
    assert_eq!(ends.world.overlay.count("CreateRestoreImageTask"), 1);
}

#[tokio::test]
async fn blocks_cross_with_their_digests_and_empty_ones_do_not() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    ends.disk(8);
    let copied = ends
        .copy(&ends.world.order(CopyEngine::EbsDirect))
        .await
        .unwrap();
    assert_eq!(copied.by, Some("ebs-direct"));
    assert_eq!(copied.carried_bytes, 8 * (512 << 10));
    let snapshots = ends.world.overlay.snapshots();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(
        ends.world.overlay.blocks_of(&snapshots[0]),
        [0, 3, 9, 12, 15, 18, 21]
    );
    let registered = ends.world.overlay.asked("RegisterImage").remove(0);
    assert_eq!(registered.field("Architecture"), Some("x86_64"));
    assert_eq!(registered.field("RootDeviceName"), Some("/dev/sda1"));
    assert_eq!(registered.field("BootMode"), Some("uefi"));
    assert_eq!(
        registered.field("BlockDeviceMapping.1.Ebs.SnapshotId"),
        Some(snapshots[0].as_str())
    );
    assert_eq!(registered.tag("kops-mirror/role"), Some("image"));
    assert!(
        !ends
            .world
            .order(CopyEngine::EbsDirect)
            .journal
            .join(format!("{}.blocks", snapshots[0]))
            .exists()
    );
    let tags = ends
        .target
        .snapshots(&[&snapshots[0]], &[])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(tags.tag("kops-mirror/role"), Some("image"));
}

#[tokio::test]
async fn blocks_that_are_there_do_not_cross_again() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    ends.disk(12);
    let order = ends.world.order(CopyEngine::EbsDirect);
    ends.world
        .overlay
        .orders()
        .silent_after
        .insert("PutSnapshotBlock".to_owned(), 6);
    let broken = timeout(Duration::from_secs(4), ends.copy(&order)).await;
    assert!(
        broken.is_err(),
        "it was to hang after six blocks: {broken:?}"
    );
    ends.world.overlay.orders().silent_after.clear();
    let before = ends.world.overlay.count("PutSnapshotBlock");
    let copied = ends.copy(&order).await.unwrap();
    assert!(copied.resumed_bytes >= 5 * (512 << 10), "{copied:?}");
    let again = ends.world.overlay.count("PutSnapshotBlock") - before;
    assert!(
        again <= 6,
        "{again} blocks were put in the second run, of 11"
    );
    assert_eq!(ends.world.overlay.count("StartSnapshot"), 1);
}

#[tokio::test]
async fn within_a_partition_ec2_copies_alone() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let target = ends.world.cloud("eu-central-1").await;
    let order = ends.world.order(CopyEngine::StoreRestore);
    let copied = copy(&ends.source, &target, None, &order, &Silent)
        .await
        .unwrap();
    assert_eq!((copied.by, copied.carried_bytes), (Some("copy-image"), 0));
    let asked = ends.world.overlay.asked("CopyImage").remove(0);
    assert_eq!(
        (asked.region.as_str(), asked.field("SourceRegion")),
        ("eu-central-1", Some(GLOBAL))
    );
    assert!(
        asked
            .field("ClientToken")
            .is_some_and(|token| token.len() == 32)
    );
    assert_eq!(ends.world.overlay.count("CreateStoreImageTask"), 0);
}

/// An image of the account's own needs no copy first, and stays.
#[tokio::test]
async fn an_image_of_one_s_own_is_stored_as_it_is() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let like = ends.source.image(UBUNTU).await.unwrap().unwrap();
    let new = kops_mirror::cloud::RegisteredImage {
        name: "mine",
        like: &like,
        devices: &like.devices,
        tags: &[],
    };
    let mine = ends.source.register_image(new).await.unwrap();
    let order = CopyOrder {
        source: mine.clone(),
        name: None,
        ..ends.world.order(CopyEngine::StoreRestore)
    };
    let copied = ends.copy(&order).await.unwrap();
    assert_eq!(copied.image.name.as_deref(), Some("mine"));
    assert_eq!(ends.world.overlay.count("CopyImage"), 0);
    assert!(ends.source.image(&mine).await.unwrap().is_some());
    let left: BTreeSet<_> = ends.left().await.into_iter().collect();
    assert_eq!(
        left,
        BTreeSet::from([format!("image {}", copied.image.image_id)])
    );
    let own = Images {
        owners: vec!["self".to_owned()],
        ..Images::default()
    };
    assert_eq!(ends.source.images(&own).await.unwrap().len(), 1);
}
