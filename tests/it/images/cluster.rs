//! All that a cluster needs, by the catalogue: files and images are mirrored, and `env` says where both are.

use crate::support::cluster::Cluster;
use crate::support::gallery::told;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn env_says_where_the_images_are_that_a_cluster_pulls() {
    let cluster = Cluster::new().await;
    let place = cluster.place();
    let registry = format!("containerRegistry: \"{place}\"");
    let before = cluster
        .env(&["--to-registry", &place, "--as", "spec"])
        .await;
    // Nobody has brought anything, so what is typed is believed, with a warning.
    assert!(before.contains("is not complete there"), "{before}");
    assert!(before.contains(&registry), "{before}");

    let output = cluster.sync().await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    for image in &cluster.images {
        let there = cluster.find(image).unwrap();
        assert!(there.tags.contains_key(image.tag().unwrap()), "{image}");
    }
    // By the index alone, and by the registry that is typed.
    for more in [vec![], vec!["--to-registry", place.as_str()]] {
        let spec = cluster.env(&[&more[..], &["--as", "spec"]].concat()).await;
        assert!(spec.contains(&registry), "{spec}");
        assert!(!spec.contains("is not complete"), "{spec}");
    }
    let flags = cluster.env(&["--as", "flags"]).await;
    assert!(flags.contains(&place), "{flags}");
    // Where they are not, nobody is sent.
    let other = cluster
        .env(&["--to-registry", "registry.example.cn/k8s", "--as", "spec"])
        .await;
    assert!(!other.contains("containerRegistry"), "{other}");
    let why = format!("are at {place}, and not at registry.example.cn/k8s");
    assert!(other.contains(&why), "{other}");
}
