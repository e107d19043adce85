//! A proxy by which a program reaches the emulator under AWS' own names: it ends TLS with certificates of an authority that it makes.
//! Old releases of kops know no other way to be pointed elsewhere.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::Inner;
use crate::support::tls::server_config;

pub(in crate::provision) struct WayOut {
    pub(in crate::provision) url: Url,
    /// Of the authority: a client that adds it to its roots trusts every name.
    pub(in crate::provision) authority_pem: String,
    _connections: JoinSet<()>,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// Who answers at a host.
#[derive(Clone)]
enum Behind {
    /// An API of AWS, with the bucket that stands in the host's name.
    Aws(Option<String>),
    /// The API of the cluster.
    Kubernetes,
    Nobody,
}

impl WayOut {
    pub(super) async fn start(inner: Arc<Inner>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_pem = params.self_signed(&key).unwrap().pem();
        let authority = Arc::new(Authority {
            issuer: Issuer::new(params, key),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(serve(client, Arc::clone(&inner), Arc::clone(&authority)));
            }
        });
        Self {
            url: url.parse().unwrap(),
            authority_pem,
            _connections: connections,
        }
    }
}

impl Authority {
    fn acceptor(&self, host: &str) -> TlsAcceptor {
        acceptor(&self.issuer, &[host.to_owned()])
    }
}

/// Ends TLS with a certificate for these names by this authority.
pub(super) fn acceptor(issuer: &Issuer<'_, KeyPair>, names: &[String]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = key.serialize_der().try_into().unwrap();
    TlsAcceptor::from(server_config(certificate.der().clone(), key))
}

impl Behind {
    fn of(host: &str) -> Self {
        if host.contains(".elb.") || host.starts_with("api.") {
            return Self::Kubernetes;
        }
        let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        match host.split_once(".s3.") {
            _ if !is_aws || host.contains(".dkr.ecr.") => Self::Nobody,
            Some((bucket, _)) => Self::Aws(Some(bucket.to_owned())),
            None => Self::Aws(None),
        }
    }
}

async fn serve(mut client: TcpStream, inner: Arc<Inner>, authority: Arc<Authority>) {
    let Some(host) = connect_head(&mut client).await else {
        return;
    };
    let behind = Behind::of(&host);
    let acceptor = match &behind {
        Behind::Kubernetes => inner.cluster_acceptor(&host).await,
        Behind::Aws(_) | Behind::Nobody => Some(authority.acceptor(&host)),
    };
    let Some(acceptor) = acceptor else {
        let _ = client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            .await;
        return;
    };
    let is_open = client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await;
    let (Ok(()), Ok(stream)) = (is_open, acceptor.accept(client).await) else {
        return;
    };
    let service = service_fn(move |request| {
        let (inner, behind) = (Arc::clone(&inner), behind.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(inner, behind, request).await) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The host of a CONNECT, without its port.
async fn connect_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    Some(target.rsplit_once(':')?.0.to_owned())
}

async fn answer(inner: Arc<Inner>, behind: Behind, request: Request<Incoming>) -> Response<Body> {
    let mut request = request.map(Body::new);
    match behind {
        Behind::Kubernetes => inner.kubernetes(request.uri().path()).await,
        Behind::Nobody => told(StatusCode::FORBIDDEN, Body::empty()),
        Behind::Aws(bucket) => {
            if let Some(bucket) = bucket {
                *request.uri_mut() = in_path(&bucket, request.uri());
            }
            super::answer(State(inner), request).await
        }
    }
}

/// A bucket's address with the bucket in its path.
fn in_path(bucket: &str, uri: &Uri) -> Uri {
    let rest = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("/{bucket}{rest}").parse().unwrap()
}

pub(super) fn told(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
