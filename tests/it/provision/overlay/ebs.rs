//! Blocks of snapshots: those that moto does not keep, digests that moto does not compare, snapshots that are pending until they are
//! completed.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Answer, Asked, Inner, xml};

const BLOCK_BYTES: usize = 512 << 10;

/// Blocks on a page, so that there are several.
const PAGE: usize = 3;

impl Inner {
    pub(super) async fn start_snapshot(&self, asked: &Asked) -> Answer {
        let answer = self.forward(asked).await;
        let told: serde_json::Value = serde_json::from_slice(&answer.2).unwrap_or_default();
        if let Some(id) = told["SnapshotId"].as_str() {
            self.seen().snapshots.entry(id.to_owned()).or_default();
        }
        answer
    }

    pub(super) async fn put_block(&self, asked: &Asked) -> Answer {
        let digest: [u8; 32] = Sha256::digest(&asked.body).into();
        let is_right = asked.header("x-amz-checksum") == BASE64_STANDARD.encode(digest)
            && asked.header("x-amz-checksum-algorithm") == "SHA256"
            && asked.header("x-amz-data-length") == BLOCK_BYTES.to_string()
            && asked.body.len() == BLOCK_BYTES;
        if !is_right {
            return invalid("the checksum is not the block's");
        }
        let (snapshot, index) = (
            asked.segment(1).to_owned(),
            asked.segment(3).parse().unwrap(),
        );
        if let Some((blocks, _)) = self.seen().snapshots.get_mut(&snapshot) {
            blocks.insert(index, digest);
        }
        self.forward(asked).await
    }

    pub(super) async fn complete_snapshot(&self, asked: &Asked) -> Answer {
        let snapshot = asked.segment(2).to_owned();
        {
            let mut seen = self.seen();
            let Some((blocks, is_complete)) = seen.snapshots.get_mut(&snapshot) else {
                return invalid("there is no such snapshot");
            };
            let linear: Vec<u8> = blocks.values().flatten().copied().collect();
            let linear = BASE64_STANDARD.encode(Sha256::digest(linear));
            let is_right = asked.header("x-amz-checksum") == linear
                && asked.header("x-amz-checksum-aggregation-method") == "LINEAR"
                && asked.header("x-amz-changedblockscount") == blocks.len().to_string();
            if !is_right {
                return invalid("the checksum is not the snapshot's");
            }
            *is_complete = true;
        }
        self.forward(asked).await
    }

    pub(super) async fn list_blocks(&self, asked: &Asked) -> Answer {
        if self.seen().snapshots.contains_key(asked.segment(1)) {
            return self.forward(asked).await;
        }
        let indexes: Vec<u64> = self.orders().disk.keys().copied().collect();
        let query = asked.path.split_once("pageToken=").map(|(_, rest)| rest);
        let from: usize = query
            .and_then(|token| token.split('&').next()?.parse().ok())
            .unwrap_or(0);
        let page = indexes.iter().skip(from).take(PAGE);
        let blocks: Vec<_> = page
            .map(|index| json!({"BlockIndex": index, "BlockToken": format!("t/{index}==")}))
            .collect();
        let next = (from + PAGE < indexes.len()).then(|| (from + PAGE).to_string());
        xml::json(
            200,
            &json!({"Blocks": blocks, "NextToken": next, "VolumeSize": 8, "BlockSize": BLOCK_BYTES}),
        )
    }

    pub(super) async fn get_block(&self, asked: &Asked) -> Answer {
        if self.seen().snapshots.contains_key(asked.segment(1)) {
            return self.forward(asked).await;
        }
        let index: u64 = asked.segment(3).parse().unwrap();
        let (data, is_spoiled) = {
            let orders = self.orders();
            (
                orders.disk.get(&index).cloned(),
                orders.spoiled.contains(&index),
            )
        };
        let token = format!("blockToken=t%2F{index}%3D%3D");
        let Some(mut data) = data.filter(|_| asked.path.contains(&token)) else {
            return invalid("the token is not the block's");
        };
        let digest = BASE64_STANDARD.encode(Sha256::digest(&data));
        if is_spoiled {
            data[0] ^= 1;
        }
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        let headers = HeaderMap::from_iter([
            ("x-amz-checksum".parse().unwrap(), value(&digest)),
            ("x-amz-checksum-algorithm".parse().unwrap(), value("SHA256")),
        ]);
        (StatusCode::OK, headers, data.into())
    }

    /// moto has every snapshot completed from the first.
    pub(super) async fn describe_snapshots(&self, asked: &Asked) -> Answer {
        let (status, headers, body) = self.forward(asked).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        let edited = xml::edited(&text, "snapshotSet", |item| {
            let id = xml::element(item, "snapshotId").unwrap_or_default();
            let seen = self.seen();
            let is_pending = seen
                .snapshots
                .get(id)
                .is_some_and(|(_, is_complete)| !is_complete);
            Some(match is_pending {
                true => item.replace("<status>completed<", "<status>pending<"),
                false => item.to_owned(),
            })
        });
        (status, headers, edited.into())
    }
}

fn invalid(why: &str) -> Answer {
    xml::json(
        400,
        &json!({"__type": "ValidationException", "Message": why, "Reason": "INVALID_PARAMETER_VALUE"}),
    )
}
