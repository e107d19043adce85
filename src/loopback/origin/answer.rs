//! Decides what an origin answers: the right answer first, then what the faults make of it. Writes nothing.

use std::ops::Range;
use std::time::Duration;

use super::content::Content;
use super::fault::{End, Fault};
use super::file::File;
use super::request::{AskedRange, Request};

/// An answer, and how it is to be delivered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Before the first byte.
    pub(super) pause: Duration,
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    pub(super) framing: Framing,
    pub(super) delivery: Delivery,
}

/// Part of a content; beyond its end for answers that are too long.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) content: Content,
    pub(super) range: Range<u64>,
    /// Whether it is the file that was asked for, and not a page about an error.
    pub(super) is_file: bool,
}

impl Body {
    fn none() -> Self {
        Self {
            content: Content::from(""),
            range: 0..0,
            is_file: false,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

/// What happens while the body is written.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) cut: Option<(u64, End)>,
    pub(super) stall: Option<(u64, Option<Duration>)>,
    pub(super) pace: Option<Pace>,
    /// Offsets in the file.
    pub(super) corrupt: Vec<u64>,
}

/// So many bytes, and again after a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) bytes: u64,
    pub(super) every: Duration,
}

impl Pace {
    /// Small steps, so that a rate is even within a tenth of a second.
    fn rate(bytes_per_second: u64) -> Self {
        let bytes = (bytes_per_second / 20).clamp(1, 64 * 1024);
        let seconds = Duration::from_secs(bytes);
        Self {
            bytes,
            every: seconds / u32::try_from(bytes_per_second.max(1)).unwrap_or(u32::MAX),
        }
    }
}

impl Answer {
    /// An answer about something that went wrong.
    pub(super) fn trouble(status: u16, content_type: &str, text: impl Into<Content>) -> Self {
        let content = text.into();
        Self {
            pause: Duration::ZERO,
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: Body {
                range: 0..content.length(),
                content,
                is_file: false,
            },
            framing: Framing::Length,
            delivery: Delivery::default(),
        }
    }

    pub(super) fn not_found() -> Self {
        Self::trouble(404, "text/plain", "there is no such file\n")
    }

    /// What S3 and Azure answer for a signed URL that is no longer good.
    pub(super) fn expired() -> Self {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                    <Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
        Self::trouble(403, "application/xml", text)
    }

    pub(super) fn redirect(location: String) -> Self {
        let mut answer = Self::trouble(302, "text/html", "");
        answer.headers.push(("Location", location));
        answer
    }

    /// The answer for a file, as the faults leave it.
    pub(super) fn of_file(file: &File, request: &Request, faults: &[Fault]) -> Self {
        let mut answer = match precondition(file, request) {
            Some(refused) => refused,
            None => Self::content(file, range_asked(file, request, faults)),
        };
        for fault in faults {
            answer.suffer(fault);
        }
        answer
    }

    fn content(file: &File, asked: Option<AskedRange>) -> Self {
        let length = file.content.length();
        let (status, range) = match asked.map(|asked| asked.within(length)) {
            None => (200, 0..length),
            Some(Some(range)) => (206, range),
            Some(None) => return Self::unsatisfiable(length),
        };
        let mut headers = headers_of(file);
        if status == 206 {
            headers.push(("Content-Range", content_range(&range, length)));
        }
        Self {
            pause: Duration::ZERO,
            status,
            headers,
            body: Body {
                content: file.content.clone(),
                range,
                is_file: true,
            },
            framing: Framing::Length,
            delivery: Delivery::default(),
        }
    }

    fn unsatisfiable(length: u64) -> Self {
        let mut answer = Self::trouble(416, "text/plain", "there are no such bytes\n");
        answer
            .headers
            .push(("Content-Range", format!("bytes */{length}")));
        answer
    }

