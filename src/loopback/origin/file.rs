//! Says what the origin publishes at a path: the content and the headers that real origins send with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::content::Content;

/// A published file. Its ETag is strong and changes with the content, unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub content: Content,
    pub content_type: String,
    /// With its quotes, as it is sent.
    pub etag: Option<String>,
    /// Values for `x-goog-hash`, one header line each.
    pub goog_hashes: Vec<String>,
}

impl File {
    pub fn new(content: impl Into<Content>) -> Self {
        let content = content.into();
        let etag = match &content {
            Content::Generated { seed, length } => format!("\"{seed:x}-{length:x}\""),
            held @ Content::Held(_) => format!("\"h-{}\"", held.digests(&[]).sha256.hex()),
        };
        Self {
            content,
            content_type: "application/octet-stream".to_owned(),
            etag: Some(etag),
            goog_hashes: Vec::new(),
        }
    }

    /// Content made from a seed.
    pub fn generated(seed: u64, length: u64) -> Self {
        Self::new(Content::generated(seed, length))
    }

    /// Text, as `stable.txt` and sidecars are.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into()).with_content_type("text/plain")
    }

    #[must_use]
    pub fn with_content_type(mut self, content_type: &str) -> Self {
        content_type.clone_into(&mut self.content_type);
        self
    }

    /// The ETag of a single-part S3 object: the MD5 of the content, which is hashed now.
    #[must_use]
    pub fn with_md5_etag(self) -> Self {
        let md5 = self.content.digests(&[]).md5.hex();
        self.with_etag(Some(&format!("\"{md5}\"")))
    }

    /// Any ETag, with its quotes; a weak one (`W/"…"`), or none.
    #[must_use]
    pub fn with_etag(mut self, etag: Option<&str>) -> Self {
        self.etag = etag.map(str::to_owned);
        self
    }

    /// The `x-goog-hash` headers of Google's storage, for content that is hashed now.
    #[must_use]
    pub fn with_goog_hash(mut self) -> Self {
        let crc = BASE64.encode(self.content.crc32c().to_be_bytes());
        let md5 = BASE64.encode(self.content.digests(&[]).md5.bytes());
        self.goog_hashes = vec![format!("crc32c={crc}"), format!("md5={md5}")];
        self
    }
}

impl<C: Into<Content>> From<C> for File {
    fn from(content: C) -> Self {
        Self::new(content)
    }
}
