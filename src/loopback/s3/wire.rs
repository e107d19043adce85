//! Speaks HTTP: takes connections, hands requests to the S3 service, and ends some of them the way that was ordered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Account;
use super::access::{Door, Hosts, Keys};
use super::arrival::Arrival;
use super::exchange::{Broken, Exchange};
use super::faults::Trouble;
use super::operations::Operations;

/// The most that is read at once, and so the size of the frames that are hashed and kept.
const READ_BYTES: usize = 64 << 10;

/// After a refusal this much of the body is still read and dropped, so that the client sees the answer and not a reset.
const LEFTOVER_BYTES_MAX: usize = 4 << 20;
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(2);

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up as ordered")]
struct HungUp;

/// What connections share.
struct Server {
    account: Arc<Account>,
    service: S3Service,
    requests: AtomicU64,
    leftovers: Mutex<JoinSet<()>>,
}

/// Takes connections until `stop` fires, then lets the requests at hand end.
pub(super) async fn serve(listener: TcpListener, account: Arc<Account>, stop: CancellationToken) {
    let server = Arc::new(Server::new(account));
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // A connection that broke before it was taken is the client's to notice.
        let Ok((socket, _)) = accepted else { continue };
        connections.spawn(Arc::clone(&server).converse(socket, stop.clone()));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Server {
    fn new(account: Arc<Account>) -> Self {
        let mut builder = S3ServiceBuilder::new(Operations(Arc::clone(&account)));
        builder.set_auth(Keys(account.options.credentials.clone()));
        builder.set_host(Hosts {
            region: account.options.region.clone(),
        });
        builder.set_access(Door(Arc::clone(&account)));
        Self {
            account,
            service: builder.build(),
            requests: AtomicU64::new(0),
            leftovers: Mutex::default(),
        }
    }

    async fn converse(self: Arc<Self>, socket: TcpStream, stop: CancellationToken) {
        // Without this an answer waits for the client's delayed acknowledgement; a refusal changes latency only.
        let _ = socket.set_nodelay(true);
        let service = service_fn(move |request| Arc::clone(&self).answer(request));
        let connection = http1::Builder::new()
            .max_buf_size(READ_BYTES)
            .half_close(true)
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(socket), service);
        tokio::pin!(connection);
        // How a connection ends is in the log, request by request.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, HungUp> {
        let expects_continue = request.headers().contains_key(http::header::EXPECT);
        let exchange = Exchange::begin(&self.account.log, request.method(), request.headers());
        let mut request = request.map(|body| {
            let limit = self.account.options.stall_limit;
            Body::http_body(Arrival::new(body, Arc::clone(&exchange), limit))
        });
        request.extensions_mut().insert(Arc::clone(&exchange));
        let answer = self.service.call(request).await;
        let mut response = ended(&exchange, answer.map_err(|_| HungUp)?).await?;
        if let Some(leftover) = exchange.take_leftover().filter(|_| !expects_continue) {
            self.drain(leftover);
        }
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        if let Ok(id) = HeaderValue::from_str(&format!("LOOPBACK{id:08X}")) {
            response.headers_mut().insert("x-amz-request-id", id);
        }
        exchange.answered(response.status());
        Ok(response)
    }

    fn drain(&self, leftover: Incoming) {
        let mut leftovers = self
            .leftovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while leftovers.try_join_next().is_some() {}
        leftovers.spawn(drain(leftover));
    }
}

/// The end that a request takes: the service's answer, unless its body broke or a trouble was ordered.
async fn ended(exchange: &Exchange, answer: Response<Body>) -> Result<Response<Body>, HungUp> {
    match exchange.broken() {
        Some(Broken::Cut) => return Err(HungUp),
        Some(Broken::Stalled) => return timed_out(),
        None => {}
    }
    if !answer.status().is_success() {
        return Ok(answer);
    }
    match exchange.trouble() {
        Some(Trouble::AnswerLost) => Err(HungUp),
        Some(Trouble::Failed { .. }) => error(s3_error!(
            InternalError,
            "We encountered an internal error. Please try again."
        )),
        Some(Trouble::Late(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(answer)
        }
        Some(Trouble::Garbled) => Ok(garbled(answer)),
        _ => Ok(answer),
    }
}

/// Some servers have roots of their own in their documents.
fn garbled(answer: Response<Body>) -> Response<Body> {
    let (mut head, _) = answer.into_parts();
    let document = Bytes::from_static(b"<Garbled><Done>true</Done></Garbled>");
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(document))
}

fn timed_out() -> Result<Response<Body>, HungUp> {
    let mut answer = error(S3Error::with_message(
        S3ErrorCode::RequestTimeout,
        "Your socket connection to the server was not read from or written to within the timeout period. \
         Idle connections will be closed.",
    ))?;
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(answer)
}

fn error(error: S3Error) -> Result<Response<Body>, HungUp> {
    error.to_http_response().map_err(|_| HungUp)
}

async fn drain(mut leftover: Incoming) {
    let mut left = LEFTOVER_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(LEFTOVER_PATIENCE, leftover.frame()).await
    {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}
