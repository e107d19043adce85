//! Makes signed URLs that expire, as GitHub redirects its downloads to, and redeems them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::time::Instant;
use url::Url;

use super::content::mix;
use super::fault::Expiry;
use super::request::Request;
use super::{locked, root};

const PARAMETER: &str = "X-Amz-Signature";

/// The signatures that one origin has given out.
#[derive(Debug)]
pub(super) struct Signatures {
    address: SocketAddr,
    given: Mutex<HashMap<String, Signature>>,
}

#[derive(Debug)]
struct Signature {
    path: String,
    until: Option<Instant>,
    uses_left: Option<u64>,
}

impl Signatures {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            given: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL for a path that is good until it expires. No two are alike.
    pub(super) fn sign(&self, path: &str, expiry: Expiry) -> Url {
        let mut given = locked(&self.given);
        let name = format!("{:016x}{:016x}", mix(given.len() as u64), given.len());
        let signature = Signature {
            path: path.to_owned(),
            until: expiry.after.map(|after| Instant::now() + after),
            uses_left: expiry.uses,
        };
        let mut url = root(self.address);
        url.set_path(path);
        url.query_pairs_mut()
            .append_pair("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
            .append_pair(PARAMETER, &name);
        given.insert(name, signature);
        url
    }

    /// Whether a request has a signature for its path that has not expired. Counts as a use.
    pub(super) fn redeem(&self, request: &Request) -> bool {
        let Some(name) = request.parameter(PARAMETER) else {
            return false;
        };
        let mut given = locked(&self.given);
        let Some(signature) = given.get_mut(&name) else {
            return false;
        };
        if signature.path != request.path
            || signature.until.is_some_and(|until| until <= Instant::now())
            || signature.uses_left == Some(0)
        {
            return false;
        }
        if let Some(left) = &mut signature.uses_left {
            *left -= 1;
        }
        true
    }
}
