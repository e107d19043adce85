//! One attempt to tell a hook something, and what its answer means.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::form::Post;
use super::occasion::cut;
use super::{Body, Hook};
use crate::retry::Class;

/// Of an answer, in bytes; what is longer is none of a webhook.
const ANSWER_MAX: usize = 64 * 1024;

/// Of what a webhook says, in characters.
const SAID_MAX: usize = 200;

/// No longer is waited because a webhook asks for it.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Why a hook was not told something. Names the hook by its host alone.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    #[error("{hook} can't be reached")]
    Unreachable {
        hook: String,
        /// Without its URL.
        source: reqwest::Error,
    },
    #[error("{hook} answered {status}{}{}", colon(said), hint(*status))]
    Status {
        hook: String,
        status: StatusCode,
        said: String,
        retry_after: Option<Duration>,
    },
    #[error("{hook} refused the message with code {code}{}", colon(said))]
    Refused {
        hook: String,
        code: i64,
        said: String,
        /// Whether it is only too much or too early.
        passes: bool,
    },
    #[error(
        "{hook} gave an answer that is none of such a webhook{}: check its URL and kind, and proxies",
        colon(said)
    )]
    Nonsense { hook: String, said: String },
    #[error("can't make an HTTP client: check the proxies and the trusted roots: {why}")]
    Client { why: String },
}

fn colon(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 | 404 | 410 => "; check its URL and secret",
        300..=399 => "; redirects are not followed, give the URL that it redirects to",
        _ => "",
    }
}

impl NotTold {
    pub(super) fn client(error: &reqwest::Error) -> Self {
        Self::Client {
            why: crate::events::told(error),
        }
    }

    /// Whether another attempt may succeed.
    pub fn class(&self) -> Class {
        let is_worth_it = match self {
            Self::Unreachable { .. } | Self::Nonsense { .. } => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 425 | 429 | 500..),
            Self::Refused { passes, .. } => *passes,
            Self::Client { .. } => false,
        };
        if is_worth_it {
            Class::Transient
        } else {
            Class::Permanent
        }
    }

    /// How long the webhook wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            // All of them count by the minute.
            Self::Refused { passes: true, .. } => Some(Duration::from_mins(1)),
            _ => None,
        }
    }
}

/// Makes requests to webhooks.
#[derive(Debug, Clone)]
pub(super) struct Sender(Client);

