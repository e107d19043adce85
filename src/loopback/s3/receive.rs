//! Takes a body in and checks every digest that came with it, before anybody can see a byte of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt as _;
use md5::{Digest as _, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};

use http::{HeaderMap, StatusCode};

use super::content::{Content, Sink};

/// Bytes are hashed in slices that stay in the first-level cache while all functions read them.
const SLICE_BYTES: usize = 16 << 10;

/// The checksum algorithms of S3, by their headers.
const CHECKSUM_HEADERS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

/// What a request says about its body.
#[derive(Debug, Default)]
pub(super) struct Promise {
    length: u64,
    md5: Option<String>,
    checksum: Checksum,
    /// The checksum header that is to come after the body.
    trailer: Option<String>,
    trailers: Option<TrailingHeaders>,
}

impl Promise {
    pub(super) fn new(
        md5: Option<String>,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Self> {
        let value = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
        let length = value("x-amz-decoded-content-length").or_else(|| value("content-length"));
        let length = length.and_then(|length| length.parse().ok());
        let mut checksum = Checksum::default();
        for name in CHECKSUM_HEADERS {
            if let Some(slot) = slot(&mut checksum, name) {
                *slot = value(name);
            }
        }
        Ok(Self {
            length: length.ok_or(S3ErrorCode::MissingContentLength)?,
            md5,
            checksum,
            trailer: value("x-amz-trailer").map(|name| name.to_ascii_lowercase()),
            trailers,
        })
    }

    fn md5(&self) -> S3Result<Option<[u8; 16]>> {
        let Some(text) = &self.md5 else {
            return Ok(None);
        };
        let md5 = BASE64.decode(text).ok().and_then(|b| b.try_into().ok());
        md5.map(Some)
            .ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."))
    }

    /// Computes what was promised.
    fn hasher(&self) -> ChecksumHasher {
        let wants = |given: &Option<String>, name: &str| {
            given.is_some() || self.trailer.as_deref() == Some(name)
        };
        let [crc32, crc32c, crc64nvme, sha1, sha256] = CHECKSUM_HEADERS;
        ChecksumHasher {
            crc32: wants(&self.checksum.checksum_crc32, crc32).then(Crc32::new),
            crc32c: wants(&self.checksum.checksum_crc32c, crc32c).then(Crc32c::new),
            crc64nvme: wants(&self.checksum.checksum_crc64nvme, crc64nvme).then(Crc64Nvme::new),
            sha1: wants(&self.checksum.checksum_sha1, sha1).then(Sha1::new),
            sha256: wants(&self.checksum.checksum_sha256, sha256).then(Sha256::new),
        }
    }

    /// Adds the checksum that came after the body.
    fn read_trailer(&mut self) -> S3Result<()> {
        let Some(name) = self.trailer.take() else {
            return Ok(());
        };
        let Some(slot) = slot(&mut self.checksum, &name) else {
            return Ok(());
        };
        let sent = self.trailers.as_ref().and_then(TrailingHeaders::take);
        let value = sent.and_then(|t| Some(t.get(&name)?.to_str().ok()?.to_owned()));
        if value.is_none() {
            return Err(named(
                "MalformedTrailerError",
                "The request contained trailing data that was not well-formed or did not conform to our published schema.",
            ));
        }
        *slot = value;
        Ok(())
    }
}

fn slot<'a>(checksum: &'a mut Checksum, header: &str) -> Option<&'a mut Option<String>> {
    match header {
        "x-amz-checksum-crc32" => Some(&mut checksum.checksum_crc32),
        "x-amz-checksum-crc32c" => Some(&mut checksum.checksum_crc32c),
        "x-amz-checksum-crc64nvme" => Some(&mut checksum.checksum_crc64nvme),
        "x-amz-checksum-sha1" => Some(&mut checksum.checksum_sha1),
        "x-amz-checksum-sha256" => Some(&mut checksum.checksum_sha256),
        _ => None,
    }
}

/// A body that is here as promised.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) content: Content,
    pub(super) md5: [u8; 16],
    pub(super) checksum: Checksum,
}

/// Takes a body in whole, or fails and leaves nothing.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    mut promise: Promise,
    mut sink: Sink,
) -> S3Result<Received> {
    let promised_md5 = promise.md5()?;
    let mut md5 = Md5::new();
    let mut hasher = promise.hasher();
    if let Some(mut body) = body {
        while let Some(frame) = body.next().await {
            let frame = frame.map_err(|error| unreadable(&error))?;
            for slice in frame.chunks(SLICE_BYTES) {
                md5.update(slice);
                hasher.update(slice);
            }
            sink.take(frame).map_err(S3Error::internal_error)?;
        }
    }
    if promise.length != sink.length() {
        return Err(incomplete());
    }
    promise.read_trailer()?;
    let md5: [u8; 16] = md5.finalize().into();
    if promised_md5.is_some_and(|promised| promised != md5) {
        return Err(s3_error!(
            BadDigest,
            "The Content-MD5 you specified did not match what we received."
        ));
    }
    let checksum = hasher.finalize();
    agree(&mut promise.checksum, checksum.clone())?;
    Ok(Received {
        content: sink.finish(md5),
        md5,
        checksum,
    })
}

/// Whether every checksum that was given is the one computed.
fn agree(given: &mut Checksum, mut computed: Checksum) -> S3Result<()> {
    for header in CHECKSUM_HEADERS {
        let (Some(given), Some(computed)) = (slot(given, header), slot(&mut computed, header))
        else {
            continue;
        };
        if given.is_some() && given != computed {
            let algorithm = header.trim_start_matches("x-amz-checksum-").to_uppercase();
            return Err(s3_error!(
                BadDigest,
                "The {algorithm} you specified did not match the calculated checksum."
            ));
        }
    }
    Ok(())
}

/// Checks the whole-object checksums of a multipart upload. Those of parts only, `…-N`, say nothing about the whole.
pub(super) fn check_whole(content: &Content, mut given: Checksum) -> S3Result<Checksum> {
    for header in CHECKSUM_HEADERS {
        if let Some(slot) = slot(&mut given, header)
            && slot.as_ref().is_some_and(|value| value.contains('-'))
        {
            *slot = None;
        }
    }
    let promise = Promise {
        checksum: given,
        ..Promise::default()
    };
    let mut hasher = promise.hasher();
    for frame in content.frames(0..content.length()).into_iter().flatten() {
        hasher.update(&frame.map_err(S3Error::internal_error)?);
    }
    let computed = hasher.finalize();
    let mut given = promise.checksum;
    agree(&mut given, computed.clone())?;
    Ok(computed)
}

/// Says what a body that could not be read is, as S3 does. The wire crate's own errors are known by their texts only.
fn unreadable(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        return named(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
    }
    if text.contains("SignatureMismatch") {
        return s3_error!(
            SignatureDoesNotMatch,
            "The signature of a chunk does not match."
        );
    }
    incomplete()
}

fn incomplete() -> S3Error {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

/// A 400 with a code that the wire crate has no name for.
fn named(code: &'static str, message: &'static str) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InvalidRequest);
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}
