//! Keeps a mirror in a bucket, of AWS in any partition or of another S3 server.
//!
//! The settings behind it are measured, not guessed: see `client` for each with its reason. A put is one attempt, since a streamed
//! body cannot be repeated by the SDK; the small requests are repeated by it.

mod abreast;
pub(super) mod body;
mod bucket;
pub(super) mod client;
mod conditions;
mod congestion;
mod connector;
mod depot;
mod errors;
mod lines;
mod listing;
mod prepare;
mod put;
mod staging;
mod traffic;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{MetadataDirective, ObjectCannedAcl};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::timeout;
use url::Url;

pub use self::bucket::{Bucket, BucketSettings, Encryption, Property};
use self::conditions::Conditions;
pub use self::congestion::Congestion;
pub use self::depot::{Arrival, Depot, Parcel, PutPart};
use self::errors::{Refusal, Site};
use self::lines::Lines;
use self::listing::{encoded, length};
use self::staging::Stage;
pub use self::staging::Way;
use self::traffic::Traffic;
use super::staging::Staging;
use super::{
    Attributes, Condition, Content, ETag, Expected, Listing, Object, SINGLE_PART_MAX_BYTES, Stat,
    Store, StoreError, StoreErrorKind,
};
use crate::asset::Key;
pub use crate::cloud::Keys;
use crate::report::StoreLeg;
use crate::verify::Publishable;

/// Copying 5 GiB within a region takes a minute or two.
const COPY_TIMEOUT: Duration = Duration::from_mins(15);

/// Which bucket, and how to get to it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    pub bucket: String,
    /// What all keys start with, without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// Asked of the environment, the profile and the instance when None.
    pub region: Option<String>,
    /// An S3 server other than AWS; asked of the environment and the profile when None.
    pub endpoint: Option<Url>,
    /// Whether the bucket's name goes into the path instead of the host's name; with an endpoint it does unless said otherwise.
    pub path_style: Option<bool>,
    pub profile: Option<String>,
    /// Asked of the environment, the profile and the instance when None.
    pub keys: Option<Keys>,
    /// A canned ACL for every object: `public-read`.
    pub acl: Option<String>,
    /// Every object asks for S3's own encryption, whatever the bucket's default is: with a key of KMS its `ETag` would be no MD5.
    pub asks_for_sse_s3: bool,
    pub way: Way,
    pub congestion: Congestion,
    /// Objects above 4 MiB, and parts of objects, on their way at a time.
    pub connections: usize,
    /// A put whose body is not taken for this long is cut.
    pub stall_timeout: Duration,
    /// A put that is sent whole may wait this long for its answer.
    pub answer_timeout: Duration,
}

impl S3Options {
    pub fn new(bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: prefix.into(),
            region: None,
            endpoint: None,
            path_style: None,
            profile: None,
            keys: None,
            acl: None,
            asks_for_sse_s3: false,
            way: Way::Auto,
            congestion: Congestion::Auto,
            connections: 64,
            // Full socket buffers (up to 4 MiB) are emptied in bursts: at 20 KiB/s one is a minute apart from the next.
            stall_timeout: Duration::from_mins(1),
            // The same buffers are still to be sent when the body is taken whole.
            answer_timeout: Duration::from_mins(5),
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.as_ref().map(without_secrets);
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("endpoint", &endpoint)
            .field("path_style", &self.path_style)
            .field("profile", &self.profile)
            .field("acl", &self.acl)
            .finish_non_exhaustive()
    }
}

