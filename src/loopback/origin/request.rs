//! Reads a request's head from the wire, and the conditions and ranges in it.

use std::io;
use std::ops::Range;

use bytes::{Buf as _, BytesMut};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// More than any client sends in one head.
const HEAD_LIMIT: usize = 64 * 1024;
const HEADER_LIMIT: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Decoded, without the query. A proxy's request for `http://HOST/path` has `/HOST/path`.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The range asked for. More than one range, or a text that is none, is as if there were no range (RFC 9110 §14.2).
    pub(super) fn range(&self) -> Option<AskedRange> {
        AskedRange::parse(self.header("range")?)
    }

    pub(super) fn keeps_alive(&self) -> bool {
        !self
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The value of a parameter in the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// One range of bytes in the three forms that HTTP has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedRange {
    /// `bytes=10-19`
    Closed(u64, u64),
    /// `bytes=10-`
    From(u64),
    /// `bytes=-10`
    Last(u64),
}

impl AskedRange {
    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => Some(Self::Last(last.parse().ok()?)),
            (first, "") => Some(Self::From(first.parse().ok()?)),
            (first, last) => {
                let (first, last) = (first.parse().ok()?, last.parse().ok()?);
                (first <= last).then_some(Self::Closed(first, last))
            }
        }
    }

    /// The bytes of a content of this length that are meant; none if there are no such bytes.
    pub(super) fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Closed(first, last) => first..length.min(last.saturating_add(1)),
            Self::From(first) => first..length,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (range.start < range.end).then_some(range)
    }

    pub(super) fn shifted(self, by: u64) -> Self {
        match self {
            Self::Closed(first, last) => Self::Closed(first + by, last + by),
            Self::From(first) => Self::From(first + by),
            Self::Last(count) => Self::Last(count.saturating_sub(by).max(1)),
        }
    }
}

/// Reads the next request's head; none when the client has ended the connection between two requests.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Request>> {
    loop {
        if let Some((request, length)) = parse(buffer)? {
            buffer.advance(length);
            return Ok(Some(request));
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(malformed("the head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    }
}

fn parse(buffer: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(malformed(error)),
    };
    let (path, query) = split_target(head.path.unwrap_or("/"));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path,
        query,
        headers: head.headers.iter().map(text_of).collect(),
    };
    Ok(Some((request, length)))
}

fn split_target(target: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // A client that takes this origin for its proxy sends the whole URL.
    let path = match path.strip_prefix("http://") {
        Some(host_and_path) => format!("/{host_and_path}"),
        None => path.to_owned(),
    };
    let path = percent_decode_str(&path).decode_utf8_lossy().into_owned();
    (path, query.to_owned())
}

fn text_of(header: &httparse::Header) -> (String, String) {
    (
        header.name.to_owned(),
        String::from_utf8_lossy(header.value).into_owned(),
    )
}

fn malformed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_forms_of_a_range_and_nothing_else() {
        for (value, length, expected) in [
            ("bytes=0-0", 10, Some(0..1)),
            ("bytes=2-100", 10, Some(2..10)),
            ("bytes=4-", 10, Some(4..10)),
            ("bytes=-3", 10, Some(7..10)),
            ("bytes=-30", 10, Some(0..10)),
            ("bytes=-0", 10, None),
            ("bytes=10-", 10, None),
            ("bytes=0-18446744073709551615", 10, Some(0..10)),
        ] {
            let range = AskedRange::parse(value).unwrap();
            assert_eq!(range.within(length), expected, "{value}");
        }
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=3-2",
            "bytes=0-1,3-4",
            "lines=1-2",
        ] {
            assert_eq!(AskedRange::parse(value), None, "{value}");
        }
    }

    #[test]
    fn a_proxy_request_finds_the_path_below_its_host() {
        let bytes = b"GET http://dl.k8s.io/a%20b?x=1 HTTP/1.1\r\nHost: y\r\n\r\nrest";
        let (request, length) = parse(bytes).unwrap().unwrap();
        assert_eq!(bytes[length..], *b"rest");
        assert_eq!(
            (request.path.as_str(), request.query.as_str()),
            ("/dl.k8s.io/a b", "x=1")
        );
        assert_eq!(request.parameter("x").as_deref(), Some("1"));
        assert_eq!(request.header("HOST"), Some("y"));
    }

    #[test]
    fn refuses_what_is_not_http() {
        assert!(parse(b"\x16\x03\x01\x02\x00\x01").is_err());
    }
}