    /// Changes the answer as a fault does that leaves it an answer for the file.
    pub(super) fn suffer(&mut self, fault: &Fault) {
        match fault {
            Fault::SlowFirstByte(pause) => self.pause = *pause,
            Fault::NoContentRange => self.headers.retain(|(name, _)| *name != "Content-Range"),
            Fault::WrongTotal(total) => {
                let range = content_range(&self.body.range, *total);
                self.replace_header("Content-Range", range);
            }
            Fault::Longer(by) => self.body.range.end += by,
            Fault::Shorter(by) => {
                let after = self.body.length().saturating_sub(*by);
                self.delivery.cut = Some((after, End::Close));
            }
            Fault::Chunked => self.framing = Framing::Chunked,
            Fault::CloseDelimited => self.framing = Framing::Close,
            Fault::Corrupt(at) => self.delivery.corrupt.push(*at),
            Fault::Cut { after, end } => self.delivery.cut = Some((*after, *end)),
            Fault::Stall { after, time } => self.delivery.stall = Some((*after, *time)),
            Fault::Trickle { bytes, every } => {
                self.delivery.pace = Some(Pace {
                    bytes: (*bytes).max(1),
                    every: *every,
                });
            }
            Fault::Rate(bytes_per_second) => {
                self.delivery.pace = Some(Pace::rate(*bytes_per_second));
            }
            // These were dealt with when file and range were chosen, or instead of them.
            Fault::HangUp
            | Fault::Status { .. }
            | Fault::HtmlPage
            | Fault::RedirectSigned(_)
            | Fault::RedirectTo(_)
            | Fault::IgnoreRange
            | Fault::ShiftRange(_)
            | Fault::OtherFile(_)
            | Fault::Changed(_) => {}
        }
    }

    fn replace_header(&mut self, name: &str, value: String) {
        if let Some((_, old)) = self.headers.iter_mut().find(|(n, _)| *n == name) {
            *old = value;
        }
    }
}

/// The bytes that a request asks of a file: those of a right answer, before any fault.
pub(super) fn body_asked(file: &File, request: &Request) -> Range<u64> {
    if request.method != "GET" || precondition(file, request).is_some() {
        return 0..0;
    }
    let length = file.content.length();
    match honoured_range(file, request) {
        None => 0..length,
        Some(range) => range.within(length).unwrap_or(0..0),
    }
}

fn range_asked(file: &File, request: &Request, faults: &[Fault]) -> Option<AskedRange> {
    let mut range = honoured_range(file, request);
    for fault in faults {
        match fault {
            Fault::IgnoreRange => range = None,
            Fault::ShiftRange(by) => range = range.map(|range| range.shifted(*by)),
            _ => {}
        }
    }
    range
}

/// The range, unless `If-Range` names another state of the file. Dates never match: no Last-Modified is told here.
fn honoured_range(file: &File, request: &Request) -> Option<AskedRange> {
    let range = request.range()?;
    match request.header("if-range") {
        Some(validator) if !strong_match(file, validator) => None,
        _ => Some(range),
    }
}

/// The answer where `If-Match` or `If-None-Match` forbids sending the file.
fn precondition(file: &File, request: &Request) -> Option<Answer> {
    let any = |list: &str, matches: &dyn Fn(&str) -> bool| {
        list.trim() == "*" || list.split(',').any(|tag| matches(tag.trim()))
    };
    if let Some(list) = request.header("if-match")
        && !any(list, &|tag| strong_match(file, tag))
    {
        return Some(Answer::trouble(
            412,
            "text/plain",
            "the file is another one\n",
        ));
    }
    if let Some(list) = request.header("if-none-match")
        && any(list, &|tag| file.etag.as_deref() == Some(tag))
    {
        let mut answer = Answer::trouble(304, "text/plain", "");
        answer.headers = headers_of(file);
        answer.body = Body::none();
        return Some(answer);
    }
    None
}

fn strong_match(file: &File, tag: &str) -> bool {
    !tag.starts_with("W/") && file.etag.as_deref() == Some(tag)
}

fn headers_of(file: &File) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("Content-Type", file.content_type.clone()),
        ("Accept-Ranges", "bytes".to_owned()),
    ];
    headers.extend(file.etag.clone().map(|etag| ("ETag", etag)));
    let hashes = file.goog_hashes.iter().cloned();
    headers.extend(hashes.map(|hash| ("x-goog-hash", hash)));
    headers
}

fn content_range(range: &Range<u64>, total: u64) -> String {
    format!("bytes {}-{}/{total}", range.start, range.end.max(1) - 1)
}