/// A URL without a user, a password and a query.
fn without_secrets(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// A bucket under a prefix.
pub struct S3Store {
    requests: Client,
    transfers: Client,
    site: Site,
    place: String,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    acl: Option<ObjectCannedAcl>,
    asks_for_sse_s3: bool,
    stall_timeout: Duration,
    answer_timeout: Duration,
    conditions: Conditions,
    congestion: Option<String>,
    /// How many long bodies fill a far line, where that is few.
    few: Option<usize>,
    traffic: Traffic,
    lines: Arc<Lines>,
    stage: Stage,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("place", &self.place)
            .field("site", &self.site)
            .field("acl", &self.acl)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// Finds region, credentials and endpoint; talks to no bucket yet.
    pub async fn connect(options: S3Options) -> Result<Self, StoreError> {
        check_endpoint(options.endpoint.as_ref())?;
        let clients = client::connect(&options).await?;
        let way = match options.way {
            // One connection carries much then, loss or not.
            Way::Auto if clients.rides_out_loss => Way::SinglePart,
            way => way,
        };
        let prefix = options.prefix.trim_matches('/');
        let place = format!("s3://{}/{prefix}", options.bucket);
        Ok(Self {
            requests: clients.requests,
            transfers: clients.transfers,
            site: clients.site,
            place: place.trim_end_matches('/').to_owned(),
            prefix: match prefix {
                "" => String::new(),
                _ => format!("{prefix}/"),
            },
            bucket: options.bucket,
            acl: options.acl.as_deref().map(ObjectCannedAcl::from),
            asks_for_sse_s3: options.asks_for_sse_s3,
            stall_timeout: options.stall_timeout,
            answer_timeout: options.answer_timeout,
            conditions: Conditions::default(),
            congestion: clients.congestion,
            few: clients.rides_out_loss.then(|| few(options.connections)),
            traffic: Traffic::new(options.connections, Arc::clone(&clients.lines)),
            lines: clients.lines,
            stage: Stage::new(way, options.connections),
        })
    }

    /// The region in use.
    pub fn region(&self) -> &str {
        &self.site.region
    }

    /// The congestion control that its connections are given; None leaves them the system's, as a proxy does.
    pub fn congestion(&self) -> Option<&str> {
        self.congestion.as_deref()
    }

    fn full_key(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// An object in a user's words.
    fn address(&self, key: &Key) -> String {
        format!("{}/{key}", self.place)
    }

    fn bucket_address(&self) -> String {
        format!("s3://{}", self.bucket)
    }

    async fn look(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        let answer = self
            .requests
            .head_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .send()
            .await;
        let there = match answer {
            Ok(there) => there,
            Err(error) if is_absent(Refusal::of(&error)) => return Ok(None),
            Err(error) => return Err(self.site.explain("look at", &self.address(key), &error)),
        };
        let metadata: BTreeMap<_, _> = there
            .metadata()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect();
        Ok(Some(Stat {
            object: Object {
                key: key.clone(),
                length: length(there.content_length()),
                etag: ETag::new(there.e_tag().unwrap_or_default()),
            },
            metadata,
        }))
    }

    async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let answer = self
            .requests
            .delete_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if is_absent(Refusal::of(&error)) => Ok(()),
            Err(error) => Err(self.site.explain("remove", &self.address(key), &error)),
        }
    }

    /// Some servers ignore `x-amz-copy-source-if-match`, so the object is looked at first.
    async fn check_unchanged(&self, key: &Key, etag: &ETag) -> Result<(), StoreError> {
        let address = self.address(key);
        let why = match self.look(key).await? {
            None => "it is gone".to_owned(),
            Some(there) if there.object.length > SINGLE_PART_MAX_BYTES => {
                return Err(self.too_large("restate", key, there.object.length));
            }
            Some(there) if there.object.etag == *etag => return Ok(()),
            Some(there) => format!("its ETag is {} by now", there.object.etag),
        };
        Err(StoreError::new(
            StoreErrorKind::ConditionFailed,
            format!("can't restate {address}: {why}"),
        ))
    }

    async fn copy_onto_itself(
        &self,
        key: &Key,
        etag: &ETag,
        attributes: &Attributes,
    ) -> Result<ETag, StoreError> {
        let address = self.address(key);
        let source = format!("{}/{}", self.bucket, encoded(&self.full_key(key)));
        let copying = self
            .transfers
            .copy_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .copy_source(source)
            .copy_source_if_match(format!("\"{etag}\""))
            .metadata_directive(MetadataDirective::Replace)
            .set_content_type(content_type(attributes))
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .set_acl(self.acl.clone())
            .send();
        let copied = timeout(COPY_TIMEOUT, copying)
            .await
            .map_err(|_| {
                let what = format!("can't restate {address}: no answer within 15 minutes");
                StoreError::new(StoreErrorKind::Transient, what)
            })?
            .map_err(|error| self.site.explain("restate", &address, &error))?;
        match copied.copy_object_result().and_then(|copy| copy.e_tag()) {
            Some(etag) => Ok(ETag::new(etag)),
            None => Ok(self
                .look(key)
                .await?
                .map_or_else(|| ETag::new(""), |there| there.object.etag)),
        }
    }

    /// The chunks of a body; one that stays away for `stall_timeout` ends it.
    fn chunks(&self, key: &Key, body: ByteStream) -> BoxStream<'static, Chunk> {
        let address = self.address(key);
        let patience = self.stall_timeout;
        let broken = move |why: String| {
            let what = format!("can't read {address}: {why}");
            StoreError::new(StoreErrorKind::Transient, what)
        };
        stream::unfold(Some((body, broken)), move |reading| async move {
            let (mut body, broken) = reading?;
            match timeout(patience, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((body, broken)))),
                Ok(Some(Err(error))) => Some((
                    Err(broken("it broke off".to_owned()).caused_by(error)),
                    None,
                )),
                Err(_) => {
                    let why = format!("nothing came for {} s", patience.as_secs());
                    Some((Err(broken(why)), None))
                }
            }
        })
        .fuse()
        .boxed()
    }
}

