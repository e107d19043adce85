//! A cluster that is there, and a file that has changed since.

use super::site::{Ran, Site};
use crate::support::program::finish;

const MORE: &str = "  - {name: more, machineType: m5.large, min: 1}\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_out_of_the_file_goes() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "networking: calico",
        "networking: calico\ntags: {owner: platform}",
    );
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    site.run(&["plan"]).await.ends(0);
    site.edit("\ntags: {owner: platform}", "");
    site.run(&["plan"])
        .await
        .ends(3)
        .says("what it has no more goes");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    let manifest = std::fs::read_to_string(site.path("work/manifest.yaml")).unwrap();
    assert!(!manifest.contains("owner"), "{manifest}");
    site.run(&["plan"]).await.ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_a_group_do_not_go_without_a_word() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit("networking:", &format!("{MORE}networking:"));
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    site.edit(MORE, "");
    site.run(&["plan"])
        .await
        .ends(3)
        .says("InstanceGroup more is not wanted");
}

/// Under the same path, too.
#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_given_to_kops() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    let path = site.path("id.pub");
    let key = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, key.replace("tests", "others")).unwrap();
    site.run(&["plan"]).await.ends(3).says("give kops id.pub");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    let calls = site.calls();
    let given = calls
        .iter()
        .filter(|call| call.starts_with("create sshpublickey"));
    assert_eq!(given.count(), 2, "{calls:?}");
    site.run(&["plan"]).await.ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_copy_of_the_cluster_s_keys_is_left() {
    let Some(site) = Site::of_2018().await else {
        return;
    };
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    site.run(&["plan"]).await.ends(0);
    assert!(!site.path("work/preview/state").exists());
    let copied = site.state_keys().await;
    assert!(
        !copied.iter().any(|key| key.contains("preview")),
        "{copied:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_s_profile_goes_before_keys_in_the_environment() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "region: cn-north-1\n",
        "region: cn-north-1\nprofile: china\n",
    );
    let keys = &site.world.keys;
    let profile = format!(
        "[profile china]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        keys.access_key, keys.secret_key
    );
    std::fs::write(site.path("aws"), profile).unwrap();
    let mut command = site.command(&["preflight", "--only", "P01"]);
    command
        .env("AWS_CONFIG_FILE", site.path("aws"))
        .env("AWS_ACCESS_KEY_ID", "AKIAOTHER")
        .env("AWS_SECRET_ACCESS_KEY", "of another account");
    let ran = Ran::from(finish(command).await)
        .ends(0)
        .says("the profile china belong to the account");
    // moto's own account, which keys that it does not know are taken for.
    assert!(!ran.stdout.contains("123456789012"), "{}", ran.stdout);
}
