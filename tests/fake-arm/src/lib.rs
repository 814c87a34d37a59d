//! A fake of Azure Resource Manager, on loopback, whose disks have bytes. See the README for what is faked and what is not.

mod access;
mod account;
mod answer;
mod asked;
mod availability;
mod clock;
mod config;
mod creation;
mod disk;
mod fault;
mod fitting;
mod machine;
mod network;
mod nic;
mod operation;
mod outside;
mod place;
mod power;
mod random;
mod recording;
mod serve;
mod size;
mod snapshot;
mod thing;
mod tls;
mod world;

pub use config::{Account, Config, Credential, Network, Size};
pub use fault::{Fault, Hits, What};
pub use outside::{Machine, Refused, Resource};
pub use thing::Power;

use serde_json::Value;
use serve::{Shared, hold};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A fake that runs until it is dropped.
pub struct Fake {
    shared: Arc<Shared>,
    address: SocketAddr,
    authority: String,
    /// Dropped with the fake, which ends them.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Fake {
    /// On a free port of loopback, within the runtime of the caller. Disks are handed out by `blobs`, and imported from it and from
    /// the accounts of the configuration.
    ///
    /// # Errors
    /// Where no port can be had, or an account's authority is none.
    pub async fn start(config: Config, blobs: Arc<fake_blob::Fake>) -> io::Result<Self> {
        let (acceptor, authority) = tls::acceptor().map_err(io::Error::other)?;
        let reader = account::Reader::new(&config.accounts).map_err(io::Error::other)?;
        let recording = recording::Recording { file: config.record.clone(), lines: vec![] };
        let latency = config.latency;
        let shared = Arc::new(Shared {
            world: Mutex::new(world::World::new(config, blobs.clone())),
            faults: Mutex::default(),
            silent: AtomicBool::new(false),
            recording: Mutex::new(recording),
            started: Instant::now(),
            latency,
            reader,
            blobs,
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve::serve(listener, acceptor, shared.clone()));
        Ok(Self { shared, address, authority, _tasks: tasks })
    }

    /// `https://127.0.0.1:1000`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority that signed its certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Lets this much time pass. Without it, each look at the clock is a millisecond.
    pub fn advance(&self, span: Duration) {
        let mut world = hold(&self.shared.world);
        world.clock.advance(span);
        access::expire(&mut world);
    }

    /// Brings every operation to its end.
    pub fn settle(&self) {
        hold(&self.shared.world).finish_all();
    }

    /// Asks for a fault. Counting begins now.
    pub fn fault(&self, fault: Fault) -> Hits {
        hold(&self.shared.faults).add(fault)
    }

    /// Takes back all faults.
    pub fn mend(&self) {
        *hold(&self.shared.faults) = fault::Faults::default();
    }

    /// Every request with its answer, as `{request: {method, url, headers, body}, response: {status, headers, body}, began, ended}`;
    /// the answer is null where a fault kept it back. Times are microseconds since the fake started. Tokens and signatures are left
    /// out.
    pub fn recording(&self) -> Vec<Value> {
        hold(&self.shared.recording).lines.clone()
    }
}
