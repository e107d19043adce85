use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kops_mirror::loopback::s3::{Options, Storage};
use md5::{Digest as _, Md5};

use super::{BUCKET, Rig, is, quoted, refusal};

/// Parts of three bytes do for these tests.
fn rig(storage: Storage) -> Rig {
    Rig::new(Options {
        part_bytes_min: 3,
        storage,
        ..Options::default()
    })
}

async fn begin(rig: &Rig, key: &str) -> String {
    let create = rig.s3.create_multipart_upload().bucket(BUCKET).key(key);
    let create = create.content_type("application/gzip").metadata("md5", "m");
    create.send().await.unwrap().upload_id.unwrap()
}

async fn put_part(rig: &Rig, upload: &str, number: i32, content: &'static str) -> CompletedPart {
    let put = rig
        .s3
        .upload_part()
        .bucket(BUCKET)
        .key("k")
        .upload_id(upload);
    let put = put
        .part_number(number)
        .body(ByteStream::from_static(content.as_bytes()));
    let etag = put.send().await.unwrap().e_tag.unwrap();
    CompletedPart::builder()
        .part_number(number)
        .e_tag(etag)
        .build()
}

fn complete(
    rig: &Rig,
    upload: &str,
    parts: &[CompletedPart],
) -> CompleteMultipartUploadFluentBuilder {
    let list = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec()));
    let complete = rig.s3.complete_multipart_upload().bucket(BUCKET).key("k");
    complete.upload_id(upload).multipart_upload(list.build())
}

#[tokio::test]
async fn parts_in_any_order_make_one_object_with_a_multipart_etag() {
    let folder = tempfile::tempdir().unwrap();
    let storages = [
        Storage::Memory,
        Storage::Folder(folder.path().to_owned()),
        Storage::Nowhere,
    ];
    for storage in storages {
        let kept = storage != Storage::Nowhere;
        let rig = rig(storage);
        let upload = begin(&rig, "k").await;
        let last = put_part(&rig, &upload, 7, "gh").await;
        put_part(&rig, &upload, 2, "other").await;
        let second = put_part(&rig, &upload, 2, "def").await;
        let first = put_part(&rig, &upload, 1, "abc").await;
        assert_eq!(
            rig.bucket().keys(),
            [""; 0],
            "not visible before it is complete"
        );
        let done = complete(&rig, &upload, &[first, second, last])
            .send()
            .await
            .unwrap();
        let md5s = ["abc", "def", "gh"]
            .map(|part| Md5::digest(part).to_vec())
            .concat();
        let expected = format!("{}-3", hex::encode(Md5::digest(md5s)));
        assert_eq!(done.e_tag().unwrap(), quoted(&expected));
        let found = rig.bucket().object("k").unwrap();
        assert_eq!(
            found.bytes.as_deref(),
            kept.then_some(b"abcdefgh".as_slice())
        );
        assert_eq!((found.length, found.etag), (8, expected));
        assert_eq!(found.content_type.as_deref(), Some("application/gzip"));
        assert_eq!(found.metadata["md5"], "m");
        assert!(rig.bucket().unfinished_uploads().is_empty());
        let again = complete(&rig, &upload, &[]).send().await;
        assert_eq!(refusal(again), is(404, "NoSuchUpload"));
    }
}

#[tokio::test]
async fn a_bad_list_of_parts_completes_nothing() {
    let rig = rig(Storage::Memory);
    let upload = begin(&rig, "k").await;
    let short = put_part(&rig, &upload, 1, "ab").await;
    let second = put_part(&rig, &upload, 2, "cde").await;
    let wrong = CompletedPart::builder()
        .part_number(2)
        .e_tag("\"other\"")
        .build();
    let missing = CompletedPart::builder()
        .part_number(3)
        .e_tag("\"x\"")
        .build();
    let (first, second) = (&short, &second);
    for (list, code) in [
        (vec![first.clone(), second.clone()], "EntityTooSmall"),
        (vec![second.clone(), first.clone()], "InvalidPartOrder"),
        (vec![second.clone(), second.clone()], "InvalidPartOrder"),
        (vec![wrong], "InvalidPart"),
        (vec![missing], "InvalidPart"),
        (vec![], "MalformedXML"),
    ] {
        let refused = refusal(complete(&rig, &upload, &list).send().await);
        assert_eq!(refused, is(400, code));
        assert!(rig.bucket().keys().is_empty());
    }
    // The upload is as good as before.
    complete(&rig, &upload, std::slice::from_ref(second))
        .send()
        .await
        .unwrap();
}

