//! Shows that generated releases are found at their canonical paths on a loopback origin.

use kops_mirror::loopback::origin::Origin;
use kops_mirror::loopback::releases::{Kind, Releases};
use semver::Version;

#[tokio::test]
async fn both_eras_are_served_by_one_origin() {
    let releases = Releases::scaled_down(2000)
        .with_legacy(&Version::new(1, 8, 10), &Version::new(1, 8, 1))
        .with_modern(&Version::new(1, 34, 8), &Version::new(1, 36, 2));
    let origin = Origin::start().unwrap();
    releases.publish_on(&origin);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (url, published) in releases.files() {
        let mut there = origin.host_url(url.host_str().unwrap());
        there.set_path(&format!("{}{}", there.path(), url.path()));
        let answer = client.get(there).send().await.unwrap();
        let is_download = url.host_str() == Some("github.com");
        let port = answer.url().port().unwrap();
        assert_eq!(port == origin.signed_address().port(), is_download, "{url}");
        let content = &published.file.content;
        let body = answer.bytes().await.unwrap();
        assert_eq!(body, content.read(0..content.length()), "{url}");
    }
    let assets = releases.files().filter(|(_, p)| p.kind == Kind::Asset);
    assert!(assets.count() > 60);
}
