//! What drives a client: a task that connects when something is asked, and again when a connection broke.

use super::ask::{Answer, Ask};
use super::connection::Connection;
use super::far::Far;
use super::flight::{Flight, gone};
use crate::fault::{Fault, Result, within};
use futures_util::future::BoxFuture;
use site_recovery::Capability;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The one connection of a client, as long as it has an owner.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) far: Arc<Far>,
    pub(super) flight: Flight,
    capability: OnceLock<Capability>,
    connections: AtomicU64,
}

/// A share in a link. With the last one it ends.
#[derive(Debug)]
pub(crate) struct Owner(pub(crate) Arc<Link>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.flight.close();
    }
}

impl Link {
    /// Connects with the first request. The role has to have this capability.
    pub(crate) fn lazy(far: Arc<Far>, capability: Capability) -> Arc<Self> {
        let link = Self::new(far);
        link.capability.get_or_init(|| capability);
        Arc::new(link)
    }

    /// Connects now.
    pub(super) async fn connected(far: Arc<Far>) -> Result<Arc<Self>> {
        let link = Arc::new(Self::new(far));
        let connection = link.dial().await.map_err(|fault| link.named(&fault))?;
        link.flight.driven();
        link.far.spawner.spawn(Box::pin(Arc::clone(&link).drive(Some(connection))));
        Ok(link)
    }

    fn new(far: Arc<Far>) -> Self {
        let (flight, capability) = (Flight::default(), OnceLock::new());
        Self { far, flight, capability, connections: AtomicU64::new(0) }
    }

    pub(super) fn capability(&self) -> &Capability {
        self.capability.get().expect("it is told before a link is handed out")
    }

    /// Asks, and waits for the answer. Dropped before that, nobody waits: what has not left does not leave any more, and
    /// what has is cancelled.
    pub(super) async fn ask(self: &Arc<Self>, ask: Ask) -> Result<Answer> {
        let (id, answer, start) = self.flight.board(ask);
        if start {
            self.far.spawner.spawn(Box::pin(Arc::clone(self).drive(None)));
        }
        let mut asked = Asked { flight: &self.flight, id, answer };
        let answered = (&mut asked.answer).await;
        answered.unwrap_or_else(|_| Err(gone()))
    }

    async fn drive(self: Arc<Self>, mut first: Option<Connection>) {
        // Runs from one answer to the next: who lets us in and then says nothing is out of reach, too.
        let mut patience = None;
        loop {
            let connection = match first.take() {
                Some(connection) => Some(connection),
                None => {
                    let span = self.far.patience;
                    self.connect(patience.get_or_insert_with(|| self.far.clock.sleep(span))).await
                }
            };
            let hold = connection.is_some();
            match connection {
                Some(connection) => {
                    let before = self.flight.answered();
                    let fault = connection.run(&self.flight).await;
                    let (role, address) = (&self.far.role, &self.far.address);
                    tracing::debug!(target: "site_recovery_transport", %role, address, %fault, "connection ended");
                    let unanswered = self.flight.lost(&fault);
                    if unanswered == 0 || self.flight.answered() > before {
                        patience = None;
                    }
                }
                None => patience = None,
            }
            if self.flight.rest(hold) {
                return;
            }
        }
    }

    /// Tries until it works, or patience ends: then all that waits fails, and nothing is returned.
    async fn connect(&self, patience: &mut BoxFuture<'static, ()>) -> Option<Connection> {
        let mut last = None;
        let outcome = tokio::select! {
            biased;
            outcome = self.try_on(&mut last) => outcome,
            () = patience => {
                self.far.set_out_of_reach(true);
                Err(last.unwrap_or(Fault::Silent { what: "connection", span: self.far.patience }))
            }
        };
        match outcome {
            Ok(connection) => Some(connection),
            Err(fault) => {
                let (role, address) = (&self.far.role, &self.far.address);
                tracing::warn!(target: "site_recovery_transport", %role, address, %fault, "out of reach");
                self.flight.fail(&fault);
                None
            }
        }
    }

    async fn try_on(&self, last: &mut Option<Fault>) -> Result<Connection, Fault> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            if self.flight.is_closed() {
                return Err(Fault::Ended("closed by its owner"));
            }
            match self.dial().await {
                Ok(connection) => {
                    self.far.set_out_of_reach(false);
                    return Ok(connection);
                }
                Err(fault) if fault.passes() && !self.far.is_out_of_reach() => *last = Some(fault),
                Err(fault) => return Err(fault),
            }
            self.pause(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Ends early when nobody is left who asks.
    async fn pause(&self, span: Duration) {
        let closed = async {
            while !self.flight.is_closed() {
                self.flight.changed().await;
            }
        };
        tokio::select! {
            () = closed => {}
            () = self.far.clock.sleep(span) => {}
        }
    }

    async fn dial(&self) -> Result<Connection, Fault> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let opened = Connection::open(&self.far, number);
        let connection = within(&*self.far.clock, self.far.stall, "connection", opened).await?;
        let (before, now) =
            (self.capability.get_or_init(|| connection.capability().clone()), connection.capability());
        if before != now {
            let (before, now) = (Box::new(before.clone()), Box::new(now.clone()));
            return Err(Fault::Changed { before, now });
        }
        Ok(connection)
    }

    fn named(&self, fault: &Fault) -> site_recovery::Error {
        fault.told().at(&self.far.role, "connect")
    }
}

/// A request that somebody waits for.
struct Asked<'a> {
    flight: &'a Flight,
    id: u64,
    answer: oneshot::Receiver<Result<Answer>>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // After the answer this does nothing: the request is known no more.
        self.flight.give_up(self.id);
    }
}