impl Sender {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // Far ones need seconds, and nobody waits for it.
        Client::builder()
            .redirect(Redirects::none())
            .connect_timeout(Duration::from_secs(15))
            .timeout(Duration::from_secs(45))
            .pool_max_idle_per_host(1)
            .user_agent(concat!("kops-mirror/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
    }

    /// One attempt.
    pub(super) async fn send(&self, hook: &Hook, post: Post) -> Result<(), NotTold> {
        let unreachable = |error: reqwest::Error| NotTold::Unreachable {
            hook: hook.to_string(),
            source: error.without_url(),
        };
        let mut request = self.0.post(post.url).body(post.body);
        for (name, value) in post.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let retry_after = retry_after(&answer);
        let said = read(&mut answer).await.map_err(unreachable)?;
        if status.is_success() {
            return judge(hook, &said);
        }
        Err(NotTold::Status {
            hook: hook.to_string(),
            status,
            said: shown(hook, &said),
            retry_after,
        })
    }
}

async fn read(answer: &mut Response) -> Result<String, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Seconds; none of these services gives a date.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What somebody said, in a line and without our secrets.
fn shown(hook: &Hook, said: &str) -> String {
    let words: Vec<&str> = said.split_whitespace().collect();
    let mut line = hook.without_secrets(&words.join(" "));
    cut(&mut line, SAID_MAX);
    line.replace(char::is_control, " ")
}

/// The answers of the three that say 200 to everything.
#[derive(Debug, Deserialize)]
struct Verdict {
    #[serde(alias = "errcode", alias = "StatusCode")]
    code: i64,
    #[serde(default, alias = "errmsg", alias = "StatusMessage")]
    msg: String,
}

/// What an answer with a good status means.
fn judge(hook: &Hook, said: &str) -> Result<(), NotTold> {
    match hook.body {
        Body::Json => Ok(()),
        Body::Slack if said.trim() == "ok" => Ok(()),
        Body::Slack => Err(nonsense(hook, said)),
        Body::DingTalk | Body::WeCom | Body::Feishu => {
            let verdict = verdict(said).ok_or_else(|| nonsense(hook, said))?;
            if verdict.code == 0 {
                return Ok(());
            }
            Err(NotTold::Refused {
                hook: hook.to_string(),
                code: verdict.code,
                said: shown(hook, &verdict.msg),
                passes: passes(hook.body, verdict.code),
            })
        }
    }
}

/// Feishu says it in two ways at once, of which the newer counts.
fn verdict(said: &str) -> Option<Verdict> {
    let mut answer: serde_json::Value = serde_json::from_str(said).ok()?;
    let fields = answer.as_object_mut()?;
    if fields.contains_key("code") {
        fields.remove("StatusCode");
    }
    if fields.contains_key("msg") {
        fields.remove("StatusMessage");
    }
    serde_json::from_value(answer).ok()
}

fn nonsense(hook: &Hook, said: &str) -> NotTold {
    NotTold::Nonsense {
        hook: hook.to_string(),
        said: shown(hook, said),
    }
}

/// Codes that say that the service is busy, or that too much was sent in a minute: everything else stays as it is. Sources: the
/// tables of global error codes of the three, linked from the pages at [`Body`].
fn passes(body: Body, code: i64) -> bool {
    match body {
        Body::DingTalk => matches!(code, -1 | 130_101 | 410_100),
        Body::WeCom => matches!(code, -1 | 45_009 | 45_033),
        Body::Feishu => matches!(code, 11_232 | 11_233),
        Body::Json | Body::Slack => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(body: Body) -> Hook {
        let url = "https://hooks.example/services/T0123456/tok3n-tok3n?access_token=s3cr3t-s3cr3t";
        Hook {
            secret: Some(super::super::Secret::new("SECabcdefgh")),
            ..Hook::new(url.parse().unwrap(), body)
        }
    }

    fn refusal(body: Body, said: &str) -> NotTold {
        judge(&hook(body), said).unwrap_err()
    }

    #[test]
    fn good_answers_are_good() {
        for (body, said) in [
            (Body::Json, ""),
            (Body::Slack, "ok\n"),
            (Body::DingTalk, r#"{"errcode":0,"errmsg":"ok"}"#),
            (Body::WeCom, r#"{"errcode":0,"errmsg":"ok"}"#),
            (Body::Feishu, r#"{"code":0,"data":{},"msg":"success"}"#),
            (
                Body::Feishu,
                r#"{"StatusCode":0,"StatusMessage":"success","code":0,"msg":"success"}"#,
            ),
            (
                Body::Feishu,
                r#"{"StatusCode":0,"StatusMessage":"success"}"#,
            ),
        ] {
            assert!(judge(&hook(body), said).is_ok(), "{body}: {said}");
        }
    }

    #[test]
    fn a_code_is_a_refusal_for_good_unless_it_passes() {
        let wrong_sign = refusal(
            Body::DingTalk,
            r#"{"errcode":310000,"errmsg":"sign not match"}"#,
        );
        assert_eq!(wrong_sign.class(), Class::Permanent);
        assert_eq!(
            wrong_sign.to_string(),
            "the dingtalk webhook at hooks.example refused the message with code 310000: sign not match"
        );
        for (body, said) in [
            (
                Body::DingTalk,
                r#"{"errcode":130101,"errmsg":"send too fast"}"#,
            ),
            (
                Body::WeCom,
                r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#,
            ),
            (Body::Feishu, r#"{"code":11232,"msg":"frequency limited"}"#),
        ] {
            let refused = refusal(body, said);
            assert_eq!(refused.class(), Class::Transient, "{said}");
            assert!(refused.retry_after().is_some());
        }
        let refused = refusal(Body::Feishu, r#"{"code":19021,"msg":"sign match fail"}"#);
        assert_eq!(refused.class(), Class::Permanent);
    }

    #[test]
    fn a_web_page_is_no_answer_but_may_be_one_later() {
        for body in [Body::Slack, Body::DingTalk, Body::WeCom, Body::Feishu] {
            let error = refusal(body, "<html>log in first</html>");
            assert!(matches!(error, NotTold::Nonsense { .. }), "{body}");
            assert_eq!(error.class(), Class::Transient);
        }
    }

    #[test]
    fn what_a_webhook_says_has_none_of_our_secrets() {
        let said = r#"{"errcode":1,"errmsg":"POST /services/T0123456/tok3n-tok3n?access_token=s3cr3t-s3cr3t SECabcdefgh\nno"}"#;
        let error = refusal(Body::DingTalk, said).to_string();
        for secret in ["T0123456", "tok3n", "s3cr3t", "SECabc"] {
            assert!(!error.contains(secret), "{error}");
        }
        let hook = format!("{0:?} {0}", hook(Body::DingTalk));
        for secret in ["T0123456", "tok3n", "s3cr3t", "SECabc", "services"] {
            assert!(!hook.contains(secret), "{hook}");
        }
    }
}
