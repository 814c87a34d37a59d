//! The server: who is let in, how many, and how it ends.

mod export;
#[cfg(test)]
mod fuzz;
mod handshake;
mod limits;
mod overlay;
mod overlay_map;
mod reply;
mod transmission;

use crate::address::{Address, Stream};
use crate::fault::Result;
use crate::fault::{Fault, within};
use crate::tls::ServerTls;
pub use export::Export;
use export::names_are_apart;
pub use limits::Limits;
use site_recovery::{Clock, Error, ErrorKind, Spawner, SystemClock, TokioSpawner};
use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Serves disks by NBD until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: Address,
    offer: Arc<Offer>,
    phase: watch::Sender<Phase>,
}

/// What a server is made of; see [`Server::builder`].
#[derive(Debug, Default)]
pub struct ServerBuilder {
    exports: Vec<Export>,
    tls: Option<ServerTls>,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
    spawner: Option<Arc<dyn Spawner>>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had not ended by themselves.
    pub cut: usize,
}

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) exports: Vec<Arc<Export>>,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    /// One for each connection, and one for the listener.
    places: Arc<Semaphore>,
    /// Connections that were cut.
    cut: AtomicUsize,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// What is in flight is answered.
    Stopping,
    Cut,
}

impl Server {
    /// A server of no exports yet, without TLS.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes no more connections and requests, answers what is in flight, for at most `bound`, and cuts what is left then.
    /// When it returns, nobody is served any more, the socket is gone, and the disks are let go.
    ///
    /// # Cancel safety
    /// Dropping the future cuts at once.
    pub async fn stop(self, bound: Duration) -> Stopped {
        let _ = self.phase.send(Phase::Stopping);
        let all = self.offer.limits.connections as u32 + 1;
        let ended = async { self.offer.places.acquire_many(all).await.map_err(|_| Fault::Ended("closed")) };
        if within(&*self.offer.clock, bound, "end", ended).await.is_err() {
            let _ = self.phase.send(Phase::Cut);
            // Every connection is dropped where it waits, so this ends by itself.
            let _ = self.offer.places.acquire_many(all).await;
        }
        Stopped { cut: self.offer.cut.load(Ordering::SeqCst) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.phase.send(Phase::Cut);
    }
}

impl ServerBuilder {
    /// Serves one more disk.
    #[must_use]
    pub fn export(mut self, export: Export) -> Self {
        self.exports.push(export);
        self
    }

    /// Requires TLS of every client.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Starts tasks elsewhere than on the caller's runtime.
    #[must_use]
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Listens and serves. A Unix socket is made, for its owner alone, and removed at the end.
    ///
    /// # Errors
    /// `Invalid`: no export, two of one name, a name or a limit out of bounds, an address beyond loopback where clients
    /// need not show a certificate. `Conflict` where the socket exists, `Unavailable` where listening is not possible.
    pub async fn listen(self, address: Address) -> Result<Server> {
        self.check(&address)?;
        let (listener, address) = Listener::bind(address).await?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let offer = Arc::new(Offer {
            exports: self.exports.into_iter().map(Arc::new).collect(),
            tls: self.tls,
            limits: self.limits,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            spawner: match self.spawner {
                Some(spawner) => spawner,
                None => Arc::new(TokioSpawner::current()?),
            },
            places: Arc::new(Semaphore::new(self.limits.connections + 1)),
            cut: AtomicUsize::new(0),
            phase: watched,
        });
        let place = offer.place().expect("none is taken yet");
        offer.spawner.spawn(Box::pin(accept(place, listener, Arc::clone(&offer))));
        Ok(Server { address, offer, phase })
    }

