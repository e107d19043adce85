//! Names what can go wrong at an origin, and decides which request it happens to.
//!
//! Each fault counts only the requests it can show itself on (a fault of ranges counts requests with a range, a cut after
//! 1,000 bytes counts bodies longer than that), so that "once" means once seen.

use std::ops::Range;
use std::time::Duration;

use super::file::File;

/// What goes wrong, or goes as it does in the world. Several may befall one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends without any answer.
    HangUp,
    /// An error status with a short text.
    Status {
        code: u16,
        retry_after: Option<String>,
    },
    /// Status 200 and a page that says sorry, as captive portals and filters send it.
    HtmlPage,
    /// 302 to a signed URL on another port, which answers 403 once it has expired.
    RedirectSigned(Expiry),
    /// 302 to this URL.
    RedirectTo(String),
    /// Nothing is sent for this long, then the answer.
    SlowFirstByte(Duration),
    /// 200 and the whole file, though a range was asked for.
    IgnoreRange,
    /// 206 with an honest `Content-Range` for a range that starts this much later than the one asked for.
    ShiftRange(u64),
    /// The answer that a request for another path would get.
    OtherFile(String),
    /// `Content-Range` with this length of the whole file.
    WrongTotal(u64),
    /// 206 without `Content-Range`.
    NoContentRange,
    /// The file has become another one.
    Changed(File),
    /// `Content-Length` and body are longer than the file or the range by this many bytes.
    Longer(u64),
    /// The body ends this many bytes before its `Content-Length`, with an orderly close.
    Shorter(u64),
    /// No `Content-Length`: the body comes in chunks.
    Chunked,
    /// No `Content-Length`: the body ends where the connection does.
    CloseDelimited,
    /// The byte at this offset of the file has all its bits flipped.
    Corrupt(u64),
    /// The connection ends after this many body bytes.
    Cut { after: u64, end: End },
    /// Nothing more comes after this many body bytes: for a time, or until the client goes.
    Stall { after: u64, time: Option<Duration> },
    /// This many body bytes, a pause, and again.
    Trickle { bytes: u64, every: Duration },
    /// At most so many body bytes per second.
    Rate(u64),
}

impl Fault {
    /// An error status without more ado.
    pub fn status(code: u16) -> Self {
        Self::Status {
            code,
            retry_after: None,
        }
    }

    /// A cut with an orderly close.
    pub fn cut(after: u64) -> Self {
        Self::Cut {
            after,
            end: End::Close,
        }
    }

    fn can_show_on(&self, asked: &Asked) -> bool {
        match self {
            Self::IgnoreRange
            | Self::ShiftRange(_)
            | Self::WrongTotal(_)
            | Self::NoContentRange => asked.has_range,
            Self::Corrupt(at) => asked.body.contains(at),
            Self::Cut { after, .. } | Self::Stall { after, .. } => *after < asked.body_length(),
            Self::Shorter(by) => asked.body_length() > 0 && *by <= asked.body_length(),
            Self::Longer(_)
            | Self::Chunked
            | Self::CloseDelimited
            | Self::Trickle { .. }
            | Self::Rate(_) => asked.body_length() > 0,
            _ => true,
        }
    }

    fn is_redirect(&self) -> bool {
        matches!(self, Self::RedirectSigned(_) | Self::RedirectTo(_))
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN: all that was written arrives.
    Close,
    /// RST: the client sees a reset. What was written before it has had a moment to arrive.
    Reset,
}

/// How long a signed URL is good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    pub after: Option<Duration>,
    pub uses: Option<u64>,
}

/// Which of the requests that a fault can show itself on it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Once,
    Times(u64),
    Always,
    /// This one alone, counted from 1.
    Nth(u64),
    /// This one and all later ones, counted from 1.
    From(u64),
}

impl When {
    fn hits(self, count: u64) -> bool {
        match self {
            Self::Once => count == 1,
            Self::Times(n) => count <= n,
            Self::Always => true,
            Self::Nth(n) => count == n,
            Self::From(n) => count >= n,
        }
    }
}

/// What a request asks for, as far as faults care. The body is empty for HEAD and for a file that is not there.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    pub(super) has_range: bool,
    pub(super) body: Range<u64>,
    /// Came through the door of signed URLs, where nothing is redirected again.
    pub(super) signed: bool,
}

impl Asked<'_> {
    fn body_length(&self) -> u64 {
        self.body.end - self.body.start
    }
}

/// The faults that were ordered, and how often each could have struck.
#[derive(Debug, Default)]
pub(super) struct Orders(Vec<Order>);

#[derive(Debug)]
struct Order {
    pattern: String,
    when: When,
    fault: Fault,
    count: u64,
}

impl Orders {
    pub(super) fn add(&mut self, pattern: &str, when: When, fault: Fault) {
        self.0.push(Order {
            pattern: pattern.to_owned(),
            when,
            fault,
            count: 0,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The faults that befall this request, in the order in which they were ordered. A redirect comes alone: the others wait for
    /// the request that follows it.
    pub(super) fn strike(&mut self, asked: &Asked) -> Vec<Fault> {
        if !asked.signed {
            let redirects = self.strike_where(asked, Fault::is_redirect);
            if !redirects.is_empty() {
                return redirects;
            }
        }
        self.strike_where(asked, |fault| !fault.is_redirect())
    }

    fn strike_where(&mut self, asked: &Asked, kind: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let mut struck = Vec::new();
        for order in &mut self.0 {
            if kind(&order.fault)
                && matches(&order.pattern, asked.path)
                && order.fault.can_show_on(asked)
            {
                order.count += 1;
                if order.when.hits(order.count) {
                    struck.push(order.fault.clone());
                }
            }
        }
        struck
    }
}

/// Whether `*`, which stands for any run of characters, can be filled in so that pattern and text are the same.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    while let Some((part, after)) = rest.split_once('*') {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
        rest = after;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: Range<u64>) -> Asked<'static> {
        Asked {
            path: "/dl.k8s.io/kubelet",
            has_range: true,
            body,
            signed: false,
        }
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "/a/b", true),
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/bc", false),
            ("*/kubelet", "/dl.k8s.io/bin/kubelet", true),
            ("*/kubelet", "/dl.k8s.io/bin/kubelet.sha256", false),
            (
                "/github.com/*/download/*",
                "/github.com/x/y/download/z",
                true,
            ),
            ("/github.com/*/download/*", "/github.com/x/y/z", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn each_fault_counts_only_what_it_can_show_itself_on() {
        let mut orders = Orders::default();
        orders.add("*", When::Once, Fault::Corrupt(150));
        orders.add("*", When::Nth(2), Fault::cut(50));
        assert_eq!(orders.strike(&asked(0..100)), []);
        assert_eq!(orders.strike(&asked(100..110)), []);
        assert_eq!(
            orders.strike(&asked(100..200)),
            [Fault::Corrupt(150), Fault::cut(50)]
        );
        assert_eq!(orders.strike(&asked(100..200)), []);
    }

    #[test]
    fn a_redirect_comes_alone_and_never_at_the_signed_door() {
        let redirect = Fault::RedirectSigned(Expiry::default());
        let mut orders = Orders::default();
        orders.add("*", When::Once, Fault::cut(5));
        orders.add("*", When::Always, redirect.clone());
        assert_eq!(orders.strike(&asked(0..100)), [redirect]);
        let signed = Asked {
            signed: true,
            ..asked(0..100)
        };
        assert_eq!(orders.strike(&signed), [Fault::cut(5)]);
    }
}
