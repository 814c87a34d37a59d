//! Passes connections on to a server of this host, and counts what crosses: headers and TLS with it.

use crate::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug, Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

/// It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server: u16) -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (port, counts) = (listener.local_addr()?.port(), Arc::new(Counts::default()));
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&counts));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(
                        pass(from_client, to_server, &counts.up),
                        pass(from_server, to_client, &counts.down)
                    );
                });
            }
        });
        Ok(Self { port, counts, _tasks: tasks })
    }

    /// Bytes to the server and from it since it was asked last.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.counts.up.swap(0, Ordering::Relaxed), self.counts.down.swap(0, Ordering::Relaxed))
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, count: &AtomicU64) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(len as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
