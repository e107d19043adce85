//! Tells people by webhooks what happened, once each, until it has arrived.
//!
//! An [`Occasion`] is plain data; a [`Hook`] says who is told of which, in what form and language; a [`Notifier`] brings each to
//! each, again and again where that is worth it, and remembers over a restart what waits and what was told.
//!
//! # The JSON of [`Body::Json`]
//!
//! ```json
//! {"version": 1, "delivery": "9f0c…", "title": "kops-mirror: …", "text": "…", "occasion": "mirrored", "set": "cn", …}
//! ```
//!
//! `title` and `text` are for people; the rest is the [`Occasion`]. `delivery` is the same when a message comes a second time, as it
//! may when an answer was lost; the header `X-Kops-Mirror-Delivery` has it as well. With a secret, `X-Kops-Mirror-Timestamp` has the
//! seconds since 1970 at which the message was sent, and `X-Kops-Mirror-Signature` is `sha256=` and the hexadecimal HMAC-SHA256,
//! by the secret, of that number, a full stop and the body. Whoever compares both, and refuses what is older than some minutes,
//! can't be told anything twice by somebody who listened.
//!
//! A URL of a webhook is a password: nothing but its host is ever printed.

mod delivery;
mod form;
mod message;
mod notifier;
mod occasion;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

pub use self::delivery::NotTold;
use self::delivery::Sender;
pub use self::notifier::{Clock, Counts, Notifier, Patience};
pub use self::occasion::{Change, Kind, Occasion};

/// The form in which a webhook takes messages.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Our own, for programs: see the module.
    #[default]
    Json,
    /// A custom robot: <https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages>. Where it asks for a keyword,
    /// `kops-mirror` is in every message.
    DingTalk,
    /// A group robot: <https://developer.work.weixin.qq.com/document/path/91770>. It knows no secret but its URL.
    WeCom,
    /// A custom bot: <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>.
    Feishu,
    /// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>. It knows no secret but its URL.
    Slack,
}

impl Body {
    pub const ALL: [Self; 5] = [
        Self::Json,
        Self::DingTalk,
        Self::WeCom,
        Self::Feishu,
        Self::Slack,
    ];

    /// As it is written in settings: `dingtalk`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::DingTalk => "dingtalk",
            Self::WeCom => "wecom",
            Self::Feishu => "feishu",
            Self::Slack => "slack",
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What messages are written in.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

/// What messages are signed with. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Somebody who is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// What the settings call it; it is known by that when the rest has changed. Empty: by the rest alone.
    pub name: String,
    /// With its token in it. Never printed.
    pub url: Url,
    pub body: Body,
    pub secret: Option<Secret>,
    /// What it is told of; empty: everything.
    pub occasions: BTreeSet<Kind>,
    pub language: Language,
}

impl Hook {
    /// Everything, in English, unsigned.
    pub fn new(url: Url, body: Body) -> Self {
        Self {
            name: String::new(),
            url,
            body,
            secret: None,
            occasions: BTreeSet::new(),
            language: Language::default(),
        }
    }

    /// Whether it is to be told of this; a test is for everybody.
    fn wants(&self, occasion: &Occasion) -> bool {
        let kind = occasion.kind();
        kind == Kind::Test || self.occasions.is_empty() || self.occasions.contains(&kind)
    }

    /// What it is known by over a restart, until its settings change; its URL can't be found from it.
    fn id(&self) -> String {
        let choice = (self.language, &self.occasions);
        let digest = Sha256::digest(format!("{} {choice:?} {}", self.body, self.url));
        hex::encode(&digest[..8])
    }

    /// A text of somebody else, without what only we and the hook may know.
    fn without_secrets(&self, text: &str) -> String {
        let parts = self.url.path_segments().into_iter().flatten();
        let mut secrets: Vec<String> = parts.map(ToOwned::to_owned).collect();
        secrets.extend(self.url.query().map(ToOwned::to_owned));
        secrets.extend(self.url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(self.url.password().map(ToOwned::to_owned));
        secrets.extend(self.secret.as_ref().map(|secret| secret.0.clone()));
        // Shorter parts are no secrets, and words of any sentence.
        secrets.retain(|secret| secret.len() >= 8);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

/// `the dingtalk webhook at oapi.dingtalk.com`: where, and nothing else of the URL.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or("an unknown host");
        write!(f, "the {} webhook at {host}", self.body)?;
        match self.url.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("at", &self.to_string())
            .field("is_signed", &self.secret.is_some())
            .field("occasions", &self.occasions)
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

/// Tells every hook that this is a test, once; what came of it, in the order of the hooks.
pub async fn test(hooks: &[Hook], now: Timestamp) -> Vec<Result<(), NotTold>> {
    let sender = match Sender::new() {
        Ok(sender) => sender,
        Err(source) => {
            return hooks
                .iter()
                .map(|_| Err(NotTold::client(&source)))
                .collect();
        }
    };
    let told = hooks.iter().map(|hook| async {
        let post = form::post(hook, &Occasion::Test, &notifier::delivery_id(), now);
        sender.send(hook, post).await
    });
    futures::future::join_all(told).await
}

#[cfg(test)]
mod tests;
