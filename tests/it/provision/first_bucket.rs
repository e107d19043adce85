//! `apply` where there is no state store yet: it is made, with everything set, and it goes again where a run that made it fails and is
//! to be rolled back.

use std::os::unix::fs::PermissionsExt;

use kops_mirror::cloud::Filter;
use kops_mirror::partition::Partition;
use kops_mirror::store::s3::{Bucket, Keys, S3Options};

use super::site::{Ran, Site};
use super::world::CHINA;
use crate::support::program::finish;

/// A site whose file names a bucket that is not there.
struct First {
    site: Site,
    bucket: String,
}

impl First {
    fn at(site: Site) -> Self {
        site.edit("stateStore: {bucket: state-", "stateStore: {bucket: first-");
        let bucket = format!("first-{}", site.world.overlay.account_key().to_lowercase());
        // Where a real kops leaves the keys of the API that it looks for.
        if let Some(api) = &mut site.world.overlay.orders().api {
            api.state_store.clone_from(&bucket);
        }
        Self { site, bucket }
    }

    async fn today() -> Option<Self> {
        Some(Self::at(Site::today().await?))
    }

    async fn is_there(&self) -> bool {
        self.site.world.overlay.has_bucket(&self.bucket).await
    }

    async fn bucket(&self) -> Bucket {
        let keys = Keys {
            access_key: self.site.world.keys.access_key.clone(),
            secret_key: self.site.world.keys.secret_key.clone(),
        };
        let options = S3Options {
            region: Some(CHINA.to_owned()),
            endpoint: Some(self.site.world.overlay.url().clone()),
            keys: Some(keys),
            ..S3Options::new(&self.bucket, "")
        };
        Bucket::connect(&options).await.unwrap()
    }

    /// Destroyed, its bucket is gone.
    async fn goes(&self) {
        let destroyed = self.site.run(&["destroy", "--yes", "--include", "bucket"]);
        destroyed.await.ends(0);
        assert!(!self.is_there().await);
    }

    /// How often something was set on a bucket, or one was made.
    fn changes(&self) -> usize {
        let overlay = &self.site.world.overlay;
        let sets = [
            "Versioning",
            "Encryption",
            "PublicAccessBlock",
            "Policy",
            "Tagging",
        ];
        let sets = sets.map(|property| overlay.count(&format!("PutBucket{property}")));
        overlay.count("CreateBucket") + sets.iter().sum::<usize>()
    }

    /// Whether the account has nothing of what a run makes, and all that it had.
    async fn is_as_before(&self) {
        assert!(!self.is_there().await, "the bucket is still there");
        assert_eq!(self.site.instances().await, 0);
        let cloud = self.site.world.cloud(CHINA).await;
        let left = kops_mirror::ami::leftovers(&cloud, None).await.unwrap();
        assert_eq!(left, []);
        let ours = Filter::new("key", "kops-mirror/made-by");
        assert_eq!(cloud.tags(&[ours]).await.unwrap(), []);
        let mirror = self.bucket.replace("first-", "mirror-");
        let state = self.bucket.replace("first-", "state-");
        for bucket in [mirror, state] {
            assert!(
                self.site.world.overlay.has_bucket(&bucket).await,
                "{bucket} is gone"
            );
        }
        let journal = std::fs::read_to_string(self.site.path("work/state.json")).unwrap();
        assert!(!journal.contains("\"made\""), "{journal}");
        assert!(journal.contains("rolled back"), "{journal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_makes_the_state_store_with_everything_set() {
    let Some(first) = First::today().await else {
        return;
    };
    let site = &first.site;
    site.run(&["plan"]).await.ends(3);
    assert!(!first.is_there().await, "a plan made the bucket");
    assert_eq!(first.changes(), 0);
    site.run(&["apply", "--yes"]).await.ends(0);
    let created = site.world.overlay.asked("CreateBucket");
    assert_eq!(created.len(), 1);
    let body = String::from_utf8_lossy(&created[0].body).into_owned();
    assert!(body.contains("<LocationConstraint>cn-north-1<"), "{body}");
    let bucket = first.bucket().await;
    let settings = bucket.settings().await.unwrap();
    assert!(settings.is_versioned && settings.is_private, "{settings:?}");
    assert_eq!(settings.encryption.as_ref().unwrap().algorithm, "AES256");
    let policy = settings.policy.as_ref().unwrap();
    let own = format!("arn:aws-cn:s3:::{}/*", first.bucket);
    assert!(
        policy.contains(&own) && policy.contains("aws:SecureTransport"),
        "{policy}"
    );
    assert_eq!(
        settings.lacks(Partition::of_region(CHINA), &first.bucket, None),
        []
    );
    let tags = bucket.tags().await.unwrap();
    assert_eq!(tags["kops-mirror/made-by"], "kops-mirror");
    assert_eq!(tags["kops-mirror/cluster"], "china.k8s.local");
    assert_eq!(site.instances().await, 2);

    let (changes, policy) = (first.changes(), settings.policy.clone());
    site.run(&["apply", "--yes"]).await.ends(0);
    assert_eq!(first.changes(), changes, "the second run set something");
    assert_eq!(
        first.bucket().await.settings().await.unwrap().policy,
        policy
    );
    assert_eq!(site.instances().await, 2);
    site.run(&["plan"])
        .await
        .ends(0)
        .says("Nothing is to be done.");

    site.run(&["destroy", "--yes", "--include", "bucket"])
        .await
        .ends(0);
    assert!(!first.is_there().await);
    assert_eq!(site.instances().await, 0);
}

/// The run fails while it still sets what the bucket must have.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_could_not_be_set_as_it_must_is_rolled_back() {
    let Some(first) = First::today().await else {
        return;
    };
    let overlay = &first.site.world.overlay;
    overlay.refuse("PutBucketVersioning", 403, "AccessDenied");
    // Without being told to, it is left for the next try.
    let said = first.site.run(&["apply", "--yes"]).await;
    said.ends(2).says("can't have versions kept in");
    assert!(first.is_there().await);
    overlay.orders().refused.clear();
    first.goes().await;

    overlay.refuse("PutBucketVersioning", 403, "AccessDenied");
    let said = first.site.run(&["apply", "--yes", "--rollback"]).await;
    said.ends(2).says("can't have versions kept in");
    first.is_as_before().await;
    overlay.orders().refused.clear();
    first
        .site
        .run(&["apply", "--yes", "--rollback"])
        .await
        .ends(0);
    assert_eq!(first.site.instances().await, 2);
}

/// Between the bucket and the first step that needs kops, which an old release has not been asked for before.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_kops_can_not_read_takes_its_bucket_back() {
    let Some(site) = Site::of_2018().await else {
        return;
    };
    let first = First::at(site);
    let real = first.site.kops();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = version ]; then exec '{}' \"$@\"; fi\necho 'Error: out of order' >&2\nexit 1\n",
        real.display()
    );
    let program = first.site.path("broken");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let failing = ["apply", "--yes", "--rollback"];
    let mut command = first.site.command_without_kops(&failing);
    command.arg("--kops").arg(&program);
    let ran = Ran::from(finish(command).await);
    ran.ends(2).says("out of order");
    assert_eq!(first.site.world.overlay.count("CreateBucket"), 1);
    first.is_as_before().await;
    first.site.run(&failing).await.ends(0);
    assert_eq!(first.site.instances().await, 2);
}

