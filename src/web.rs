//! The service over HTTP: health, metrics, an API, and a page for people.
//!
//! All that is shown comes from the [`Board`], all that is asked goes to the [`Desk`]. Reading is for whoever reaches the
//! socket; what changes something, or costs requests to upstreams, is for who has the [`Token`]. No secret is on the board, so
//! none can be in an answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Desk};

mod admission;
mod api;
mod connections;
mod health;
mod live;
mod metrics;
mod page;
mod problem;
mod process;
mod states;
mod table;
mod token;

pub use table::table;
pub use token::{Token, TokenError};

use problem::Problem;

/// More than any body that is asked for: one says what a run is for.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// A plan asks upstreams and lists buckets; everything else is answered from memory or from the history's file.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Pages that look on at once. Each costs a copy of the status at each change.
const LISTENERS_MAX: usize = 32;

/// What is served, and to whom.
#[derive(Debug)]
pub struct Web {
    pub board: Arc<Board>,
    pub desk: Arc<dyn Desk>,
    /// Holds None where nothing can be changed through HTTP; may change while it is served.
    pub token: watch::Receiver<Option<Token>>,
}

/// What every answer is made from.
#[derive(Debug)]
struct Served {
    board: Arc<Board>,
    desk: Arc<dyn Desk>,
    token: watch::Receiver<Option<Token>>,
    listeners: Arc<Semaphore>,
    /// Ends the streams of events, which would not end by themselves.
    stop: CancellationToken,
}

impl Web {
    /// The routes alone, for a server of one's own. Their streams of events end with their connections.
    pub fn router(self) -> Router {
        self.router_until(CancellationToken::new())
    }

    /// Serves on `listener` until `stop`; then answers that are under way have some seconds to finish, and streams of events
    /// end at once. Fails when the socket has no address, and no more.
    ///
    /// On a loopback address only names of this host are answered: see [`admission::only_local_names`].
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let is_loopback = listener.local_addr()?.ip().is_loopback();
        let mut router = self.router_until(stop.clone());
        if is_loopback {
            router = router.layer(middleware::from_fn(admission::only_local_names));
        }
        connections::serve(listener, router, stop).await;
        Ok(())
    }

    fn router_until(self, stop: CancellationToken) -> Router {
        let served = Arc::new(Served {
            board: self.board,
            desk: self.desk,
            token: self.token,
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            stop,
        });
        page::routes()
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(scraped))
            .route("/api/v1/status", get(api::status))
            .route("/api/v1/releases", get(api::releases))
            .route("/api/v1/runs", get(api::runs))
            .route(
                "/api/v1/runs/{id}",
                get(api::run).merge(delete(api::cancel)),
            )
            .route("/api/v1/sets/{set}/plan", get(api::plan))
            .route("/api/v1/sets/{set}/runs", post(api::start))
            .route("/api/v1/events", get(live::events))
            .route("/api/v1/openapi.json", get(api::description))
            .fallback(|| async { Problem::no_such_page() })
            .method_not_allowed_fallback(|| async { Problem::no_such_method() })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn(in_time))
            .layer(middleware::map_response(admission::guarded))
            .with_state(served)
    }
}

async fn scraped(State(served): State<Arc<Served>>) -> Result<Response, Problem> {
    let text = metrics::text(&served.board.status(), process::Usage::now().as_ref());
    let text = text.map_err(|error| Problem::failed(format!("metrics can't be told: {error}")))?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(http::header::CONTENT_TYPE, kind)], text).into_response())
}

/// Gives up an answer that does not come, and the reading of a body that does not end.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::too_slow(ANSWER_WITHIN).into_response(),
    }
}
