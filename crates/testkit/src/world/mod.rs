//! An in-memory simulator of two sites, their stores and everything between, with the truth about it.
//!
//! Nothing here touches a disk or a network. Machines are byte arrays; a [`Site`] shows them to the roles, and shows
//! and changes the truth around the roles. Every role keeps its contract, so that what a test finds is the caller's
//! fault; faults and crashes come from [`faults`](crate::faults) and [`crash`](crate::crash).

mod disk;
mod master_target;
mod pair;
mod process_server;
mod register;
mod replica;
mod site;
mod timeline;
mod vm;

pub use master_target::MemoryMasterTarget;
pub use pair::Pair;
pub use process_server::MemoryProcessServer;
pub use replica::MemoryReplica;
pub use site::Site;
pub use vm::FenceMark;

use crate::clock::{ManualClock, SeededRandom};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a machine's disks, by their labels.
pub type Image = BTreeMap<String, Vec<u8>>;

/// Changes are tracked, and records are cut, in blocks of this many bytes.
pub const BLOCK: u64 = 4096;

/// The network that reaches the users.
pub const PRODUCTION: &str = "production";

/// A network for drills, which [`Target::propose`](site_recovery::Target::propose) names.
pub const ISOLATED: &str = "isolated";

/// A world: sites, one clock, one seed. Clones share it.
#[derive(Debug, Clone)]
pub struct World {
    clock: ManualClock,
    random: SeededRandom,
    labels: Arc<Mutex<BTreeMap<site_recovery::DiskId, String>>>,
    sites: Arc<Mutex<BTreeMap<String, Site>>>,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let (clock, random) = (ManualClock::new(), SeededRandom::new(seed));
        Self { clock, random, labels: Arc::default(), sites: Arc::default() }
    }

    /// The clock of everything in it.
    pub fn clock(&self) -> ManualClock {
        self.clock.clone()
    }

    /// The randomness of everything in it.
    pub fn random(&self) -> SeededRandom {
        self.random.clone()
    }

    /// The site of this name; the first call makes it.
    pub fn site(&self, name: &str) -> Site {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Site::new(name, self.clock(), self.random(), Arc::clone(&self.labels));
        sites.entry(name.to_owned()).or_insert_with(new).clone()
    }
}
