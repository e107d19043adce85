//! Where a blob can be had.

use url::Url;

use crate::image::{Blob, Reference};

/// The URLs of a blob at the registries of the images that have it, the first of them its canonical one.
pub fn urls(holders: &[Reference], blob: &Blob, _regions: &[String]) -> Vec<Url> {
    let url = |image: &Reference| {
        let (host, path) = (image.api_host(), image.repository());
        let scheme = if host.starts_with("127.0.0.1") || host.starts_with("localhost") {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{host}/v2/{path}/blobs/{}", blob.digest)
            .parse()
            .expect("a reference is good in a URL")
    };
    let mut urls: Vec<Url> = Vec::new();
    for image in holders {
        let url = url(image);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}
