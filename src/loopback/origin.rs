//! Serves files over HTTP/1.1 on loopback as upstream origins do, and goes wrong exactly as ordered.
//!
//! It is written on bare TCP, because its point is what happens on the wire: a cut after the 1,000th body byte, a reset, a body
//! that stalls, an answer for another range. Every request is in its [`Log`]. Content is held or made from a seed
//! ([`Content`]), so a demonstration or a bench can serve hundreds of gibibytes.
//!
//! One origin plays all upstream hosts: a file of `https://dl.k8s.io/release/…` is at `/dl.k8s.io/release/…`, so that each
//! host can be redirected here by [`Origin::host_url`]. A client that takes the origin for its HTTP proxy finds the same files.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use url::Url;

mod answer;
mod connection;
mod content;
mod fault;
mod file;
mod log;
mod request;
mod reset;
mod signature;

pub use content::Content;
pub use fault::{End, Expiry, Fault, When};
pub use file::File;
pub use log::{Connections, Exchange, Log};

use answer::Answer;
use fault::{Asked, Orders};
use request::Request;
use reset::Open;
use signature::Signatures;

/// Waiting connections; what a listener on Linux gets at most by default is more.
const BACKLOG: u32 = 1024;

/// Accepting fails when no file descriptor is left; some may come free soon.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(10);

/// A running origin. Dropping it ends its connections and frees its ports.
#[derive(Debug)]
pub struct Origin {
    served: Arc<Served>,
    address: SocketAddr,
    doors: watch::Sender<Doors>,
    /// What has been done about the order, for each port.
    are_open: Vec<watch::Receiver<bool>>,
    _listening: JoinSet<()>,
}

/// How new connections are met.
#[derive(Debug, Clone, Copy)]
struct Doors {
    open: bool,
    /// Connections are reset when they are this old.
    life: Option<Duration>,
}

/// What the connections of an origin share.
#[derive(Debug)]
struct Served {
    files: Mutex<HashMap<String, File>>,
    orders: Mutex<Orders>,
    signatures: Signatures,
    log: Log,
    open: Open,
}

impl Origin {
    /// Starts an origin without files on a free port of 127.0.0.1; within a tokio runtime.
    pub fn start() -> io::Result<Self> {
        Self::start_with_send_buffer(None)
    }

    /// As [`Origin::start`], on another address of this host: one of a network namespace, say.
    pub fn start_on(address: Ipv4Addr) -> io::Result<Self> {
        Self::open(address, None)
    }

    /// As [`Origin::start`], with a kernel buffer of about this size for what is written and not yet received, so that the log
    /// runs no further ahead of the client than that.
    pub fn start_with_send_buffer(bytes: Option<u32>) -> io::Result<Self> {
        Self::open(Ipv4Addr::LOCALHOST, bytes)
    }

