//! Serves one connection: reads heads, writes answers byte by byte as their delivery says, and ends as ordered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::Served;
use super::answer::{Answer, Framing, Pace};
use super::fault::End;
use super::log::{Entry, Exchange};
use super::request::{self, Request};

/// Bytes that are made and written at once.
const PIECE: usize = 128 * 1024;

/// How long what was written before a reset has to arrive: a reset drops what still waits in the kernel.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// Whether a connection serves another request, or how it ends.
enum Then {
    Next,
    End(End),
}

/// Serves a connection until one side ends it, or its time is over and it is reset.
pub(super) async fn serve(
    served: Arc<Served>,
    mut stream: TcpStream,
    peer: SocketAddr,
    signed: bool,
    life: Option<Duration>,
) {
    let connected = served.log.connected();
    let mut door = Door {
        served: &served,
        peer,
        number: connected.number,
        signed,
    };
    let reset = served.open.enter(connected.number);
    let ending = tokio::select! {
        ended = door.requests(&mut stream) => ended,
        () = over(life) => Ok(End::Reset),
        Ok(()) = reset => Ok(End::Reset),
    };
    served.open.leave(connected.number);
    match ending {
        Ok(End::Close) => {
            // The other side may be gone already: then there is nobody to tell.
            let _ = stream.shutdown().await;
        }
        Ok(End::Reset) => {
            sleep(BEFORE_RESET).await;
            let _ = stream.set_zero_linger();
        }
        Err(error) => tracing::debug!(%peer, %error, "a client ended its connection"),
    }
}

/// Ends when a connection has lived its time, if it has one.
async fn over(life: Option<Duration>) {
    match life {
        Some(life) => sleep(life).await,
        None => std::future::pending().await,
    }
}

/// Where a connection came in.
struct Door<'a> {
    served: &'a Served,
    peer: SocketAddr,
    number: u64,
    signed: bool,
}

impl Door<'_> {
    async fn requests(&mut self, stream: &mut TcpStream) -> io::Result<End> {
        let mut heads = BytesMut::new();
        let mut piece = vec![0; PIECE];
        while let Some(request) = request::read(stream, &mut heads).await? {
            let entry = self.enter(&request);
            let Some(answer) = self.served.answer(&request, self.signed) else {
                return Ok(End::Close);
            };
            let then = deliver(stream, &request, &answer, &entry, &mut piece).await?;
            match then {
                Then::Next if request.keeps_alive() && !has_body(&request) => {}
                Then::Next => return Ok(End::Close),
                Then::End(end) => return Ok(end),
            }
        }
        Ok(End::Close)
    }

    fn enter(&self, request: &Request) -> Entry<'_> {
        self.served.log.enter(Exchange {
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            signed: self.signed,
            status: 0,
            offset: None,
            body_bytes: 0,
            complete: false,
            connection: self.number,
            peer: self.peer,
            at: Duration::ZERO,
        })
    }
}

fn has_body(request: &Request) -> bool {
    request.header("transfer-encoding").is_some()
        || request.header("content-length").is_some_and(|l| l != "0")
}

/// Writes an answer. Its cut, stall and pace count body bytes, without the framing of chunks.
async fn deliver(
    stream: &mut TcpStream,
    request: &Request,
    answer: &Answer,
    entry: &Entry<'_>,
    piece: &mut [u8],
) -> io::Result<Then> {
    sleep(answer.pause).await;
    let body = &answer.body;
    entry.answered(answer.status, body.is_file.then_some(body.range.start));
    stream.write_all(head(answer).as_bytes()).await?;
    if request.method == "HEAD" || answer.status == 304 {
        entry.completed();
        return Ok(Then::Next);
    }
    let mut clock = answer.delivery.pace.map(Clock::start);
    let mut sent = 0;
    loop {
        if let Some((after, time)) = answer.delivery.stall
            && after == sent
        {
            stall(stream, time).await?;
        }
        if let Some((after, end)) = answer.delivery.cut
            && after == sent
        {
            return Ok(Then::End(end));
        }
        if sent == body.length() {
            break;
        }
        let length = until_next_event(answer, sent, piece.len());
        let piece = &mut piece[..length];
        body.content.fill(body.range.start + sent, piece);
        corrupt(answer, body.range.start + sent, piece);
        if let Some(clock) = &mut clock {
            clock.wait().await;
        }
        write_piece(stream, answer.framing, piece, entry).await?;
        sent += length as u64;
    }
    if answer.framing == Framing::Chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    entry.completed();
    Ok(match answer.framing {
        Framing::Close => Then::End(End::Close),
        Framing::Length | Framing::Chunked => Then::Next,
    })
}

fn head(answer: &Answer) -> String {
    let reason = http::StatusCode::from_u16(answer.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown");
    let framing = match answer.framing {
        Framing::Length if answer.status == 304 => None,
        Framing::Length => Some(("Content-Length", answer.body.length().to_string())),
        Framing::Chunked => Some(("Transfer-Encoding", "chunked".to_owned())),
        Framing::Close => Some(("Connection", "close".to_owned())),
    };
    let lines: String = answer
        .headers
        .iter()
        .chain(&framing)
        .flat_map(|(name, value)| [*name, ": ", value, "\r\n"])
        .collect();
    format!("HTTP/1.1 {} {reason}\r\n{lines}\r\n", answer.status)
}

/// How many bytes may be written before something else happens.
fn until_next_event(answer: &Answer, sent: u64, most: usize) -> usize {
    let delivery = &answer.delivery;
    let events = [
        delivery.cut.map(|(after, _)| after),
        delivery.stall.map(|(after, _)| after),
        delivery.pace.map(|pace| sent + pace.bytes),
    ];
    let next = events
        .into_iter()
        .flatten()
        .filter(|event| sent < *event)
        .fold(answer.body.length(), u64::min);
    usize::try_from(next - sent).map_or(most, |length| length.min(most))
}

fn corrupt(answer: &Answer, offset: u64, piece: &mut [u8]) {
    for at in &answer.delivery.corrupt {
        let index = at.checked_sub(offset).and_then(|i| usize::try_from(i).ok());
        if let Some(byte) = index.and_then(|index| piece.get_mut(index)) {
            *byte ^= 0xff;
        }
    }
}

async fn write_piece(
    stream: &mut TcpStream,
    framing: Framing,
    piece: &[u8],
    entry: &Entry<'_>,
) -> io::Result<()> {
    if framing == Framing::Chunked {
        let size = format!("{:x}\r\n", piece.len());
        stream.write_all(size.as_bytes()).await?;
    }
    let mut rest = piece;
    while !rest.is_empty() {
        let written = stream.write(rest).await?;
        entry.wrote(written);
        rest = &rest[written..];
    }
    if framing == Framing::Chunked {
        stream.write_all(b"\r\n").await?;
    }
    Ok(())
}

/// Sends nothing for a time, or until the client has gone.
async fn stall(stream: &mut TcpStream, time: Option<Duration>) -> io::Result<()> {
    if let Some(time) = time {
        sleep(time).await;
        return Ok(());
    }
    let mut ignored = [0; 256];
    while stream.read(&mut ignored).await? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Tells when the next step of a pace is due. Steps are counted from the start, so that delays don't add up.
struct Clock {
    pace: Pace,
    start: Instant,
    steps: u32,
}

impl Clock {
    fn start(pace: Pace) -> Self {
        Self {
            pace,
            start: Instant::now(),
            steps: 0,
        }
    }

    /// The first step is due at once.
    async fn wait(&mut self) {
        sleep_until(self.start + self.pace.every * self.steps).await;
        self.steps = self.steps.saturating_add(1);
    }
}
