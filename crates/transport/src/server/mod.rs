//! The server: who is let in, how many, and how it ends.

mod answer;
mod clients;
mod greeting;
mod limits;
mod opened;
mod perform;
mod requests;
mod served;
mod session;
pub(crate) mod strangers;

use crate::allow::{Client, Machines, Rules};
use crate::control::{Names, VitalSigns, Vitals};
use crate::enrol::Serial;
use crate::fault::{Fault, Result, within};
use crate::tls::ServerTls;
use clients::Clients;
pub(crate) use clients::Registered;
use futures_util::future::AbortRegistration;
pub use limits::Limits;
pub(crate) use served::Served;
use served::{Handed, by_name};
use site_recovery::{
    Clock, Error, ErrorKind, LandingSite, MasterTarget, ProcessServer, RecoveryPointStore, Replica, RoleName,
    Source, Spawner, SystemClock, Target, TokioSpawner,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use strangers::{Stranger, Strangers};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Serves roles until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    offer: Arc<Offer>,
    phase: watch::Sender<Phase>,
    /// Closed when no task is left.
    alive: watch::Sender<()>,
}

/// What a server is made of; see [`Server::builder`].
#[derive(Debug)]
pub struct ServerBuilder {
    roles: Vec<Handed>,
    names: Option<Arc<dyn Names>>,
    vitals: Option<Arc<dyn Vitals>>,
    tls: ServerTls,
    rules: Rules,
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
pub(crate) struct Offer {
    roles: BTreeMap<RoleName, Served>,
    names: Option<Arc<dyn Names>>,
    vitals: Option<Arc<dyn Vitals>>,
    tls: ServerTls,
    rules: Rules,
    limits: Limits,
    clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    strangers: Strangers,
    clients: Clients,
    /// One for each connection of a client that has shown its certificate.
    places: Arc<Semaphore>,
    cut: AtomicUsize,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// What is in flight is answered.
    Stopping,
    Cut,
}

impl Server {
    /// A server of no roles yet.
    pub fn builder(tls: ServerTls) -> ServerBuilder {
        let (roles, rules, clock) = (vec![], Rules::default(), Arc::new(SystemClock));
        ServerBuilder {
            roles,
            names: None,
            vitals: None,
            tls,
            rules,
            limits: Limits::default(),
            clock,
            spawner: None,
        }
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
        let ended = async {
            self.alive.closed().await;
            Ok(())
        };
        if within(&*self.offer.clock, bound, "end", ended).await.is_err() {
            let _ = self.phase.send(Phase::Cut);
            // Every connection is dropped where it waits, so this ends by itself.
            self.alive.closed().await;
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
    /// Serves a recovery point store, under its own name.
    #[must_use]
    pub fn store(self, role: Arc<dyn RecoveryPointStore>) -> Self {
        self.also(Handed::Store(role))
    }

    /// Serves a source, under its own name.
    #[must_use]
    pub fn source(self, role: Arc<dyn Source>) -> Self {
        self.also(Handed::Source(role))
    }

    /// Serves a process server, under its own name. It is handed what `names` knows.
    #[must_use]
    pub fn process_server(self, role: Arc<dyn ProcessServer>) -> Self {
        self.also(Handed::ProcessServer(role))
    }

    /// Serves a target, under its own name.
    #[must_use]
    pub fn target(self, role: Arc<dyn Target>) -> Self {
        self.also(Handed::Target(role))
    }

    /// Serves a master target, under its own name.
    #[must_use]
    pub fn master_target(self, role: Arc<dyn MasterTarget>) -> Self {
        self.also(Handed::MasterTarget(role))
    }

    /// Serves a landing site, under its own name.
    #[must_use]
    pub fn landing_site(self, role: Arc<dyn LandingSite>) -> Self {
        self.also(Handed::LandingSite(role))
    }

    /// Answers servers that ask how they stand before they take part in the network: what is recorded of their machine beside
    /// this replica, under its name. An agent is told of its own machine alone; let agents in with
    /// [`allow`](Self::allow), for no machine.
    #[must_use]
    pub fn witness(self, replica: Arc<dyn Replica>) -> Self {
        self.also(Handed::Standing(replica))
    }

    /// What calls may name: the sources and replicas that a process server or a target is handed.
    #[must_use]
    pub fn names(mut self, names: Arc<dyn Names>) -> Self {
        self.names = Some(names);
        self
    }

    /// What is told of this service besides that it is there.
    #[must_use]
    pub fn vitals(mut self, vitals: Arc<dyn Vitals>) -> Self {
        self.vitals = Some(vitals);
        self
    }

    fn also(mut self, handed: Handed) -> Self {
        self.roles.push(handed);
        self
    }

    /// Lets this client in, for these machines. Rules about one client add up. Without any rule every client with a certificate of
    /// the authority may do all; with one, clients that none is about are `Denied`.
    ///
    /// A client that may not name a machine may not read of it either, nor name it inside of a manifest or a phase record.
    /// Those of a replication group name all its members: whoever ships one of them has to be allowed all. What a machine is
    /// called at its site is looked at by nobody here.
    #[must_use]
    pub fn allow(mut self, peer: Client, machines: Machines) -> Self {
        self.rules.0.push((peer, machines));
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
        let roles = by_name(self.roles)?;
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
            names: self.names,
            vitals: self.vitals,
            tls: self.tls,
            rules: self.rules,
            strangers: Strangers::new(self.limits.strangers),
            limits: self.limits,
            clock: self.clock,
            spawner: match self.spawner {
                Some(spawner) => spawner,
                None => Arc::new(TokioSpawner::current()?),
            },
            clients: Clients::default(),
            places: Arc::new(Semaphore::new(self.limits.connections)),
            cut: AtomicUsize::new(0),
            phase: watched,
        });
        let (alive, is_alive) = watch::channel(());
        offer.spawner.spawn(Box::pin(accept(is_alive, listener, Arc::clone(&offer))));
        Ok(Server { address, offer, phase, alive })
    }
}

// The sign of life comes first, so that it is dropped last: who waits for it finds socket and roles let go.
async fn accept(alive: watch::Receiver<()>, listener: TcpListener, offer: Arc<Offer>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = offer.until(Phase::Stopping) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let stranger = offer.strangers.enter();
                let served = serve(alive.clone(), stream, stranger, peer, Arc::clone(&offer));
                offer.spawner.spawn(Box::pin(served));
            }
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

async fn serve(
    _alive: watch::Receiver<()>,
    stream: TcpStream,
    stranger: (Stranger, AbortRegistration),
    peer: SocketAddr,
    offer: Arc<Offer>,
) {
    let outcome = tokio::select! {
        biased;
        () = offer.until(Phase::Cut) => {
            offer.cut.fetch_add(1, Ordering::SeqCst);
            Err(Fault::Ended("still at it when the server was stopped"))
        }
        outcome = session::converse(stream, stranger, peer, &offer) => outcome,
    };
    match outcome {
        Ok(()) => tracing::debug!(target: "site_recovery_transport", %peer, "left"),
        Err(error @ Fault::Broken(_)) => {
            tracing::info!(target: "site_recovery_transport", %peer, %error, "went away");
        }
        Err(error) => tracing::warn!(target: "site_recovery_transport", %peer, %error, "cut off"),
    }
}

impl Offer {
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn names(&self) -> Option<&dyn Names> {
        self.names.as_deref()
    }

    pub(crate) async fn vital_signs(&self) -> VitalSigns {
        let mut signs = match &self.vitals {
            Some(vitals) => vitals.vital_signs().await,
            None => VitalSigns::default(),
        };
        signs.now = self.clock.now();
        signs
    }

    pub(crate) fn served(&self, name: &RoleName) -> Result<Served, Fault> {
        self.roles.get(name).cloned().ok_or_else(|| {
            Fault::Unwelcome(Error::new(ErrorKind::NotFound, format!("no role {:?} is served here", name.0)))
        })
    }

    /// Ends when a client's certificate is revoked.
    async fn until_revoked(&self, serial: Option<Serial>) {
        let Some(serial) = serial else { return std::future::pending().await };
        if self.tls.revoked().wait_for(|revoked| revoked.contains(&serial)).await.is_err() {
            // Nobody is left who could tell.
            std::future::pending().await
        }
    }

    /// Ends when the server is at `phase` or beyond, or gone.
    pub(crate) async fn until(&self, phase: Phase) {
        let reached = |now: &Phase| *now == Phase::Cut || *now == phase;
        let _ = self.phase.clone().wait_for(reached).await;
    }
}