    fn open(address: Ipv4Addr, bytes: Option<u32>) -> io::Result<Self> {
        let any_port = SocketAddr::from((address, 0));
        let front = bind(any_port, bytes)?;
        let signed = bind(any_port, bytes)?;
        let address = front.local_addr()?;
        let served = Arc::new(Served {
            files: Mutex::default(),
            orders: Mutex::default(),
            signatures: Signatures::new(signed.local_addr()?),
            log: Log::new(),
            open: Open::default(),
        });
        let (doors, seen) = watch::channel(Doors {
            open: true,
            life: None,
        });
        let mut listening = JoinSet::new();
        let mut are_open = Vec::new();
        for (socket, signed) in [(front, false), (signed, true)] {
            let address = socket.local_addr()?;
            let listener = socket.listen(BACKLOG)?;
            let (is_open, seen_open) = watch::channel(true);
            are_open.push(seen_open);
            let entrance = Entrance {
                served: Arc::clone(&served),
                address,
                signed,
                send_buffer: bytes,
                ordered: seen.clone(),
                is_open,
            };
            listening.spawn(entrance.keep(listener));
        }
        Ok(Self {
            served,
            address,
            doors,
            are_open,
            _listening: listening,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where signed URLs lead.
    pub fn signed_address(&self) -> SocketAddr {
        self.served.signatures.address()
    }

    /// The URL of a path, which begins with `/`.
    pub fn url(&self, path: &str) -> Url {
        let mut url = root(self.address);
        url.set_path(path);
        url
    }

    /// The URL below which the files of an upstream host are.
    pub fn host_url(&self, host: &str) -> Url {
        self.url(&format!("/{host}"))
    }

    /// Publishes a file at a path, in the place of what was there.
    pub fn publish(&self, path: impl Into<String>, file: impl Into<File>) {
        let path = path.into();
        locked(&self.served.files).insert(path, file.into());
    }

    pub fn withdraw(&self, path: &str) {
        locked(&self.served.files).remove(path);
    }

    /// What is published at a path.
    pub fn file(&self, path: &str) -> Option<File> {
        locked(&self.served.files).get(path).cloned()
    }

    /// Orders a fault for the paths that match a pattern, in which `*` stands for any run of characters.
    pub fn order(&self, pattern: &str, when: When, fault: Fault) {
        locked(&self.served.orders).add(pattern, when, fault);
    }

    /// Takes back all orders.
    pub fn recover(&self) {
        locked(&self.served.orders).clear();
    }

    /// Refuses new connections, as a host without that service does. Those that were accepted stay; those that still wait to be
    /// are reset.
    pub async fn refuse_connections(&self) {
        self.set_open(false).await;
    }

    /// Takes connections again, on the same ports.
    pub async fn accept_connections(&self) {
        self.set_open(true).await;
    }

    async fn set_open(&self, open: bool) {
        self.doors.send_modify(|doors| doors.open = open);
        for is_open in &self.are_open {
            // An error says that the port is not listened on any more.
            let _ = is_open.clone().wait_for(|is_open| *is_open == open).await;
        }
    }

    /// Resets each connection that is made from now on when it is so old.
    pub fn reset_connections_after(&self, life: Option<Duration>) {
        self.doors.send_modify(|doors| doors.life = life);
    }

    /// Resets one of the connections that are open, the one that the lot falls on; false where none is.
    pub fn reset_one(&self, lot: usize) -> bool {
        self.served.open.reset_one(lot)
    }

    pub fn log(&self) -> &Log {
        &self.served.log
    }
}

impl Served {
    /// The answer to a request; none where the connection just ends.
    fn answer(&self, request: &Request, signed: bool) -> Option<Answer> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            let text = "this origin is for reading\n";
            return Some(Answer::trouble(405, "text/plain", text));
        }
        if signed && !self.signatures.redeem(request) {
            return Some(Answer::expired());
        }
        let faults = self.strike(request, signed);
        match self.instead(request, &faults) {
            Instead::Nothing => {}
            Instead::HangUp => return None,
            Instead::Answer(mut answer) => {
                for fault in &faults {
                    answer.suffer(fault);
                }
                return Some(answer);
            }
        }
        Some(match self.file_meant(&request.path, &faults) {
            Some(file) => Answer::of_file(&file, request, &faults),
            None => Answer::not_found(),
        })
    }

    fn strike(&self, request: &Request, signed: bool) -> Vec<Fault> {
        let body = match locked(&self.files).get(&request.path) {
            Some(file) => answer::body_asked(file, request),
            None => 0..0,
        };
        locked(&self.orders).strike(&Asked {
            path: &request.path,
            has_range: request.range().is_some(),
            body,
            signed,
        })
    }

    /// What the first fault that leaves no answer for the file puts in its place.
    fn instead(&self, request: &Request, faults: &[Fault]) -> Instead {
        let instead = faults.iter().find_map(|fault| match fault {
            Fault::HangUp => Some(Instead::HangUp),
            Fault::Status { code, retry_after } => {
                let mut answer = Answer::trouble(*code, "text/plain", "something went wrong\n");
                let retry_after = retry_after.clone();
                answer
                    .headers
                    .extend(retry_after.map(|after| ("Retry-After", after)));
                Some(Instead::Answer(answer))
            }
            Fault::HtmlPage => Some(Instead::Answer(Answer::trouble(
                200,
                "text/html; charset=utf-8",
                "<!DOCTYPE html>\n<html><body><h1>This site can't be reached</h1></body></html>\n",
            ))),
            Fault::RedirectSigned(expiry) => {
                let url = self.signatures.sign(&request.path, *expiry);
                Some(Instead::Answer(Answer::redirect(url.into())))
            }
            Fault::RedirectTo(url) => Some(Instead::Answer(Answer::redirect(url.clone()))),
            _ => None,
        });
        instead.unwrap_or(Instead::Nothing)
    }

    fn file_meant(&self, path: &str, faults: &[Fault]) -> Option<File> {
        let files = locked(&self.files);
        faults
            .iter()
            .fold(files.get(path).cloned(), |file, fault| match fault {
                Fault::Changed(changed) => Some(changed.clone()),
                Fault::OtherFile(path) => files.get(path).cloned(),
                _ => file,
            })
    }
}

enum Instead {
    Nothing,
    HangUp,
    Answer(Answer),
}

/// A port on which connections come in.
struct Entrance {
    served: Arc<Served>,
    address: SocketAddr,
    signed: bool,
    send_buffer: Option<u32>,
    ordered: watch::Receiver<Doors>,
    is_open: watch::Sender<bool>,
}

/// Why an entrance ends: its origin is gone, or its port could not be had again.
type Ended<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Entrance {
    async fn keep(mut self, listener: TcpListener) {
        if let Err(error) = self.open_and_close(listener).await {
            tracing::debug!(address = %self.address, error, "an entrance ends");
        }
    }

    /// Accepts connections, and refuses them while that is ordered: then the port stays bound, but nobody listens.
    async fn open_and_close(&mut self, mut listener: TcpListener) -> Ended<()> {
        let mut connections = JoinSet::new();
        loop {
            self.is_open.send_replace(true);
            let mut ordered = self.ordered.clone();
            tokio::select! {
                never = self.accept(&listener, &mut connections) => match never {},
                closed = ordered.wait_for(|doors| !doors.open) => drop(closed?),
            }
            drop(listener);
            let refusing = bind(self.address, self.send_buffer)?;
            self.is_open.send_replace(false);
            self.ordered.wait_for(|doors| doors.open).await?;
            listener = refusing.listen(BACKLOG)?;
        }
    }

    async fn accept(&self, listener: &TcpListener, connections: &mut JoinSet<()>) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Small writes are what trickles and cuts are made of.
                    let _ = stream.set_nodelay(true);
                    let served = Arc::clone(&self.served);
                    let life = self.ordered.borrow().life;
                    connections.spawn(connection::serve(served, stream, peer, self.signed, life));
                }
                Err(error) => {
                    tracing::warn!(%error, "an origin could not accept a connection");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

fn bind(address: SocketAddr, send_buffer: Option<u32>) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = send_buffer {
        // Accepted connections inherit it.
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

fn root(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}/")).expect("an address makes a URL")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