    fn check(&self, address: &Address) -> Result<()> {
        if self.exports.is_empty() {
            return Err(Error::invalid("exports", "empty", "a server serves something", "add an export"));
        }
        names_are_apart(&self.exports)?;
        self.limits.check()?;
        let mutual = self.tls.as_ref().is_some_and(ServerTls::is_mutual);
        match address {
            Address::Tcp(at) if !at.ip().is_loopback() && !mutual => {
                let rule = "beyond loopback, whoever can connect could read the disks";
                Err(Error::invalid("address", at, rule, "require certificates by ServerTls::mutual"))
            }
            _ => Ok(()),
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    /// The file, by device and inode, is removed with the listener; one that somebody else has put in its place is not.
    Unix(UnixListener, PathBuf, (u64, u64)),
}

impl Listener {
    async fn bind(address: Address) -> Result<(Self, Address)> {
        let failed = |e: std::io::Error| {
            let kind = match e.kind() {
                std::io::ErrorKind::AddrInUse => ErrorKind::Conflict,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("cannot listen at {address}")).caused_by(e)
        };
        match &address {
            Address::Tcp(at) => {
                let listener = TcpListener::bind(at).await.map_err(failed)?;
                let at = listener.local_addr().map_err(failed)?;
                Ok((Self::Tcp(listener), Address::Tcp(at)))
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path).map_err(failed)?;
                let listener = Self::Unix(listener, path.clone(), file(path).map_err(failed)?);
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
                Ok((listener, address.clone()))
            }
        }
    }

    async fn accept(&self) -> std::io::Result<(Box<dyn Stream>, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), peer.to_string()))
            }
            Self::Unix(listener, path, _) => {
                let (stream, _) = listener.accept().await?;
                let process = stream.peer_cred().ok().and_then(|c| c.pid()).unwrap_or_default();
                Ok((Box::new(stream), format!("process {process} at {}", path.display())))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The listener is open until here, so that no other file has its number.
        if let Self::Unix(_, path, ours) = self
            && file(path).is_ok_and(|found| found == *ours)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Device and inode.
fn file(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

// The place comes first, so that it is given back last: who waits for it finds socket and disks let go.
async fn accept(_place: OwnedSemaphorePermit, listener: Listener, offer: Arc<Offer>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = offer.until(Phase::Stopping) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match offer.place() {
                Some(place) => offer.spawner.spawn(Box::pin(serve(place, stream, peer, Arc::clone(&offer)))),
                None => {
                    tracing::warn!(target: "site_recovery_nbd", %peer, "refused: all connections are taken");
                }
            },
            Err(error) => {
                tracing::warn!(target: "site_recovery_nbd", %error, "a connection did not come about");
                // Out of file handles: the next attempt fails, too, until somebody leaves.
                offer.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(_place: OwnedSemaphorePermit, stream: Box<dyn Stream>, peer: String, offer: Arc<Offer>) {
    let outcome = tokio::select! {
        biased;
        () = offer.until(Phase::Cut) => {
            offer.cut.fetch_add(1, Ordering::SeqCst);
            Err(Fault::Ended("still at it when the server was stopped"))
        }
        outcome = converse(stream, Arc::clone(&offer)) => outcome,
    };
    match outcome {
        Ok(()) => tracing::debug!(target: "site_recovery_nbd", peer, "left"),
        Err(error) => tracing::warn!(target: "site_recovery_nbd", peer, %error, "cut off"),
    }
}

async fn converse(stream: Box<dyn Stream>, offer: Arc<Offer>) -> Result<(), Fault> {
    let agreed = tokio::select! {
        biased;
        () = offer.until(Phase::Stopping) => return Ok(()),
        agreed = within(&*offer.clock, offer.limits.handshake, "handshake", handshake::agree(stream, &offer)) => agreed?,
    };
    match agreed {
        Some(agreed) => transmission::transmit(agreed, offer).await,
        None => Ok(()),
    }
}

impl Offer {
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Ends when the server is at `phase` or beyond, or gone.
    async fn until(&self, phase: Phase) {
        let reached = |now: &Phase| *now == Phase::Cut || *now == phase;
        let _ = self.phase.clone().wait_for(reached).await;
    }

    /// Ends when no more requests are taken.
    pub(crate) async fn stopping(&self) {
        self.until(Phase::Stopping).await;
    }

    pub(crate) fn export(&self, name: &str) -> Option<&Arc<Export>> {
        self.exports.iter().find(|e| e.name() == name)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
