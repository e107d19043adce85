//! What a mirror in a folder does beyond the contract: it remembers its MD5s, cleans up, and names what is in the way.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::store::folder::FolderStore;
use kops_mirror::store::{Condition, ETag, Store, StoreError, StoreErrorKind};
use kops_mirror::verify::Verified;

use crate::store_contract::{attributes, key};

const ETAGS: &str = ".kops-mirror-etags";

async fn put(store: &FolderStore, at: &str, content: &str) -> Result<ETag, StoreError> {
    let content = Verified::composed(content.to_owned());
    store
        .put(&key(at), &content, &attributes(), &Condition::Any)
        .await
}

async fn etag_in_listing(root: &Path, at: &str) -> ETag {
    let listing = FolderStore::new(root).list().await.unwrap();
    let found = listing.objects.into_iter().find(|o| o.key == key(at));
    found.unwrap().etag
}

fn md5(content: &str) -> ETag {
    ETag::from(Digest::of(Algorithm::Md5, content.as_bytes()))
}

#[tokio::test]
async fn a_listing_reads_no_file_that_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    put(&FolderStore::new(dir.path()), "a/file", "content")
        .await
        .unwrap();
    let remembered = dir.path().join(ETAGS);
    let lines = fs::read_to_string(&remembered).unwrap();
    // A lie in the cache shows that the cache is what is asked.
    let lie = lines.replace(md5("content").as_str(), md5("lie").as_str());
    assert_ne!(lie, lines);
    fs::write(&remembered, lie).unwrap();
    assert_eq!(etag_in_listing(dir.path(), "a/file").await, md5("lie"));
    // Without the cache the file itself is.
    fs::remove_file(&remembered).unwrap();
    assert_eq!(etag_in_listing(dir.path(), "a/file").await, md5("content"));
}

#[tokio::test]
async fn a_file_that_was_touched_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderStore::new(dir.path());
    put(&store, "file", "content").await.unwrap();
    let path = dir.path().join("file");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "CONTENT").unwrap();
    // As a tool does that hides its changes: same length, same time.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert_eq!(etag_in_listing(dir.path(), "file").await, md5("CONTENT"));
    let there = store.stat(&key("file")).await.unwrap().unwrap();
    assert_eq!(there.object.etag, md5("CONTENT"));
}

#[tokio::test]
async fn what_is_not_the_mirrors_is_left_out_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderStore::new(dir.path());
    put(&store, "file", "content").await.unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/config"), "x").unwrap();
    fs::write(dir.path().join("back\\slash"), "x").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    let mut listing = store.list().await.unwrap();
    listing.foreign.sort();
    assert_eq!(listing.foreign, ["back\\slash", "link"]);
    assert_eq!(listing.objects.len(), 1);
}

#[tokio::test]
async fn preparing_removes_what_dead_runs_left_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not/there/yet");
    let store = FolderStore::new(&root);
    store.prepare(true).await.unwrap();
    put(&store, "a/file", "content").await.unwrap();
    let old = SystemTime::now() - Duration::from_secs(600);
    let names = ["a/.kops-mirror-7-0", "a/.kops-mirror-7-1", "a/.other-7-2"];
    let paths = names.map(|name| root.join(name));
    for path in &paths {
        File::create(path).unwrap().set_modified(old).unwrap();
    }
    let being_written = File::open(&paths[1]).unwrap();
    being_written.lock().unwrap();
    store.prepare(true).await.unwrap();
    assert_eq!(paths.map(|path| path.exists()), [false, true, true]);
    assert!(root.join(ETAGS).exists());
    assert!(root.join("a/file").exists());
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderStore::new(dir.path());
    put(&store, "file", "content").await.unwrap();
    put(&store, "folder/file", "content").await.unwrap();
    for (at, told) in [
        ("file/below", "a file stands where a folder is needed"),
        ("file/below/that", "a file stands where a folder is needed"),
        ("folder", "a folder stands where the file is to be"),
        ("folder/.hidden", "start with a dot"),
    ] {
        for condition in [Condition::Any, Condition::Absent] {
            let content = Verified::composed("content");
            let put = store
                .put(&key(at), &content, &attributes(), &condition)
                .await;
            let error = put.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Permanent, "{at}: {error}");
            assert!(error.what.contains(told), "{at}: {error}");
        }
    }
    let left: Vec<_> = fs::read_dir(dir.path().join("folder")).unwrap().collect();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_root_that_cannot_be_is_told_before_any_byte_moves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = FolderStore::new(&path).prepare(true).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Permanent);
    assert!(error.what.contains(&path.display().to_string()), "{error}");
}
