//! Serves a folder mirror over HTTP, for labs and air gaps: reading only, with ranges and with ETags that are MD5s.
//!
//! `tower-http` serves the bytes, ranges and dates; this adds what a mirror needs. The ETag is the MD5 of the content, as a
//! bucket's is (old versions of kops read it as the file's hash), computed once for each state of a file and always on the very
//! handle whose bytes are sent. Names that begin with a dot are temporary files and do not exist for readers, and no
//! path leads out of the folder, be it through `..` or a symbolic link.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower_http::services::ServeDir;

mod etag;
mod listing;
mod opened;

use etag::ETags;
use opened::Opened;

/// Why a folder could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("can't serve '{}': it must be a folder that can be read", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("the server's listening socket failed")]
    Socket(#[source] io::Error),
}

/// How long answers that are under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// A folder that can be served.
#[derive(Debug)]
pub struct Server(Arc<Mirror>);

/// Makes sure that `dir` is a folder that can be read.
pub async fn open(dir: &Path) -> Result<Server, ServeError> {
    let refuse = |source| ServeError::Folder {
        dir: dir.to_owned(),
        source,
    };
    let root = tokio::fs::canonicalize(dir).await.map_err(refuse)?;
    let _readable = tokio::fs::read_dir(&root).await.map_err(refuse)?;
    let etags = ETags::default();
    Ok(Server(Arc::new(Mirror { root, etags })))
}

impl Server {
    /// Serves on `listener` until `stop`; then answers that are under way have ten seconds to finish.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let router = Router::new().fallback(answer).with_state(self.0);
        let grace_is_over = async {
            stop.cancelled().await;
            sleep(GRACE).await;
        };
        let server =
            axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::select! {
            ended = async { server.await } => ended.map_err(ServeError::Socket),
            () = grace_is_over => Ok(()),
        }
    }
}

/// The folder that is served.
#[derive(Debug)]
struct Mirror {
    /// Without symbolic links.
    root: PathBuf,
    etags: ETags,
}

/// What a path leads to.
enum Found {
    File(PathBuf),
    Folder(PathBuf),
}

async fn answer(State(mirror): State<Arc<Mirror>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let range = request.headers().get(RANGE).cloned();
    let response = match mirror.answer(request).await {
        Ok(response) => response,
        Err(error) if is_absence(&error) => StatusCode::NOT_FOUND.into_response(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            StatusCode::FORBIDDEN.into_response()
        }
        Err(error) => {
            tracing::error!(path, %error, "a file could not be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    let status = response.status().as_u16();
    tracing::info!(%method, path, ?range, status, "served");
    response
}

/// Whether a name is that of a temporary file.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

impl Mirror {
    async fn answer(&self, request: Request) -> io::Result<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let allow = [(ALLOW, "GET, HEAD")];
            return Ok((StatusCode::METHOD_NOT_ALLOWED, allow).into_response());
        }
        let path = request.uri().path();
        match self.find(path).await? {
            Found::File(file) => self.file(&file, request).await,
            Found::Folder(_) if !path.ends_with('/') => Ok(into_folder(path)),
            Found::Folder(folder) => listing::of(&folder, folder == self.root).await,
        }
    }

    /// Follows a URL's path below the root, and refuses to leave it.
    async fn find(&self, path: &str) -> io::Result<Found> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| absent())?;
        let mut below = self.root.clone();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            // `.` and `..` are hidden as well.
            if is_hidden(segment.as_ref()) || segment.contains(['\\', '\0']) {
                return Err(absent());
            }
            below.push(segment);
        }
        let real = tokio::fs::canonicalize(&below).await?;
        let inside = real.strip_prefix(&self.root).map_err(|_| absent())?;
        if inside.components().any(|part| is_hidden(part.as_os_str())) {
            return Err(absent());
        }
        let kind = tokio::fs::metadata(&real).await?;
        match (kind.is_dir(), kind.is_file() && !path.ends_with('/')) {
            (true, _) => Ok(Found::Folder(real)),
            (false, true) => Ok(Found::File(real)),
            (false, false) => Err(absent()),
        }
    }

    async fn file(&self, path: &Path, mut request: Request) -> io::Result<Response> {
        let opened = Opened::open(path).await?;
        let etag = self.etags.of(path, &opened).await?;
        if let Some(status) = etag::precondition(request.headers(), &etag) {
            return Ok((status, [(ETAG, etag)]).into_response());
        }
        settle_conditions(request.headers_mut(), &etag);
        // The handle is served under whatever name; the name is for the content type alone.
        let response = ServeDir::with_backend(&self.root, opened)
            .ignore_multi_range_requests(true)
            .try_call(request)
            .await?;
        let mut response = response.map(Body::new);
        response.headers_mut().insert(ETAG, etag);
        if let Some(text) = text_type(path) {
            response.headers_mut().insert(CONTENT_TYPE, text);
        }
        Ok(response)
    }
}

/// Removes what has been decided here, where the real ETag is known; dates are left to `tower-http`.
fn settle_conditions(headers: &mut HeaderMap, etag: &HeaderValue) {
    if headers.remove(IF_MATCH).is_some() {
        headers.remove(IF_UNMODIFIED_SINCE);
    }
    if headers.remove(IF_NONE_MATCH).is_some() {
        headers.remove(IF_MODIFIED_SINCE);
    }
    if headers
        .remove(IF_RANGE)
        .is_some_and(|validator| validator != etag)
    {
        headers.remove(RANGE);
    }
}

fn into_folder(path: &str) -> Response {
    // A path of several leading slashes would be taken for another host.
    let location = format!("/{}/", path.trim_matches('/'));
    (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)]).into_response()
}

/// The files of a mirror that are text, though their names don't say so.
fn text_type(path: &Path) -> Option<HeaderValue> {
    const EXTENSIONS: [&str; 7] = [
        "md5",
        "sha1",
        "sha256",
        "sha512",
        "sha256sum",
        "docker_tag",
        "asc",
    ];
    let extension = path.extension().and_then(|e| e.to_str());
    let is_text = extension.is_some_and(|e| EXTENSIONS.contains(&e))
        || path.ends_with("SHA256SUMS")
        || path.ends_with("channels/stable");
    is_text.then(|| HeaderValue::from_static("text/plain; charset=utf-8"))
}
