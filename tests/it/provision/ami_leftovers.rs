//! What is left of copies is found by its tags, and taken away.

use kops_mirror::ami::{Kind, leftovers, remove};
use kops_mirror::cluster::CopyEngine;

use super::ami_copy::Ends;

#[tokio::test]
async fn what_a_failed_copy_leaves_is_found_and_goes() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    ends.disk(4);
    let overlay = &ends.world.overlay;
    overlay.refuse("CompleteSnapshot", 400, "ValidationException");
    assert!(
        ends.copy(&ends.world.order(CopyEngine::EbsDirect))
            .await
            .is_err()
    );
    let here = leftovers(&ends.target, Some("prod.k8s.local"))
        .await
        .unwrap();
    assert_eq!(here.len(), 1, "{here:?}");
    assert_eq!((here[0].kind, here[0].role), (Kind::Snapshot, "way"));
    assert_eq!(
        here[0].source.as_deref(),
        Some("us-east-1/ami-0a240000000000002")
    );
    assert!(
        leftovers(&ends.target, Some("other.k8s.local"))
            .await
            .unwrap()
            .is_empty()
    );
    let there = leftovers(&ends.source, None).await.unwrap();
    assert_eq!((there.len(), there[0].kind), (1, Kind::Image));
    for (cloud, found) in [(&ends.target, here), (&ends.source, there)] {
        for leftover in found {
            remove(cloud, &leftover).await.unwrap();
            remove(cloud, &leftover).await.unwrap();
        }
    }
    assert_eq!(ends.left().await, Vec::<String>::new());
}
