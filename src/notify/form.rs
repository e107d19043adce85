//! A message in the form that each kind of webhook takes, signed as it wants it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use url::Url;

use super::message::{Message, Style};
use super::occasion::Occasion;
use super::{Body, Hook, Language, Secret};

/// DingTalk takes 20,000 bytes in all ("custom robots send group messages"); the rest of the document is short.
const DINGTALK_MAX_BYTES: usize = 19_000;

/// Of a WeCom message's content ("group robots", markdown).
const WECOM_MAX_BYTES: usize = 4096;

/// Feishu takes 20 KB in all ("custom bot usage guide"); each line has some bytes around it.
const FEISHU_MAX_BYTES: usize = 14_000;

/// Characters of a section's text (Slack's reference of blocks).
const SLACK_MAX_BYTES: usize = 3000;

/// Our own document has no limit but good sense.
const JSON_MAX_BYTES: usize = 32_000;

const MARKDOWN: Style = Style {
    name: ["**", "**"],
    item: "> ",
    between: "\n",
    plain: without_markdown,
};

const PLAIN: Style = Style {
    name: ["", ""],
    item: "- ",
    between: "\n",
    plain: str::to_owned,
};

const MRKDWN: Style = Style {
    name: ["*", "*"],
    item: "• ",
    between: "\n",
    plain: without_mrkdwn,
};

/// A request that is to be made.
pub(super) struct Post {
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

/// The request that tells a hook of an occasion, signed for this moment.
pub(super) fn post(hook: &Hook, occasion: &Occasion, delivery: &str, now: Timestamp) -> Post {
    let message = Message::new(occasion, hook.language);
    let secret = hook.secret.as_ref();
    let mut url = hook.url.clone();
    let mut headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
    let body = match hook.body {
        Body::Json => {
            let body = of_json(occasion, &message, delivery).to_string();
            headers.push(("x-kops-mirror-delivery", delivery.to_owned()));
            if let Some(secret) = secret {
                headers.extend(signature(secret, &body, now));
            }
            body
        }
        Body::DingTalk => {
            if let Some(secret) = secret {
                sign_for_dingtalk(&mut url, secret, now);
            }
            of_dingtalk(&message).to_string()
        }
        Body::WeCom => of_wecom(&message).to_string(),
        Body::Feishu => of_feishu(&message, hook.language, secret, now).to_string(),
        Body::Slack => of_slack(&message).to_string(),
    };
    Post { url, headers, body }
}

fn of_json(occasion: &Occasion, message: &Message, delivery: &str) -> Value {
    let text = message.fitted(&PLAIN, within(JSON_MAX_BYTES));
    let mut document = json!({
        "version": 1,
        "delivery": delivery,
        "title": message.title,
        "text": text,
    });
    let occasion = serde_json::to_value(occasion).expect("it is plain data");
    if let (Value::Object(document), Value::Object(occasion)) = (&mut document, occasion) {
        document.extend(occasion);
    }
    document
}

fn signature(secret: &Secret, body: &str, now: Timestamp) -> [(&'static str, String); 2] {
    let seconds = now.as_second();
    let signed = hmac(secret.as_str(), &format!("{seconds}.{body}"));
    [
        ("x-kops-mirror-timestamp", seconds.to_string()),
        (
            "x-kops-mirror-signature",
            format!("sha256={}", hex::encode(signed)),
        ),
    ]
}

fn of_dingtalk(message: &Message) -> Value {
    // There a line ends where a paragraph does.
    let style = Style {
        between: "\n\n",
        ..MARKDOWN
    };
    let head = heading(message, style.between);
    let room = DINGTALK_MAX_BYTES.saturating_sub(2 * in_json(&head));
    let text = message.fitted(&style, within(room));
    json!({
        "msgtype": "markdown",
        "markdown": {"title": message.title, "text": head + &text},
    })
}

fn sign_for_dingtalk(url: &mut Url, secret: &Secret, now: Timestamp) {
    let milliseconds = now.as_millisecond();
    let secret = secret.as_str();
    let signed = hmac(secret, &format!("{milliseconds}\n{secret}"));
    url.query_pairs_mut()
        .append_pair("timestamp", &milliseconds.to_string())
        .append_pair("sign", &BASE64_STANDARD.encode(signed));
}

fn of_wecom(message: &Message) -> Value {
    let head = heading(message, MARKDOWN.between);
    let room = WECOM_MAX_BYTES.saturating_sub(head.len());
    let text = message.fitted(&MARKDOWN, |text| text.len() <= room);
    json!({"msgtype": "markdown", "markdown": {"content": head + &text}})
}

fn of_feishu(
    message: &Message,
    language: Language,
    secret: Option<&Secret>,
    now: Timestamp,
) -> Value {
    // A line has 28 bytes around it.
    let room = |text: &str| in_json(text) + 28 * text.lines().count() <= FEISHU_MAX_BYTES;
    let text = message.fitted(&PLAIN, room);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| json!([{"tag": "text", "text": line}]))
        .collect();
    let content = json!({"title": message.title, "content": lines});
    let mut document = json!({
        "msg_type": "post",
        "content": {"post": {language.of("en_us", "zh_cn"): content}},
    });
    if let Some(secret) = secret {
        let seconds = now.as_second().to_string();
        let signed = hmac(&format!("{seconds}\n{}", secret.as_str()), "");
        document["sign"] = BASE64_STANDARD.encode(signed).into();
        document["timestamp"] = seconds.into();
    }
    document
}

fn of_slack(message: &Message) -> Value {
    let text = message.fitted(&MRKDWN, |text| text.len() <= SLACK_MAX_BYTES);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": message.title},
    })];
    if !text.is_empty() {
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
    }
    json!({"text": without_mrkdwn(&message.title), "blocks": blocks})
}

fn heading(message: &Message, between: &str) -> String {
    format!("### {}{between}", without_markdown(&message.title))
}

fn hmac(key: &str, text: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may be of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn within(most: usize) -> impl Fn(&str) -> bool {
    move |text| in_json(text) <= most
}

/// Bytes of a text in a JSON document.
fn in_json(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |text| text.len())
}

/// Without links, mentions and emphasis that somebody else's words could make. The two dialects escape nothing reliably, so what
/// has a meaning gives way to what looks like it.
fn without_markdown(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '[' => '(',
            ']' => ')',
            '<' => '‹',
            '>' => '›',
            '*' => '∗',
            '`' => '\'',
            other => other,
        })
        .collect()
}

/// The three characters that have a meaning to Slack everywhere (its guide to formatting text).
fn without_mrkdwn(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
