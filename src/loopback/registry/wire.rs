//! Speaks HTTP: takes connections, hands requests to what serves them, and ends some of them the way that was ordered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::answer::{Answer, Ended, Refusal};
use super::asked::{Asked, Operation};
use super::exchange::Exchange;
use super::faults::Trouble;
use super::push::Arriving;

/// The size of the frames in which bodies are given to connections, and so what a count can miss.
const FRAME_BYTES: usize = 64 << 10;

/// After a refusal this much of the body is still read and dropped, so that the client sees the answer and not a reset.
const LEFTOVER_BYTES_MAX: usize = 256 << 10;
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(1);

/// Documents of the ECR API are short.
const DOCUMENT_MAX_BYTES: usize = 1 << 20;

/// Before an answer is cut.
const FLUSH: Duration = Duration::from_millis(20);

const DIGEST_HEADER: &str = "docker-content-digest";

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up as ordered")]
struct HungUp;

/// Takes connections until `stop` fires, then lets the requests at hand end.
pub(super) async fn serve(listener: TcpListener, registry: Arc<Registry>, stop: CancellationToken) {
    let at_storage = listener
        .local_addr()
        .is_ok_and(|address| address == registry.storage);
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // A connection that broke before it was taken is the client's to notice.
        let Ok((socket, _)) = accepted else { continue };
        let converse = converse(Arc::clone(&registry), socket, at_storage, stop.clone());
        connections.spawn(converse);
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse(
    registry: Arc<Registry>,
    socket: TcpStream,
    at_storage: bool,
    stop: CancellationToken,
) {
    // Without this an answer waits for the client's delayed acknowledgement; a refusal changes latency only.
    let _ = socket.set_nodelay(true);
    let restarted = registry.connections().clone();
    let service = service_fn(move |request| answer(Arc::clone(&registry), request, at_storage));
    let connection = http1::Builder::new()
        .max_buf_size(FRAME_BYTES)
        .half_close(true)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    // How a connection ends is in the log, request by request.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = restarted.cancelled() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(
    registry: Arc<Registry>,
    request: Request<Incoming>,
    at_storage: bool,
) -> Result<Response<Sent>, HungUp> {
    let (head, body) = request.into_parts();
    let asked = Asked::read(&head, at_storage);
    let exchange = Exchange::begin(&registry.log, &asked, &head.headers);
    let trouble = registry.faults.next(&asked);
    let ended = match &trouble {
        Some(Trouble::Refused {
            status,
            code,
            retry_after,
        }) => {
            drain(body).await;
            Err(refused(*status, code, *retry_after))
        }
        trouble => {
            let request = Whole { asked, head, body };
            registry.serve(request, &exchange, trouble.as_ref()).await
        }
    };
    let answer = match ended {
        Ok(answer) => answer,
        Err(Refusal::Answer(answer)) => *answer,
        Err(Refusal::HangUp) => return Err(HungUp),
    };
    match &trouble {
        Some(Trouble::AnswerLost) => return Err(HungUp),
        Some(Trouble::Late(delay)) => sleep(*delay).await,
        _ => {}
    }
    exchange.answered(answer.status());
    Ok(troubled(answer, trouble.as_ref())
        .map(|content| Sent::new(content, exchange, trouble.as_ref())))
}

/// A request, ready to be served.
struct Whole {
    asked: Asked,
    head: http::request::Parts,
    body: Incoming,
}

impl Registry {
    async fn serve(&self, request: Whole, exchange: &Exchange, trouble: Option<&Trouble>) -> Ended {
        let Whole { asked, head, body } = request;
        let admitted = asked
            .check_name()
            .and_then(|()| self.admit(&asked, &head.headers));
        if let Err(refusal) = admitted {
            drain(body).await;
            return Err(refusal);
        }
        let arriving = Arriving {
            body,
            exchange,
            trouble,
        };
        match asked.operation {
            Operation::Version => Ok(version()),
            Operation::Token => self.give_token(head.uri.query(), &head.headers),
            Operation::HeadBlob | Operation::GetBlob => self.blob(&asked, &head),
            Operation::GetStored => self.stored(&asked, &head),
            Operation::HeadManifest | Operation::GetManifest => self.manifest(&asked),
            Operation::PutManifest => self.put_manifest(&asked, &head, arriving).await,
            Operation::StartUpload => self.start_upload(&asked),
            Operation::Mount => self.mount(&asked, &head),
            Operation::PatchUpload => self.patch(&asked, &head, arriving).await,
            Operation::PutUpload => self.put_upload(&asked, &head, arriving).await,
            Operation::UploadStatus => self.upload_status(&asked),
            Operation::CancelUpload => self.cancel_upload(&asked),
            Operation::Tags => self.tags(&asked),
            Operation::Referrers => self.referrers(&asked),
            Operation::Ecr => {
                let body = http_body_util::Limited::new(arriving.body, DOCUMENT_MAX_BYTES);
                let body = body.collect().await.map_err(|_| Refusal::HangUp)?;
                self.ecr(&asked, &head, &body.to_bytes())
            }
            Operation::Other => Err(Refusal::new(404, "UNSUPPORTED", "404 page not found")),
        }
    }
}

fn version() -> Answer {
    let answer = super::answer::document(200, &serde_json::json!({}));
    super::answer::told(answer, "docker-distribution-api-version", "registry/2.0")
}

fn refused(status: u16, code: &str, retry_after: Option<Duration>) -> Refusal {
    let refusal = Refusal::new(status, code, "come again later");
    match retry_after {
        Some(after) => refusal.with(RETRY_AFTER, &after.as_secs().to_string()),
        None => refusal,
    }
}

/// An answer that is another than it should be, where that was ordered.
fn troubled(mut answer: Answer, trouble: Option<&Trouble>) -> Answer {
    match trouble {
        Some(Trouble::WrongBytes) if !answer.body().is_empty() => {
            let mut bytes = BytesMut::from(answer.body().as_ref());
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            *answer.body_mut() = bytes.freeze();
        }
        Some(Trouble::WrongDigest) => lie(answer.headers_mut()),
        _ => {}
    }
    answer
}

fn lie(headers: &mut HeaderMap) {
    let wrong = format!("sha256:{}", "0".repeat(64));
    if let Ok(wrong) = HeaderValue::from_str(&wrong) {
        headers.insert(DIGEST_HEADER, wrong);
    }
}

async fn drain(mut body: Incoming) {
    let mut left = LEFTOVER_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(LEFTOVER_PATIENCE, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

/// Slow answers come in so many pieces a second.
const TICKS_PER_SECOND: u32 = 20;

/// The body of an answer, counted as it goes. Its exchange ends with it.
struct Sent {
    content: Bytes,
    /// Bytes after which the connection ends.
    cut: Option<u64>,
    /// What was given before that has to reach the socket first.
    ending: Option<Pin<Box<Sleep>>>,
    /// Bytes that are given at a time where it is slow, and the wait for the next.
    pace: Option<(usize, Pin<Box<Sleep>>)>,
    exchange: Arc<Exchange>,
}

impl Sent {
    fn new(content: Bytes, exchange: Arc<Exchange>, trouble: Option<&Trouble>) -> Self {
        let cut = match trouble {
            Some(Trouble::AnswerCut { after_bytes }) => Some(*after_bytes),
            _ => None,
        };
        Self {
            content,
            cut,
            ending: None,
            pace: match trouble {
                Some(Trouble::AnswerSlow { bytes_per_second }) => {
                    let bytes = bytes_per_second / u64::from(TICKS_PER_SECOND);
                    let bytes = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
                    Some((bytes, Box::pin(sleep(Duration::ZERO))))
                }
                _ => None,
            },
            exchange,
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.content.is_empty() {
            return Poll::Ready(None);
        }
        let mut length = this.content.len().min(FRAME_BYTES);
        if let Some(cut) = &mut this.cut {
            if *cut == 0 {
                let ending = this.ending.get_or_insert_with(|| Box::pin(sleep(FLUSH)));
                ready!(ending.as_mut().poll(cx));
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
            }
            length = length.min(usize::try_from(*cut).unwrap_or(usize::MAX));
            *cut -= length as u64;
        }
        if let Some((bytes, wait)) = &mut this.pace {
            ready!(wait.as_mut().poll(cx));
            length = length.min(*bytes);
            *wait = Box::pin(sleep(Duration::from_secs(1) / TICKS_PER_SECOND));
        }
        this.exchange.sent(length);
        let frame = this.content.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}
