//! Plays the proxies that stand at a border: SOCKS5, and HTTP with CONNECT and with absolute URLs.
//!
//! All names lead to one server behind it, so that they need not resolve; what was asked for is remembered.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::{Position, Url};

/// What a proxy was asked to reach, as `host:port`, in the order of the connections.
type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy on a free port; dropping it ends its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    asked: Asked,
    _passing: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Http,
    Socks,
}

impl Proxy {
    pub(crate) async fn http(behind: SocketAddr) -> Self {
        Self::start(Kind::Http, behind).await
    }

    pub(crate) async fn socks(behind: SocketAddr) -> Self {
        Self::start(Kind::Socks, behind).await
    }

    async fn start(kind: Kind, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked::default();
        let mut passing = JoinSet::new();
        passing.spawn(accept(kind, listener, behind, Arc::clone(&asked)));
        Self {
            address,
            asked,
            _passing: passing,
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn accept(kind: Kind, listener: TcpListener, behind: SocketAddr, asked: Asked) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        connections.spawn(async move {
            // A client that goes away in the middle ends its connection and nothing else.
            let _ = match kind {
                Kind::Http => http(client, behind, &asked).await,
                Kind::Socks => socks(client, behind, &asked).await,
            };
        });
    }
}

async fn http(mut client: TcpStream, behind: SocketAddr, asked: &Asked) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let (request, headers) = head.split_once("\r\n").unwrap();
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut server;
    if method == "CONNECT" {
        server = TcpStream::connect(behind).await?;
        asked.lock().unwrap().push(target.to_owned());
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    } else {
        let url = Url::parse(target).expect("a proxy is asked with absolute URLs");
        let port = url.port_or_known_default().unwrap();
        let host = url.host_str().unwrap();
        let place = format!("{host}:{port}");
        server = TcpStream::connect(place.parse().unwrap_or(behind)).await?;
        asked.lock().unwrap().push(place);
        // One request a connection: the next one may be for another host.
        let path = &url[Position::BeforePath..];
        let passed = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}");
        server.write_all(passed.as_bytes()).await?;
    }
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// RFC 1928, without authentication.
async fn socks(mut client: TcpStream, behind: SocketAddr, asked: &Asked) -> std::io::Result<()> {
    let (_version, methods) = (client.read_u8().await?, client.read_u8().await?);
    client.read_exact(&mut vec![0; methods.into()]).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => Ipv4Addr::from(client.read_u32().await?).to_string(),
        3 => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            String::from_utf8(name).unwrap()
        }
        other => panic!("an address of the kind {other}"),
    };
    let port = client.read_u16().await?;
    asked.lock().unwrap().push(format!("{host}:{port}"));
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let mut server = TcpStream::connect(behind).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
