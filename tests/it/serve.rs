//! Shows what a served folder mirror gives, and what it keeps to itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::serve::{self, ServeError};
use reqwest::header::{ETAG, HeaderMap};
use reqwest::{Client, Method, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::wire::Wire;

const KUBELET: &str = "release/v1.34.8/bin/linux/amd64/kubelet";

/// A folder mirror with a few files, being served.
struct Lab {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
    client: Client,
}

impl Lab {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror");
        write(&mirror, KUBELET, &content());
        write(&mirror, &format!("{KUBELET}.sha256"), b"abc\n");
        write(&mirror, "release/v1.34.8/.kubelet.part", b"half");
        write(&mirror, ".state/journal", b"private");
        write(folder.path(), "outside", b"secret");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let until = stop.clone();
        let server =
            tokio::spawn(async move { serve::open(&mirror).await?.run(listener, until).await });
        let client = Client::builder().no_proxy();
        let client = client.redirect(reqwest::redirect::Policy::none());
        Self {
            folder,
            address,
            stop,
            server,
            client: client.build().unwrap(),
        }
    }

    fn mirror(&self) -> std::path::PathBuf {
        self.folder.path().join("mirror")
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let url = format!("http://{}/{path}", self.address);
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.ask(Method::GET, path, headers).await
    }

    /// Asks with a path that client libraries would tidy up.
    async fn raw_status(&self, path: &str) -> u16 {
        let mut wire = Wire::connect(self.address).await;
        wire.send("GET", path, &[]).await;
        wire.head().await.status
    }
}

fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn md5_etag(content: &[u8]) -> String {
    format!("\"{}\"", Digest::of(Algorithm::Md5, content).hex())
}

fn write(folder: &Path, key: &str, content: &[u8]) {
    let path = folder.join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn files_come_whole_with_the_md5_as_etag() {
    let lab = Lab::start().await;
    for method in [Method::GET, Method::HEAD] {
        let answer = lab.ask(method.clone(), KUBELET, &[]).await;
        assert_eq!(answer.status(), 200);
        let headers = answer.headers().clone();
        assert_eq!(header(&headers, "etag"), md5_etag(&content()));
        assert_eq!(header(&headers, "content-length"), "800000");
        assert_eq!(header(&headers, "accept-ranges"), "bytes");
        assert_eq!(header(&headers, "content-type"), "application/octet-stream");
        assert!(headers.contains_key("last-modified"));
        let body = answer.bytes().await.unwrap();
        let expected = if method == Method::GET {
            content()
        } else {
            Vec::new()
        };
        assert_eq!(body, expected);
    }
    let sidecar = lab.get(&format!("{KUBELET}.sha256"), &[]).await;
    assert_eq!(
        header(sidecar.headers(), "content-type"),
        "text/plain; charset=utf-8"
    );
}

#[tokio::test]
async fn a_range_comes_exactly_and_one_beyond_the_end_is_refused() {
    let lab = Lab::start().await;
    for (asked, range) in [
        ("bytes=0-0", 0..1),
        ("bytes=1000-70000", 1000..70_001),
        ("bytes=799999-", 799_999..800_000),
        ("bytes=-3", 799_997..800_000),
    ] {
        let answer = lab.get(KUBELET, &[("range", asked)]).await;
        assert_eq!(answer.status(), 206, "{asked}");
        let expected = format!("bytes {}-{}/800000", range.start, range.end - 1);
        assert_eq!(header(answer.headers(), "content-range"), expected);
        assert_eq!(header(answer.headers(), "etag"), md5_etag(&content()));
        assert_eq!(answer.bytes().await.unwrap(), content()[range]);
    }
    let answer = lab.get(KUBELET, &[("range", "bytes=800000-")]).await;
    assert_eq!(answer.status(), 416);
    assert_eq!(header(answer.headers(), "content-range"), "bytes */800000");
    let several = lab.get(KUBELET, &[("range", "bytes=0-1,4-5")]).await;
    assert_eq!(several.status(), 200);
}

#[tokio::test]
async fn conditions_are_judged_by_the_etag_and_then_by_the_date() {
    let lab = Lab::start().await;
    let etag = md5_etag(&content());
    let modified = lab.get(KUBELET, &[]).await;
    let date = header(modified.headers(), "last-modified").to_owned();
    let old = "Thu, 01 Jan 1970 00:00:10 GMT";
    for (conditions, status) in [
        (vec![("if-none-match", etag.as_str())], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        // The ETag outranks the date.
        (
            vec![("if-none-match", "\"other\""), ("if-modified-since", &date)],
            200,
        ),
        (vec![("if-modified-since", &date)], 304),
        (vec![("if-modified-since", old)], 200),
        (vec![("if-match", &etag)], 200),
        (vec![("if-match", &etag), ("if-unmodified-since", old)], 200),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("if-unmodified-since", old)], 412),
        (vec![("range", "bytes=0-1"), ("if-range", &etag)], 206),
        (vec![("range", "bytes=0-1"), ("if-range", "\"other\"")], 200),
    ] {
        let answer = lab.get(KUBELET, &conditions).await;
        assert_eq!(answer.status(), status, "{conditions:?}");
    }
}