/// With BBR few connections fill a line, and more overrun its queue and then share it unequally. A third of these carry at a time
/// (`abreast`); the rest are under way so that all end together.
fn few(connections: usize) -> usize {
    connections.div_ceil(4)
}

type Chunk = Result<bytes::Bytes, StoreError>;

fn content_type(attributes: &Attributes) -> Option<String> {
    Some(attributes.content_type.clone()).filter(|told| !told.is_empty())
}

fn is_absent(refusal: Option<Refusal>) -> bool {
    refusal.is_some_and(|refusal| refusal.status == 404 && refusal.code != "NoSuchBucket")
}

fn check_endpoint(endpoint: Option<&Url>) -> Result<(), StoreError> {
    let Some(url) = endpoint else { return Ok(()) };
    let why = match url.scheme() {
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            "credentials do not go into it, but into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        }
        "http" | "https" if url.query().is_some() => "it can't have a query",
        "http" | "https" => return Ok(()),
        _ => "it must be an http:// or https:// URL",
    };
    Err(StoreError::new(
        StoreErrorKind::Permanent,
        format!("can't use the endpoint {}: {why}", without_secrets(url)),
    ))
}

#[async_trait]
impl Store for S3Store {
    fn place(&self) -> &str {
        &self.place
    }

    async fn prepare(&self, create: bool) -> Result<(), StoreError> {
        self.find_bucket(create).await
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        self.list_all().await
    }

    async fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        self.list_own().await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        self.look(key).await
    }

    async fn open(&self, key: &Key) -> Result<Option<Content>, StoreError> {
        let answer = self
            .requests
            .get_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .send()
            .await;
        match answer {
            Ok(there) => Ok(Some(Content {
                length: length(there.content_length),
                etag: ETag::new(there.e_tag.as_deref().unwrap_or_default()),
                chunks: self.chunks(key, there.body),
            })),
            Err(error) if is_absent(Refusal::of(&error)) => Ok(None),
            Err(error) => Err(self.site.explain("read", &self.address(key), &error)),
        }
    }

    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        self.put_whole(key, content, attributes, condition).await
    }

    async fn restate(
        &self,
        key: &Key,
        etag: &ETag,
        attributes: &Attributes,
    ) -> Result<ETag, StoreError> {
        self.check_unchanged(key, etag).await?;
        self.copy_onto_itself(key, etag, attributes).await
    }

    fn is_slow(&self) -> bool {
        self.traffic.is_slow()
    }

    fn expect(&self, length: u64) -> Expected {
        Some(Box::new(self.traffic.expect(length)))
    }

    fn leg(&self) -> Option<StoreLeg> {
        Some(self.traffic.leg())
    }

    fn staging(&self) -> Option<&dyn Staging> {
        Some(self)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.remove(key).await
    }
}
