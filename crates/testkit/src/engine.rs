//! A whole engine in memory, in one line: for an embedder's own tests.

use crate::journal::MemoryJournal;
use crate::world::{Pair, World};
use site_recovery::{
    Deadlines, ItemHandle, Job, Journal, Policy, ProtectRequest, Result, Vault, VaultBuilder,
};
use std::sync::Arc;
use std::time::Duration;

/// A vault over an in-memory [`Pair`]: sites `here` and `cloud`, a store, a master target, a process server.
///
/// ```
/// # async fn example() -> site_recovery::Result<()> {
/// use site_recovery_testkit::engine::MemoryEngine;
///
/// let (engine, web) = MemoryEngine::protecting("web").await?;
/// engine.pair.here.write("web", "data", 0, b"written by the guest");
/// engine.vault.replicate_now(web.id()).await?;
/// assert_eq!(web.points().await?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryEngine {
    /// The world.
    pub pair: Pair,
    /// What the engine has written.
    pub journal: MemoryJournal,
    /// The engine.
    pub vault: Vault,
}

/// Bytes of each disk of a machine that [`MemoryEngine::protecting`] makes.
pub const DISK: u64 = 256 * 1024;

impl MemoryEngine {
    /// An engine over an empty world of this seed.
    ///
    /// # Errors
    /// As [`VaultBuilder::build`].
    pub async fn new(seed: u64) -> Result<Self> {
        Self::over(World::new(seed).pair(), MemoryJournal::new()).await
    }

    /// An engine over this world and this journal: also one that starts anew.
    ///
    /// # Errors
    /// As [`VaultBuilder::build`].
    pub async fn over(pair: Pair, journal: MemoryJournal) -> Result<Self> {
        let vault = Self::builder(&pair, Arc::new(journal.clone())).build().await?;
        Ok(Self { pair, journal, vault })
    }

    /// What [`over`](MemoryEngine::over) builds its vault with: legs, the world's clock and randomness, no waits between
    /// tries.
    pub fn builder(pair: &Pair, journal: Arc<dyn Journal>) -> VaultBuilder {
        let deadlines = Deadlines { retry_after: Duration::ZERO, tries: 2, ..Deadlines::default() };
        Vault::builder()
            .out(pair.forward.clone())
            .back(pair.reverse.clone())
            .journal(journal)
            .clock(Arc::new(pair.world.clock()))
            .random(Arc::new(pair.world.random()))
            .deadlines(deadlines)
    }

    /// An engine that protects one machine of this name, with disks `boot` and `data`, its first point sealed.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn protecting(machine: &str) -> Result<(Self, ItemHandle)> {
        let engine = Self::new(7).await?;
        engine.pair.here.add_machine(machine, &[("boot", DISK), ("data", DISK)]);
        let item = engine.protect(machine).await?;
        Ok((engine, item))
    }

    /// Protects a machine that exists, and waits for its first point.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn protect(&self, machine: &str) -> Result<ItemHandle> {
        let policy = Policy::every(Duration::from_secs(300));
        let item = self.vault.protect(ProtectRequest::machine(machine).policy(policy)).await?;
        item.until_done().await?;
        Ok(item)
    }

    /// The engine dies, and another one starts on its journal and goes on with what was under way.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn restarted(self) -> Result<(Self, Vec<Job>)> {
        let engine = Self::over(self.pair, self.journal.reopen()?).await?;
        let jobs = engine.vault.resume().await.into_values().collect::<Result<_>>()?;
        Ok((engine, jobs))
    }
}
