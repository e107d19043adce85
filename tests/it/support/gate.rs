//! A way to a server that can be shut: connections are refused then, and those that were made end.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    behind: SocketAddr,
    passing: JoinSet<()>,
}

impl Gate {
    /// An open one.
    pub(crate) async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut gate = Self {
            address: listener.local_addr().unwrap(),
            behind,
            passing: JoinSet::new(),
        };
        gate.passing.spawn(pass(listener, behind));
        gate
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn shut(&mut self) {
        self.passing.shutdown().await;
    }

    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.passing.spawn(pass(listener, self.behind));
    }
}

async fn pass(listener: TcpListener, behind: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            // A client that goes is no trouble here.
            if let Ok(mut server) = TcpStream::connect(behind).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
