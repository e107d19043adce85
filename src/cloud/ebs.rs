//! The EBS direct APIs: blocks of snapshots, read and written, each with its SHA-256.
//!
//! A snapshot must be the account's own: public ones are refused. Blocks that were never written are not listed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::request::Call;
use super::{Cloud, CloudError, Tag, service};

/// The length of every block.
pub const BLOCK_BYTES: usize = 512 << 10;

/// A block as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    pub block_index: u64,
    /// What it is asked for by; good for a while.
    pub block_token: String,
}

/// Some blocks of a snapshot, in order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockPage {
    #[serde(default)]
    pub blocks: Vec<Listed>,
    #[serde(default)]
    pub next_token: Option<String>,
    /// Of the whole volume, in GiB.
    pub volume_size: u64,
}

/// A block, compared with the digest that came with it.
#[derive(Debug, Clone)]
pub struct Block {
    pub data: Bytes,
    pub sha256: [u8; 32],
}

impl Block {
    pub fn new(data: Bytes) -> Self {
        let sha256 = Sha256::digest(&data).into();
        Self { data, sha256 }
    }

    /// Whether nothing is in it: what is not written reads as this.
    pub fn is_zero(&self) -> bool {
        self.data.iter().all(|byte| *byte == 0)
    }
}

/// A snapshot that is to be written block by block.
#[derive(Debug, Clone)]
pub struct NewSnapshot<'a> {
    /// In GiB.
    pub volume_size: u64,
    pub description: &'a str,
    /// The same for the same snapshot: asked twice, there is still one.
    pub token: &'a str,
    pub tags: &'a [Tag],
    /// Minutes without a block after which AWS gives it up.
    pub timeout_minutes: u32,
}

/// A snapshot that was begun.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartedSnapshot {
    pub snapshot_id: String,
}

impl Cloud {
    /// A page of a snapshot's blocks, from an index on or where a page ended.
    pub async fn blocks(
        &self,
        snapshot: &str,
        page: Option<&str>,
    ) -> Result<BlockPage, CloudError> {
        let mut path = format!("/snapshots/{snapshot}/blocks?maxResults=10000");
        if let Some(page) = page {
            path.push_str(&format!("&pageToken={}", encoded(page)));
        }
        let purpose = format!("list the blocks of {snapshot}");
        let call = call("ListSnapshotBlocks", &purpose, Method::GET, path);
        let answer = self.call(&call).await?;
        self.read_json(&call, &answer.body)
    }

    /// One block. What came is compared with its digest.
    pub async fn block(&self, snapshot: &str, listed: &Listed) -> Result<Block, CloudError> {
        let Listed {
            block_index,
            block_token,
        } = listed;
        let path = format!(
            "/snapshots/{snapshot}/blocks/{block_index}?blockToken={}",
            encoded(block_token)
        );
        let purpose = format!("read block {block_index} of {snapshot}");
        let call = call("GetSnapshotBlock", &purpose, Method::GET, path);
        let answer = self.call(&call).await?;
        let told = answer
            .header("x-amz-checksum")
            .and_then(|text| BASE64_STANDARD.decode(text).ok());
        let block = Block::new(answer.body);
        if block.data.len() != BLOCK_BYTES || told.as_deref() != Some(&block.sha256) {
            let why = "it is not of the length and the SHA-256 that came with it";
            return Err(self.nonsense(&service::EBS, "GetSnapshotBlock", &purpose, why));
        }
        Ok(block)
    }

    /// Begins a snapshot.
    pub async fn start_snapshot(
        &self,
        new: &NewSnapshot<'_>,
    ) -> Result<StartedSnapshot, CloudError> {
        let tags: Vec<_> = new
            .tags
            .iter()
            .map(|tag| json!({"Key": tag.key, "Value": tag.value}))
            .collect();
        let told = json!({
            "VolumeSize": new.volume_size,
            "Description": new.description,
            "ClientToken": new.token,
            "Timeout": new.timeout_minutes,
            "Tags": tags,
        });
        let mut call = call(
            "StartSnapshot",
            "begin a snapshot",
            Method::POST,
            "/snapshots".to_owned(),
        );
        call.headers
            .push(("content-type", "application/json".to_owned()));
        call.body = told.to_string().into();
        let answer = self.call(&call).await?;
        self.read_json(&call, &answer.body)
    }

    /// Writes one block; AWS compares it with its digest.
    pub async fn put_block(
        &self,
        snapshot: &str,
        index: u64,
        block: &Block,
    ) -> Result<(), CloudError> {
        let purpose = format!("write block {index} of {snapshot}");
        let path = format!("/snapshots/{snapshot}/blocks/{index}");
        let mut call = call("PutSnapshotBlock", &purpose, Method::PUT, path);
        call.headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("x-amz-data-length", block.data.len().to_string()),
            ("x-amz-checksum", BASE64_STANDARD.encode(block.sha256)),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
        ];
        call.body = block.data.clone();
        self.call(&call).await.map(drop)
    }

    /// Ends a snapshot of so many blocks. `linear` is the SHA-256 of their digests, in the order of their indexes.
    pub async fn complete_snapshot(
        &self,
        snapshot: &str,
        blocks: u64,
        linear: [u8; 32],
    ) -> Result<(), CloudError> {
        let purpose = format!("complete {snapshot}");
        let path = format!("/snapshots/completion/{snapshot}");
        let mut call = call("CompleteSnapshot", &purpose, Method::POST, path);
        call.headers = vec![
            ("x-amz-changedblockscount", blocks.to_string()),
            ("x-amz-checksum", BASE64_STANDARD.encode(linear)),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
            ("x-amz-checksum-aggregation-method", "LINEAR".to_owned()),
        ];
        self.call(&call).await.map(drop)
    }

    fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        call: &Call<'_>,
        body: &[u8],
    ) -> Result<T, CloudError> {
        serde_json::from_slice(body)
            .map_err(|error| self.nonsense(call.service, call.operation, call.purpose, error))
    }
}

/// Every one of them may be repeated: blocks come to be what they were, and beginning carries a token.
fn call<'a>(operation: &'a str, purpose: &'a str, method: Method, path: String) -> Call<'a> {
    Call {
        service: &service::EBS,
        operation,
        purpose,
        method,
        path,
        headers: Vec::new(),
        body: Bytes::new(),
        is_repeatable: true,
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
