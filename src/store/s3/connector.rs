//! Carries the SDK's requests over connections that are ours, so that their congestion control can be chosen.
//!
//! The SDK's own HTTP client shows nobody its sockets. This one is made of the same parts, hyper's pool and rustls with the
//! system's certificates; besides the congestion control it leaves everything as it is there.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{
    CaptureConnection, HttpConnector as TcpConnector, capture_connection,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use tokio::time::Instant;
use tower_service::Service;

use super::lines::{Line, Lines};

type BoxError = Box<dyn Error + Send + Sync>;

/// How connections are made and kept.
#[derive(Debug, Clone)]
pub(super) struct Connecting {
    pub(super) lines: Arc<Lines>,
    pub(super) timeout: Duration,
    pub(super) pool_idle_timeout: Duration,
}

impl Connecting {
    /// An HTTP client for the SDK. An error where the system's certificates can't be read.
    pub(super) fn client(self) -> io::Result<SharedHttpClient> {
        let connector = SharedHttpConnector::new(self.connector()?);
        Ok(http_client_fn(move |_, _| connector.clone()))
    }

    fn connector(self) -> io::Result<Connector> {
        let idle = self.pool_idle_timeout;
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(Tcp::new(self));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle)
            .build(https);
        Ok(Connector(client))
    }
}

/// Makes TCP connections with the congestion control that was chosen.
#[derive(Debug, Clone)]
struct Tcp {
    inner: TcpConnector,
    lines: Arc<Lines>,
}

impl Tcp {
    fn new(how: Connecting) -> Self {
        let mut inner = TcpConnector::new();
        inner.enforce_http(false);
        inner.set_nodelay(true);
        inner.set_connect_timeout(Some(how.timeout));
        Self {
            inner,
            lines: how.lines,
        }
    }
}

impl Service<Uri> for Tcp {
    type Response = Line;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, lines) = (self.inner.call(to), Arc::clone(&self.lines));
        Box::pin(async move {
            let begun = Instant::now();
            let connection = connecting.await?;
            Ok(lines.join(connection, begun.elapsed())?)
        })
    }
}

/// hyper's client as the SDK wants one.
#[derive(Debug, Clone)]
struct Connector(Client<HttpsConnector<Tcp>, SdkBody>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let used = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || connection(&used));
        }
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| broken(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The connection that a request went over: after some answers the SDK wants no other request to use it.
fn connection(used: &CaptureConnection) -> Option<ConnectionMetadata> {
    let is_proxied = used.connection_metadata().as_ref()?.is_proxied();
    let used = used.clone();
    let poison = move || {
        if let Some(connected) = used.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    let metadata = ConnectionMetadata::builder()
        .proxied(is_proxied)
        .poison_fn(poison);
    Some(metadata.build())
}

/// What kind of failure it is, which decides whether the SDK repeats the request.
fn broken(error: BoxError) -> ConnectorError {
    let kind = |error: &hyper::Error| {
        (
            error.is_user(),
            error.is_timeout(),
            error.is_incomplete_message(),
        )
    };
    match find::<hyper::Error>(error.as_ref()).map(kind) {
        Some((true, _, _)) => ConnectorError::user(error),
        Some((_, true, _)) => ConnectorError::timeout(error),
        // The server closed a connection that it had kept.
        Some((_, _, true)) => ConnectorError::other(error, Some(ErrorKind::TransientError)),
        _ => ConnectorError::io(error),
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::store::s3::Congestion;

    fn connecting(congestion: &Congestion) -> Connecting {
        Connecting {
            lines: Lines::new(congestion.choose().unwrap()),
            timeout: Duration::from_secs(5),
            pool_idle_timeout: Duration::from_secs(5),
        }
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap());
        (listener, to)
    }

    async fn congestion_of_a_connection(choice: &Congestion) -> String {
        let (_listener, to) = listener().await;
        let mut tcp = Tcp::new(connecting(choice));
        let connection = tcp.call(to.parse().unwrap()).await.unwrap();
        rustix::net::sockopt::tcp_congestion(&connection).unwrap()
    }

    #[tokio::test]
    async fn connections_have_the_congestion_control_that_was_chosen() {
        let named = Congestion::Named("reno".to_owned());
        assert_eq!(congestion_of_a_connection(&named).await, "reno");
        let system = congestion_of_a_connection(&Congestion::System).await;
        let auto = congestion_of_a_connection(&Congestion::Auto).await;
        let can_be_had = Congestion::Named("bbr".to_owned()).choose().is_ok();
        assert_eq!(auto, if can_be_had { "bbr" } else { &system });
    }

    /// Answers every request on every connection with a 503; counts connections.
    async fn refuse(listener: TcpListener, accepted: Arc<AtomicUsize>) {
        let mut answering = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            answering.spawn(async move {
                while socket.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n";
                    socket.write_all(answer).await.unwrap();
                }
            });
        }
    }

    #[tokio::test]
    async fn the_sdk_can_have_a_connection_not_used_again() {
        let (listener, to) = listener().await;
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        server.spawn(refuse(listener, Arc::clone(&accepted)));
        let connector = connecting(&Congestion::System).connector().unwrap();
        for (poisoned, connections) in [(false, 1), (true, 1), (false, 2)] {
            let capture = CaptureSmithyConnection::new();
            let mut request = HttpRequest::get(&to).unwrap();
            request.add_extension(capture.clone());
            let mut answer = connector.call(request).await.unwrap();
            assert_eq!(accepted.load(Ordering::SeqCst), connections);
            let connection = capture.get().expect("it is known");
            if poisoned {
                connection.poison();
            }
            drop(answer.take_body());
            drop(answer);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
