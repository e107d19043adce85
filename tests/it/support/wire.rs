//! Speaks HTTP byte by byte, to see what a client library would hide.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer on loopback takes that is on its way at all.
const SILENCE: Duration = Duration::from_secs(5);

/// How the other side left the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Reset,
    /// Nothing came for the time that was given.
    Silent,
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Wire(TcpStream);

/// An answer's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    lines: String,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.lines
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Sends a request; `headers` are lines without their ends.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[&str]) {
        let lines: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
        self.0.write_all(head.as_bytes()).await.unwrap();
    }

    /// Reads up to the empty line, and not one byte more.
    pub(crate) async fn head(&mut self) -> Head {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let byte = timeout(SILENCE, self.0.read_u8()).await;
            text.push(byte.expect("a head comes").expect("the head is whole"));
        }
        let lines = String::from_utf8(text).unwrap();
        let status = lines.split(' ').nth(1).unwrap().parse().unwrap();
        Head { status, lines }
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = vec![0; length];
        let read = timeout(SILENCE, self.0.read_exact(&mut body)).await;
        read.expect("a body comes").expect("the body is whole");
        body
    }

    /// Reads until the other side ends the connection.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Ending) {
        self.rest_for(SILENCE).await
    }

    /// Reads until the other side ends the connection or sends nothing for so long.
    pub(crate) async fn rest_for(&mut self, silence: Duration) -> (Vec<u8>, Ending) {
        let mut body = Vec::new();
        loop {
            match timeout(silence, self.0.read_buf(&mut body)).await {
                Err(_) => return (body, Ending::Silent),
                Ok(Ok(0)) => return (body, Ending::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    return (body, Ending::Reset);
                }
            }
        }
    }
}
