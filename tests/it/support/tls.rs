//! Puts TLS in front of a loopback server, with a certificate for whatever names a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A TLS listener that passes everything on; dropping it ends its connections.
#[derive(Debug)]
pub(crate) struct TlsFront {
    pub(crate) address: SocketAddr,
    /// Self-signed: a client that adds it to its roots trusts it for its names.
    pub(crate) certificate_pem: String,
    _passing: JoinSet<()>,
}

impl TlsFront {
    /// Listens on a free port, with a certificate for `names` (DNS names or addresses).
    pub(crate) async fn start(behind: SocketAddr, names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = server_config(certified.cert.der().clone(), key);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut passing = JoinSet::new();
        passing.spawn(pass_on(listener, TlsAcceptor::from(config), behind));
        Self {
            address,
            certificate_pem: certified.cert.pem(),
            _passing: passing,
        }
    }

    /// A URL of the server by its address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

pub(crate) fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

async fn pass_on(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that refuses the certificate ends the handshake: that is what such tests are for.
            let Ok(mut client) = acceptor.accept(client).await else {
                return;
            };
            let Ok(mut server) = TcpStream::connect(behind).await else {
                return;
            };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
