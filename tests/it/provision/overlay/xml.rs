//! Answers as AWS writes them, and moto's with something changed.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::Answer;

pub(super) fn answer(operation: &str, content: &str) -> Answer {
    let body = format!(
        "<{operation}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>overlay</requestId>{content}</{operation}Response>"
    );
    (StatusCode::OK, kind("text/xml"), body.into())
}

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>overlay</RequestID></Response>"
    );
    (
        StatusCode::from_u16(status).unwrap(),
        kind("text/xml"),
        body.into(),
    )
}

pub(super) fn refusal_of_s3(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>as AWS says it</Message></Error>");
    (
        StatusCode::from_u16(status).unwrap(),
        kind("application/xml"),
        body.into(),
    )
}

/// As services of the query protocol say it, EC2 apart.
pub(super) fn refusal_of_query(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>overlay</RequestId></ErrorResponse>"
    );
    (
        StatusCode::from_u16(status).unwrap(),
        kind("text/xml"),
        body.into(),
    )
}

pub(super) fn json(status: u16, value: &serde_json::Value) -> Answer {
    let body = value.to_string().into();
    (
        StatusCode::from_u16(status).unwrap(),
        kind("application/x-amz-json-1.1"),
        body,
    )
}

fn kind(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        "content-type".parse().unwrap(),
        HeaderValue::from_static(kind),
    )])
}

/// What stands in an element, the first of that name.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
        .map(|(inner, _)| inner)
}

/// Where the items of a list are, those within them left alone.
pub(super) fn items(text: &str, list: &str) -> Vec<Range<usize>> {
    let Some(start) = text.find(&format!("<{list}>")) else {
        return Vec::new();
    };
    let (mut at, mut depth, mut begun) = (start, 0_u32, start);
    let mut found = Vec::new();
    while let Some(next) = text[at..].find('<').map(|next| at + next) {
        let rest = &text[next..];
        at = next + 1;
        if rest.starts_with("<item>") {
            if depth == 0 {
                begun = next;
            }
            depth += 1;
        } else if rest.starts_with("</item>") {
            depth -= 1;
            if depth == 0 {
                found.push(begun..next + "</item>".len());
            }
        } else if rest.starts_with(&format!("</{list}>")) {
            break;
        }
    }
    found
}

/// Changes or leaves out the items of a list.
pub(super) fn edited(
    text: &str,
    list: &str,
    mut edit: impl FnMut(&str) -> Option<String>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in items(text, list) {
        out.push_str(&text[at..range.start]);
        at = range.end;
        out.push_str(&edit(&text[range]).unwrap_or_default());
    }
    out + &text[at..]
}

#[test]
fn items_within_items_are_left_alone() {
    let text = "<s><item>a<t><item>x</item></t></item><item>b</item></s>";
    let parts: Vec<_> = items(text, "s")
        .into_iter()
        .map(|range| &text[range])
        .collect();
    assert_eq!(
        parts,
        ["<item>a<t><item>x</item></t></item>", "<item>b</item>"]
    );
    let without = edited(text, "s", |item| {
        item.contains('a').then(|| item.to_owned())
    });
    assert_eq!(without, "<s><item>a<t><item>x</item></t></item></s>");
}
