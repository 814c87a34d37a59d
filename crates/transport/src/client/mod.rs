//! The client: roles of another process as roles of this one, by its connection of the data plane.

mod ask;
mod connection;
mod disk;
mod far;
mod flight;
mod link;
mod store;

use crate::control::{
    RemoteLandingSite, RemoteMasterTarget, RemoteProcessServer, RemoteSource, RemoteTarget, RemoteWitness,
};
use crate::fault::Result;
use crate::tls::ClientTls;
use async_trait::async_trait;
pub(crate) use disk::{open_captured, open_landing};
pub(crate) use far::Far;
pub(crate) use link::{Link, Owner};
use site_recovery::{
    Capability, Clock, Error, Random, RoleName, Spawner, SystemClock, SystemRandom, TokioSpawner,
};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A recovery point store that a [`Server`](crate::Server) serves.
///
/// It keeps the far store's contract, and adds one thing to its errors: what cannot be reached within the
/// [patience](RemoteBuilder::patience) is `Unavailable`. Until then a connection that broke is made again, and what
/// was in flight on it is asked again: every changing call carries the key of its effect, and a batch that comes again
/// counts once.
///
/// # Cancel safety
/// That of the far store. A call that is dropped before it left does not leave any more; one that did is dropped there, too,
/// before anything that is asked later begins.
#[derive(Debug)]
pub struct RemoteStore {
    name: RoleName,
    owner: Arc<Owner>,
}

/// How a far role is reached; see [`RemoteStore::builder`] and those of the other roles.
#[derive(Debug)]
pub struct RemoteBuilder<R> {
    address: String,
    role: RoleName,
    tls: ClientTls,
    stall: Duration,
    patience: Duration,
    longest_answer: usize,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    spawner: Option<Arc<dyn Spawner>>,
    remote: PhantomData<fn() -> R>,
}

/// A role of another process.
#[async_trait]
pub trait Stub: Sized {
    /// What the far role is taken for.
    #[doc(hidden)]
    const KIND: &'static str;

    /// Connects now, once.
    #[doc(hidden)]
    async fn connected(far: Far) -> Result<Self>;

    /// Connects with the first call.
    #[doc(hidden)]
    fn lazy(far: Far, capability: Capability) -> Self;
}

macro_rules! builder {
    ($($remote:ty),*) => {$(
        impl $remote {
            /// The role of this name of the server at `address`, as in `dr.example.net:7443`.
            pub fn builder(
                address: impl Into<String>,
                role: RoleName,
                tls: ClientTls,
            ) -> RemoteBuilder<Self> {
                RemoteBuilder::new(address.into(), role, tls)
            }
        }
    )*};
}

builder!(
    RemoteStore,
    RemoteSource,
    RemoteProcessServer,
    RemoteTarget,
    RemoteMasterTarget,
    RemoteLandingSite,
    RemoteWitness
);

impl RemoteStore {
    pub(crate) fn over(name: RoleName, link: Arc<Link>) -> Self {
        Self { name, owner: Arc::new(Owner(link)) }
    }
}

#[async_trait]
impl Stub for RemoteStore {
    const KIND: &'static str = "replica";

    async fn connected(far: Far) -> Result<Self> {
        Ok(Self::over(far.role.clone(), Link::connected(Arc::new(far)).await?))
    }

    fn lazy(far: Far, capability: Capability) -> Self {
        Self::over(far.role.clone(), Link::lazy(Arc::new(far), capability))
    }
}

impl<R: Stub> RemoteBuilder<R> {
    fn new(address: String, role: RoleName, tls: ClientTls) -> Self {
        Self {
            address,
            role,
            tls,
            stall: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            longest_answer: 256 << 20,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            spawner: None,
            remote: PhantomData,
        }
    }

    /// How long nothing may move before a connection is given up; 30 seconds unless said otherwise.
    #[must_use]
    pub fn stall(mut self, span: Duration) -> Self {
        self.stall = span;
        self
    }

    /// How long calls wait for a connection before they are `Unavailable`; a minute unless said otherwise. Once that was in
    /// vain, each call is a single try until somebody is there again. A call that has left waits for its answer as long as the
    /// far side shows signs of life.
    #[must_use]
    pub fn patience(mut self, span: Duration) -> Self {
        self.patience = span;
        self
    }

    /// The longest answer to one call, 1 MiB to 1 GiB; 256 MiB unless said otherwise, which is a million points. Reads of
    /// disks do not count: they go into the caller's pool.
    #[must_use]
    pub fn longest_answer(mut self, bytes: usize) -> Self {
        self.longest_answer = bytes;
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another randomness than the system's: it names this client.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Starts tasks elsewhere than on the caller's runtime.
    #[must_use]
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Connects now, once, and learns what the role can do.
    ///
    /// # Errors
    /// `Invalid`, naming the setting. `Unavailable` where nobody answers; `Denied` where a certificate is not taken, on
    /// either side; `NotFound` for the role; `Unsupported` where there is no common version of the protocol.
    pub async fn connect(self) -> Result<R> {
        R::connected(self.far()?).await
    }

    /// Connects with the first call. The role has to have this capability, or every call is `Conflict`.
    ///
    /// # Errors
    /// `Invalid`, naming the setting.
    pub fn lazy(self, capability: Capability) -> Result<R> {
        Ok(R::lazy(self.far()?, capability))
    }

    fn far(self) -> Result<Far> {
        if !(1 << 20..=1 << 30).contains(&self.longest_answer) {
            let rule = "it is 1 MiB to 1 GiB";
            return Err(Error::invalid("longest_answer", self.longest_answer, rule, "choose another number"));
        }
        let spans = [("stall", self.stall), ("patience", self.patience)];
        if let Some((field, _)) = spans.into_iter().find(|(_, span)| span.is_zero()) {
            return Err(Error::invalid(field, "zero", "it takes some time", "give it some"));
        }
        let spawner = match self.spawner {
            Some(spawner) => spawner,
            None => Arc::new(TokioSpawner::current()?),
        };
        Ok(Far {
            address: self.address,
            role: self.role,
            kind: R::KIND,
            tls: self.tls,
            client: format!("{:016x}{:016x}", self.random.bits(), self.random.bits()),
            stall: self.stall,
            patience: self.patience,
            longest: self.longest_answer as u32,
            clock: self.clock,
            spawner,
            out_of_reach: AtomicBool::new(false),
        })
    }
}