/// kops has the cluster by then, and objects with versions are in the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_at_kops_takes_its_bucket_back() {
    let Some(first) = First::today().await else {
        return;
    };
    first.site.edit(
        "acknowledge:",
        "overrides: {cluster: {bogusField: x}}\nacknowledge:",
    );
    let said = first.site.run(&["apply", "--yes", "--rollback"]).await;
    said.ends(2).says("spec.bogusField is gone");
    first.is_as_before().await;
}

/// Hosts run by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_after_hosts_were_made_takes_all_of_it_back() {
    let Some(first) = First::today().await else {
        return;
    };
    // Shown with the stand-in alone: a real kops does not come through here yet.
    if first.site.real_kops().is_some() {
        return;
    }
    // Where the kubeconfig is to be there is a folder.
    std::fs::create_dir_all(first.site.path("work/kubeconfig/x")).unwrap();
    let said = first.site.run(&["apply", "--yes"]).await;
    assert_ne!(said.code, Some(0));
    assert_eq!(first.site.instances().await, 2);
    first
        .site
        .run(&["destroy", "--yes", "--include", "bucket"])
        .await
        .ends(0);
    let said = first.site.run(&["apply", "--yes", "--rollback"]).await;
    assert_ne!(said.code, Some(0));
    first.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_there_before_stays() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "acknowledge:",
        "overrides: {cluster: {bogusField: x}}\nacknowledge:",
    );
    let failing = ["apply", "--yes", "--rollback"];
    // Somebody else's.
    site.run(&failing)
        .await
        .ends(2)
        .says("spec.bogusField is gone");
    let theirs = format!("state-{}", site.world.overlay.account_key().to_lowercase());
    assert!(site.world.overlay.has_bucket(&theirs).await);
    assert_eq!(site.instances().await, 0);
    // One's own, of an earlier run.
    let first = First::at(site);
    first.site.run(&["state-bucket", "ensure"]).await.ends(0);
    first
        .site
        .run(&failing)
        .await
        .ends(2)
        .says("spec.bogusField is gone");
    assert!(first.is_there().await);
    let tags = first.bucket().await.tags().await.unwrap();
    assert_eq!(tags["kops-mirror/made-by"], "kops-mirror");
    let left = first.site.world.overlay.keys(&first.bucket).await;
    assert!(
        !left.iter().any(|key| key.starts_with("china.k8s.local/")),
        "{left:?}"
    );
    // It can still be removed as what it is.
    first
        .site
        .edit("overrides: {cluster: {bogusField: x}}\n", "");
    first.goes().await;
}
