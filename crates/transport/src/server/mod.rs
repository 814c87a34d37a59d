//! The server: who is let in, how many, and how it ends.

mod clients;
mod opened;
mod perform;
mod requests;
mod session;

use crate::fault::{Fault, Result, within};
use crate::tls::ServerTls;
use clients::Clients;
use site_recovery::{
    Clock, Error, ErrorKind, RecoveryPointStore, RoleName, Spawner, SystemClock, TokioSpawner,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Bounds on what peers can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, those in their handshake as well; one more is closed at once. 1 to 4096.
    pub connections: usize,
    /// The credit of a connection: bytes of requests that are not answered yet, and so the longest of them. As much again
    /// is for reads of opened points; other answers come besides. 1 MiB to 1 GiB.
    pub memory: usize,
    /// Requests of a connection that are not answered yet. 1 to 4096.
    pub requests: usize,
    /// Points that a connection may have open at a time.
    pub opened: usize,
    /// From the connection to the welcome.
    pub handshake: Duration,
    /// Without a request and without a point open. A client that is hung up on comes back with its next call.
    pub idle: Duration,
    /// Without any progress while something is to come or to go; peers that are there say so three times as often.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            memory: 64 << 20,
            requests: 64,
            opened: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(10 * 60),
            stall: Duration::from_secs(30),
        }
    }
}

/// Serves recovery point stores until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    offer: Arc<Offer>,
    phase: watch::Sender<Phase>,
}

/// What a server is made of; see [`Server::builder`].
#[derive(Debug)]
pub struct ServerBuilder {
    roles: Vec<Arc<dyn RecoveryPointStore>>,
    tls: ServerTls,
    limits: Limits,
    clock: Arc<dyn Clock>,
    spawner: Option<Arc<dyn Spawner>>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had requests unanswered when the bound was reached.
    pub cut: usize,
}

/// What every connection shares.
#[derive(Debug)]
struct Offer {
    roles: BTreeMap<RoleName, Arc<dyn RecoveryPointStore>>,
    tls: ServerTls,
    limits: Limits,
    clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    clients: Clients,
    /// One for each connection, and one for the listener.
    places: Arc<Semaphore>,
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
    /// A server of no roles yet.
    pub fn builder(tls: ServerTls) -> ServerBuilder {
        let (roles, clock) = (vec![], Arc::new(SystemClock));
        ServerBuilder { roles, tls, limits: Limits::default(), clock, spawner: None }
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and requests, answers what is in flight, for at most `bound`, and cuts what is left then.
    /// When it returns, nobody is served any more, no task is left, and the roles are let go.
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
    /// Serves one more store, under its own name.
    #[must_use]
    pub fn role(mut self, role: Arc<dyn RecoveryPointStore>) -> Self {
        self.roles.push(role);
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
        self.clock = clock;
        self
    }

    /// Starts tasks elsewhere than on the caller's runtime.
    #[must_use]
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Listens and serves. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// `Invalid`: no role, two of one name, a limit out of bounds. `Conflict` where the address is taken, `Unavailable`
    /// where listening is not possible.
    pub async fn listen(self, address: SocketAddr) -> Result<Server> {
        self.limits.check()?;
        let mut roles = BTreeMap::new();
        for role in self.roles {
            let name = role.name();
            if roles.insert(name.clone(), role).is_some() {
                return Err(Error::invalid("role", name, "a server has each name once", "rename one"));
            }
        }
        if roles.is_empty() {
            return Err(Error::invalid("roles", "empty", "a server serves something", "add a role"));
        }
        let failed = |e: std::io::Error| {
            let taken = e.kind() == std::io::ErrorKind::AddrInUse;
            let kind = if taken { ErrorKind::Conflict } else { ErrorKind::Unavailable };
            Error::new(kind, format!("cannot listen at {address}")).caused_by(e)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let offer = Arc::new(Offer {
            roles,
            tls: self.tls,
            limits: self.limits,
            clock: self.clock,
            spawner: match self.spawner {
                Some(spawner) => spawner,
                None => Arc::new(TokioSpawner::current()?),
            },
            clients: Clients::default(),
            places: Arc::new(Semaphore::new(self.limits.connections + 1)),
            cut: AtomicUsize::new(0),
            phase: watched,
        });
        let place = offer.place().expect("none is taken yet");
        offer.spawner.spawn(Box::pin(accept(place, listener, Arc::clone(&offer))));
        Ok(Server { address, offer, phase })
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let counts = (1..=4096).contains(&self.connections) && (1..=4096).contains(&self.requests);
        let spans = [self.handshake, self.idle, self.stall].iter().all(|s| !s.is_zero());
        if counts && spans && (1 << 20..=1 << 30).contains(&self.memory) {
            return Ok(());
        }
        let rule = "1-4096 connections, 1-4096 requests, 1 MiB to 1 GiB of memory, and no time-out that is over at once";
        Err(Error::invalid("limits", format!("{self:?}"), rule, "choose others"))
    }
}

// The place comes first, so that it is given back last: who waits for it finds socket and roles let go.
async fn accept(_place: OwnedSemaphorePermit, listener: TcpListener, offer: Arc<Offer>) {
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
                    tracing::warn!(target: "site_recovery_transport", %peer, "refused: all connections are taken");
                }
            },
            Err(error) => {
                tracing::warn!(target: "site_recovery_transport", %error, "a connection did not come about");
                // Out of file handles: the next attempt fails, too, until somebody leaves.
                tokio::select! {
                    () = offer.until(Phase::Stopping) => return,
                    () = offer.clock.sleep(Duration::from_millis(100)) => {}
                }
            }
        }
    }
}

async fn serve(_place: OwnedSemaphorePermit, stream: TcpStream, peer: SocketAddr, offer: Arc<Offer>) {
    let outcome = tokio::select! {
        biased;
        () = offer.until(Phase::Cut) => {
            offer.cut.fetch_add(1, Ordering::SeqCst);
            Err(Fault::Ended("still at it when the server was stopped"))
        }
        outcome = session::converse(stream, peer, &offer) => outcome,
    };
    match outcome {
        Ok(()) => tracing::debug!(target: "site_recovery_transport", %peer, "left"),
        Err(error) => tracing::warn!(target: "site_recovery_transport", %peer, %error, "cut off"),
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
}