static PART: [u8; 5 << 20] = [b'x'; 5 << 20];

#[tokio::test]
async fn five_mebibytes_are_the_least_of_a_part_by_default() {
    let rig = Rig::default();
    let upload = begin(&rig, "k").await;
    let large = std::str::from_utf8(&PART).unwrap();
    let first = put_part(&rig, &upload, 1, &large[1..]).await;
    let last = put_part(&rig, &upload, 2, "x").await;
    let refused = complete(&rig, &upload, &[first, last.clone()]).send().await;
    assert_eq!(refusal(refused), is(400, "EntityTooSmall"));
    let first = put_part(&rig, &upload, 1, large).await;
    complete(&rig, &upload, &[first, last])
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn completing_keeps_its_condition() {
    let rig = rig(Storage::Memory);
    let upload = begin(&rig, "k").await;
    let part = put_part(&rig, &upload, 1, "new").await;
    rig.bucket().insert("k", "old");
    let refused = complete(&rig, &upload, std::slice::from_ref(&part));
    let refused = refused.if_none_match("*").send().await;
    assert_eq!(refusal(refused), is(412, "PreconditionFailed"));
    assert_eq!(rig.stored("k").unwrap(), b"old");
}

#[tokio::test]
async fn a_whole_object_checksum_is_checked_when_completing() {
    let rig = rig(Storage::Memory);
    let upload = begin(&rig, "k").await;
    let part = put_part(&rig, &upload, 1, "new").await;
    let parts = std::slice::from_ref(&part);
    let with = |sum: &str| {
        complete(&rig, &upload, parts)
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc64_nvme(sum)
    };
    let wrong = with(&BASE64.encode([0; 8])).send().await;
    assert_eq!(refusal(wrong), is(400, "BadDigest"));
    assert!(rig.bucket().keys().is_empty());
}

#[tokio::test]
async fn a_part_with_a_wrong_digest_is_refused() {
    let rig = rig(Storage::Memory);
    let upload = begin(&rig, "k").await;
    let put = rig
        .s3
        .upload_part()
        .bucket(BUCKET)
        .key("k")
        .upload_id(&upload);
    let put = put
        .part_number(1)
        .content_md5(BASE64.encode(Md5::digest("x")));
    let refused = put.body(ByteStream::from_static(b"abc")).send().await;
    assert_eq!(refusal(refused), is(400, "BadDigest"));
    let listed = rig
        .s3
        .list_parts()
        .bucket(BUCKET)
        .key("k")
        .upload_id(&upload);
    assert!(listed.send().await.unwrap().parts().is_empty());
}

#[tokio::test]
async fn uploads_and_parts_are_listed_until_aborted() {
    let rig = rig(Storage::Memory);
    let ours = begin(&rig, "k").await;
    begin(&rig, "k").await;
    begin(&rig, "other").await;
    for number in 1..=3 {
        put_part(&rig, &ours, number, "abc").await;
    }
    let list = rig.s3.list_parts().bucket(BUCKET).key("k").upload_id(&ours);
    let page = list.clone().max_parts(2).send().await.unwrap();
    assert_eq!((page.parts().len(), page.is_truncated()), (2, Some(true)));
    let rest = list.part_number_marker(page.next_part_number_marker().unwrap());
    let rest = rest.send().await.unwrap();
    assert_eq!(rest.parts()[0].part_number(), Some(3));
    assert_eq!(rest.parts()[0].size(), Some(3));

    let list = || rig.s3.list_multipart_uploads().bucket(BUCKET);
    assert_eq!(list().prefix("k").send().await.unwrap().uploads().len(), 2);
    let page = list().max_uploads(1).send().await.unwrap();
    assert_eq!(page.uploads()[0].upload_id(), Some(ours.as_str()));
    let rest = list()
        .set_key_marker(page.next_key_marker)
        .set_upload_id_marker(page.next_upload_id_marker);
    assert_eq!(rest.send().await.unwrap().uploads().len(), 2);

    let abort = rig
        .s3
        .abort_multipart_upload()
        .bucket(BUCKET)
        .key("k")
        .upload_id(&ours);
    abort.clone().send().await.unwrap();
    assert_eq!(rig.bucket().unfinished_uploads(), ["k", "other"]);
    assert_eq!(refusal(abort.send().await), is(404, "NoSuchUpload"));
}
