use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use md5::{Digest as _, Md5};

use super::{BUCKET, Rig, is, md5_hex, quoted, refusal, settings};

fn put(rig: &Rig) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
    let put = rig.s3.put_object().bucket(BUCKET).key("k");
    put.body(ByteStream::from_static(b"new content"))
}

/// A client that sends the checksums of what it sends.
fn checksumming(rig: &Rig) -> Client {
    let settings = settings(&rig.server, rig.server.region());
    let supported = RequestChecksumCalculation::WhenSupported;
    Client::from_conf(settings.request_checksum_calculation(supported).build())
}

fn streamed(content: &'static [u8]) -> ByteStream {
    let frames = content
        .chunks(7000)
        .map(|frame| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(frame))));
    let body = StreamBody::new(futures::stream::iter(frames));
    ByteStream::new(SdkBody::from_body_1_x(body))
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_the_old_object_stays() {
    let rig = Rig::default();
    rig.bucket().insert("k", "old");
    let wrong = |bytes: &[u8]| BASE64.encode(bytes);
    let requests = [
        ("md5", put(&rig).content_md5(wrong(&Md5::digest("other")))),
        ("crc32", put(&rig).checksum_crc32(wrong(&[0; 4]))),
        ("crc32c", put(&rig).checksum_crc32_c(wrong(&[0; 4]))),
        ("crc64nvme", put(&rig).checksum_crc64_nvme(wrong(&[0; 8]))),
        ("sha1", put(&rig).checksum_sha1(wrong(&[0; 20]))),
        ("sha256", put(&rig).checksum_sha256(wrong(&[0; 32]))),
    ];
    for (name, request) in requests {
        assert_eq!(
            refusal(request.send().await),
            is(400, "BadDigest"),
            "{name}"
        );
        assert_eq!(rig.stored("k").unwrap(), b"old", "{name}");
    }
    let no_digest = put(&rig).content_md5("what?").send().await;
    assert_eq!(refusal(no_digest), is(400, "InvalidDigest"));
}

/// Changes the body after it was signed.
#[derive(Debug)]
struct Tampering;

impl Intercept for Tampering {
    fn name(&self) -> &'static str {
        "Tampering"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut().body_mut() = SdkBody::from("NEW content");
        Ok(())
    }
}

#[tokio::test]
async fn a_wrong_payload_hash_is_refused_and_the_old_object_stays() {
    let rig = Rig::default();
    rig.bucket().insert("k", "old");
    let sent = put(&rig).customize().interceptor(Tampering).send().await;
    assert_eq!(refusal(sent), is(400, "XAmzContentSHA256Mismatch"));
    assert_eq!(rig.stored("k").unwrap(), b"old");
}

#[tokio::test]
async fn right_digests_are_taken_and_shown() {
    // The SDK computes checksums only where it is told that they are supported.
    let rig = Rig::default();
    let s3 = checksumming(&rig);
    let algorithms = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];
    for algorithm in algorithms {
        let request = s3
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(ByteStream::from_static(b"new content"))
            .checksum_algorithm(algorithm.clone());
        request.send().await.unwrap();
        let head = rig.s3.head_object().bucket(BUCKET).key("k");
        let head = head
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        let shown = [
            head.checksum_crc32(),
            head.checksum_crc32_c(),
            head.checksum_crc64_nvme(),
            head.checksum_sha1(),
            head.checksum_sha256(),
        ];
        assert_eq!(shown.iter().flatten().count(), 1, "{algorithm}");
    }
}

/// What `x-amz-content-sha256` says of the four ways to send a streamed body.
#[tokio::test]
async fn every_form_of_streamed_body_is_taken() {
    static CONTENT: [u8; 200_000] = [7; 200_000];
    let rig = Rig::default();
    for (s3, form) in [
        (rig.s3.clone(), "UNSIGNED-PAYLOAD"),
        (
            checksumming(&rig),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        ),
    ] {
        let put = s3
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .content_length(200_000);
        let put = put.body(streamed(&CONTENT)).send().await.unwrap();
        assert_eq!(put.e_tag().unwrap(), quoted(&md5_hex(CONTENT)));
        assert_eq!(rig.stored("k").unwrap(), CONTENT);
        let log = rig.server.log().of("PutObject");
        assert_eq!(log.last().unwrap().headers["x-amz-content-sha256"], form);
    }
}