#[tokio::test]
async fn the_etag_follows_the_content() {
    let lab = Lab::start().await;
    let before = lab.get(KUBELET, &[]).await.headers()[ETAG].clone();
    // As a folder store does it: another file, renamed to its place.
    let path = lab.mirror().join(KUBELET);
    let fresh = path.with_file_name(".kubelet.new");
    let mut other = content();
    other[0] ^= 1;
    std::fs::write(&fresh, &other).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    let answer = lab.get(KUBELET, &[]).await;
    assert_ne!(answer.headers()[ETAG], before);
    assert_eq!(header(answer.headers(), "etag"), md5_etag(&other));
}

#[tokio::test]
async fn nothing_outside_the_folder_is_served() {
    let lab = Lab::start().await;
    let mirror = lab.mirror();
    symlink("../outside", mirror.join("link")).unwrap();
    symlink("..", mirror.join("up")).unwrap();
    symlink(lab.folder.path().join("outside"), mirror.join("absolute")).unwrap();
    for path in [
        "/../outside",
        "/release/../../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/%2e%2e%2foutside",
        "//../outside",
        "/..\\outside",
        "/link",
        "/up/outside",
        "/absolute",
        "/outside%00",
        "/%ff",
    ] {
        assert_eq!(lab.raw_status(path).await, 404, "{path}");
    }
}

#[tokio::test]
async fn a_link_within_the_folder_is_followed() {
    let lab = Lab::start().await;
    symlink(KUBELET, lab.mirror().join("kubelet")).unwrap();
    assert_eq!(
        lab.get("kubelet", &[]).await.bytes().await.unwrap(),
        content()
    );
}

#[tokio::test]
async fn temporary_files_do_not_exist_for_readers() {
    let lab = Lab::start().await;
    symlink(".state", lab.mirror().join("state")).unwrap();
    for path in [
        "release/v1.34.8/.kubelet.part",
        ".state/journal",
        ".state/",
        "state/journal",
        "%2estate/journal",
    ] {
        assert_eq!(lab.raw_status(&format!("/{path}")).await, 404, "{path}");
    }
    let page = lab.get("release/v1.34.8/", &[]).await.text().await.unwrap();
    assert!(page.contains("bin/") && !page.contains("part"), "{page}");
}

#[tokio::test]
async fn folders_are_listed_with_links_that_lead_on() {
    let lab = Lab::start().await;
    write(&lab.mirror(), "odd/a b&<c>.txt", b"odd");
    let answer = lab.get("odd", &[]).await;
    assert_eq!(answer.status(), 301);
    assert_eq!(header(answer.headers(), "location"), "/odd/");
    let page = lab.get("odd/", &[]).await.text().await.unwrap();
    let link = "<a href=\"a%20b%26%3Cc%3E.txt\">a b&amp;&lt;c&gt;.txt</a>";
    assert!(page.contains(link), "{page}");
    let odd = lab.get("odd/a%20b%26%3Cc%3E.txt", &[]).await;
    assert_eq!(odd.text().await.unwrap(), "odd");
    assert_eq!(lab.get("", &[]).await.status(), 200);
}

#[tokio::test]
async fn what_is_not_there_or_not_for_reading_is_refused() {
    let lab = Lab::start().await;
    for path in [
        "none",
        "release/none",
        &format!("{KUBELET}/x"),
        &format!("{KUBELET}/"),
    ] {
        assert_eq!(lab.get(path, &[]).await.status(), 404, "{path}");
    }
    for method in [Method::PUT, Method::DELETE, Method::POST] {
        let answer = lab.ask(method, KUBELET, &[]).await;
        assert_eq!(answer.status(), 405);
        assert_eq!(header(answer.headers(), "allow"), "GET, HEAD");
    }
}

#[tokio::test]
async fn stops_when_told_and_finishes_what_is_under_way() {
    let lab = Lab::start().await;
    let mut wire = Wire::connect(lab.address).await;
    wire.send("GET", &format!("/{KUBELET}"), &["Connection: close"])
        .await;
    wire.head().await;
    lab.stop.cancel();
    let (body, _) = wire.rest().await;
    assert_eq!(body, content());
    let ended = tokio::time::timeout(Duration::from_secs(5), lab.server).await;
    ended.expect("the server stops").unwrap().unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_with_its_name() {
    let error = serve::open(Path::new("no/such/mirror")).await.unwrap_err();
    assert!(error.to_string().contains("'no/such/mirror'"), "{error}");
}
