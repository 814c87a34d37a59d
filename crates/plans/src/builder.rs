//! Builds the engine of plans.

use crate::actions::Actions;
use crate::plans::Plans;
use crate::shared::Shared;
use crate::system::SystemActions;
use site_recovery::{
    Clock, EngineId, Journal, Random, Result, Spawner, SystemClock, SystemRandom, TokioSpawner, Vault,
};
use std::sync::Arc;

/// Builds [`Plans`] over a vault and a journal; everything else has a default.
#[derive(Debug)]
pub struct PlansBuilder {
    vault: Vault,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    spawner: Option<Arc<dyn Spawner>>,
    actions: Arc<dyn Actions>,
    at_once: usize,
}

impl PlansBuilder {
    pub(crate) fn new(vault: &Vault, journal: Arc<dyn Journal>) -> Self {
        Self {
            vault: vault.clone(),
            journal,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            spawner: None,
            actions: Arc::new(SystemActions),
            at_once: 8,
        }
    }

    /// Time; the machine's by default. The vault's is meant.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Randomness; the operating system's by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Tasks; the caller's tokio runtime by default.
    #[must_use]
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Programs and ports; those of this host by default.
    #[must_use]
    pub fn actions(mut self, actions: Arc<dyn Actions>) -> Self {
        self.actions = actions;
        self
    }

    /// Members that are committed, reprotected or cleaned up at the same time; 8 by default. A failover and a drill take all
    /// of a group at once.
    #[must_use]
    pub fn at_once(mut self, members: usize) -> Self {
        self.at_once = members.max(1);
        self
    }

    /// Reads the journal. Nothing is changed and nothing goes on: see [`Plans::resume`].
    ///
    /// # Errors
    /// `Invalid` outside a tokio runtime where no spawner is given; `Corrupt` or `Unsupported` from a journal that cannot be
    /// read.
    pub async fn open(self) -> Result<Plans> {
        let spawner = match self.spawner {
            Some(spawner) => spawner,
            None => Arc::new(TokioSpawner::current()?),
        };
        let shared = Arc::new(Shared {
            id: EngineId(format!("{}-plans", self.vault.engine_id())),
            vault: self.vault,
            journal: self.journal,
            clock: self.clock,
            random: self.random,
            spawner,
            actions: self.actions,
            at_once: self.at_once,
            slots: std::sync::RwLock::default(),
            beginning: Arc::default(),
        });
        shared.load().await?;
        Ok(Plans::of(shared))
    }
}
