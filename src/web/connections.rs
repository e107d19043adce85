//! Connections to the server: a bounded number, each gone when it sends no request, all of them gone soon after a stop.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// Far more than people, probes and scrapes need, and few enough for the usual limit of 1,024 open files.
const CONNECTIONS_MAX: usize = 256;

/// For a request's head to be complete, and for the next request of a connection to begin.
const HEAD_WITHIN: Duration = Duration::from_secs(20);

/// How long answers that are under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// When no connection can be taken, this long until the next try.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);

/// Serves until `stop`, and some seconds more at most.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the status server can't be taken");
                    sleep(AFTER_REFUSAL).await;
                }
            },
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        tracing::debug!("answers that took too long were cut");
    }
    connections.shutdown().await;
}

async fn connection(socket: TcpStream, router: Router, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        // A router is ready at all times.
        router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the status server broke");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server, of which one answer never comes, and a connection to it.
    async fn served() -> (JoinSet<()>, CancellationToken, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/never", get(std::future::pending::<()>));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, router, stop.clone()));
        (tasks, stop, TcpStream::connect(address).await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_not_waited_for() {
        for asked in ["", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            let (_tasks, _stop, mut socket) = served().await;
            socket.write_all(asked.as_bytes()).await.unwrap();
            let ended = timeout(2 * HEAD_WITHIN, socket.read_to_end(&mut Vec::new())).await;
            ended.expect("the connection ends").unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_an_answer_that_never_comes() {
        let (mut tasks, stop, mut socket) = served().await;
        socket
            .write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
        let ended = timeout(2 * GRACE, tasks.join_next()).await;
        ended.expect("the server ends").unwrap().unwrap();
        assert_eq!(socket.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}
