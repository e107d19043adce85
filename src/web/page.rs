//! The page for people: hand-written files that are part of the program.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use super::Served;
use crate::digest::{Algorithm, Digest};

/// One file of the page.
#[derive(Debug)]
struct File {
    path: &'static str,
    kind: &'static str,
    content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal $kind:ident $file:literal),+ $(,)?) => {
        [$(File { path: $path, kind: $kind, content: include_str!(concat!("page/", $file)) }),+]
    };
}

static FILES: [File; 14] = files![
    "/" HTML "index.html",
    "/page/page.css" CSS "page.css",
    "/page/icon.svg" PICTURE "icon.svg",
    "/page/theme.js" SCRIPT "theme.js",
    "/page/main.js" SCRIPT "main.js",
    "/page/words.js" SCRIPT "words.js",
    "/page/format.js" SCRIPT "format.js",
    "/page/elements.js" SCRIPT "elements.js",
    "/page/ask.js" SCRIPT "ask.js",
    "/page/set.js" SCRIPT "set.js",
    "/page/plan.js" SCRIPT "plan.js",
    "/page/releases.js" SCRIPT "releases.js",
    "/page/progress.js" SCRIPT "progress.js",
    "/page/history.js" SCRIPT "history.js",
];

/// Changes with the files, so that a browser has them anew after an upgrade and at no other time.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |file: &File| {
        let digest = Digest::of(Algorithm::Sha256, file.content.as_bytes());
        format!("\"{}\"", digest.hex())
    };
    FILES.iter().map(tag).collect()
});

pub(super) fn routes() -> Router<Arc<Served>> {
    let files = FILES.iter().zip(TAGS.iter());
    files.fold(Router::new(), |router, (file, tag)| {
        let answer = move |headers: HeaderMap| async move { answer(file, tag, &headers) };
        router.route(file.path, get(answer))
    })
}

fn answer(file: &'static File, tag: &'static str, asked: &HeaderMap) -> Response {
    let headers = [
        (CONTENT_TYPE, file.kind),
        (CACHE_CONTROL, "no-cache"),
        (ETAG, tag),
    ];
    let is_held = |held: &http::HeaderValue| held.to_str().is_ok_and(|held| held.contains(tag));
    if asked.get(IF_NONE_MATCH).is_some_and(is_held) {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, file.content).into_response()
    }
}
