use super::load::load;
use super::ports::{AllowAll, Authorizer, Deadlines, GuestPreparation, Validation};
use super::shared::Shared;
use super::vault::Vault;
use crate::{
    Clock, EngineId, Error, Journal, Leg, Random, Result, RoleName, Source, Spawner, SystemClock,
    SystemRandom, TokioSpawner,
};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use tokio::sync::Semaphore;

/// Builds a [`Vault`] from legs and a journal; everything else has a default.
#[derive(Debug, Default)]
pub struct VaultBuilder {
    legs: BTreeMap<String, Leg>,
    sources: BTreeMap<RoleName, Arc<dyn Source>>,
    journal: Option<Arc<dyn Journal>>,
    clock: Option<Arc<dyn Clock>>,
    random: Option<Arc<dyn Random>>,
    spawner: Option<Arc<dyn Spawner>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    validation: Option<Arc<dyn Validation>>,
    preparation: Option<Arc<dyn GuestPreparation>>,
    deadlines: Deadlines,
    cycles: Option<usize>,
    proofs: Option<usize>,
    id: Option<EngineId>,
}

/// The name of the default leg out.
pub(crate) const OUT: &str = "out";
/// The name of the default leg back.
pub(crate) const BACK: &str = "back";

impl VaultBuilder {
    /// The default leg out.
    #[must_use]
    pub fn out(self, leg: Leg) -> Self {
        self.leg(OUT, leg)
    }

    /// The default leg back.
    #[must_use]
    pub fn back(self, leg: Leg) -> Self {
        self.leg(BACK, leg)
    }

    /// A leg by name, for items that go another way.
    #[must_use]
    pub fn leg(mut self, name: &str, leg: Leg) -> Self {
        self.legs.insert(name.to_owned(), leg);
        self
    }

    /// Another source that can fence at its site; those of the legs are known already.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.insert(source.name(), source);
        self
    }

    /// Where the engine writes what it intends and what has happened.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Time; the machine's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Randomness; the operating system's by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = Some(random);
        self
    }

    /// Tasks; the caller's tokio runtime by default.
    #[must_use]
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Who may do what; everybody everything by default.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// Looks at recovered machines; boot proofs need it.
    #[must_use]
    pub fn validation(mut self, validation: Arc<dyn Validation>) -> Self {
        self.validation = Some(validation);
        self
    }

    /// Prepares guests before their first boot on the other side.
    #[must_use]
    pub fn guest_preparation(mut self, preparation: Arc<dyn GuestPreparation>) -> Self {
        self.preparation = Some(preparation);
        self
    }

    /// How long to wait for answers.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Cycles at the same time, over all units; 8 by default.
    #[must_use]
    pub fn cycles_at_once(mut self, cycles: usize) -> Self {
        self.cycles = Some(cycles);
        self
    }

    /// Boot proofs by the schedule at the same time, over all units; 1 by default, since each runs a machine more.
    #[must_use]
    pub fn proofs_at_once(mut self, proofs: usize) -> Self {
        self.proofs = Some(proofs);
        self
    }

    /// This engine's name, for people. It must be new at every start: two engines never share one.
    #[must_use]
    pub fn engine_id(mut self, id: EngineId) -> Self {
        self.id = Some(id);
        self
    }

    /// Reads the journal and builds the vault. Nothing is changed and nothing resumed: see [`Vault::resume`].
    ///
    /// # Errors
    /// `Invalid` without a leg or a journal, for settings of a leg that break a rule or that only one machine can have, which names
    /// the `leg`, or where a leg's recovery site has no source of its name to fence there;
    /// `Corrupt` or `Unsupported` from a journal that cannot be read.
    pub async fn build(self) -> Result<Vault> {
        let journal = self.journal.ok_or_else(|| {
            Error::invalid("journal", "absent", "the engine writes before it acts", "give a journal")
        })?;
        if self.legs.is_empty() {
            return Err(Error::invalid("legs", "none", "a vault has a leg", "give `out`, and `back`"));
        }
        let mut sources = self.sources;
        for (name, leg) in &self.legs {
            leg.settings.validate().map_err(|e| e.with("leg", name))?;
            if let Some(field) = leg.settings.of_one_machine() {
                let (rule, remedy) = ("a leg is many machines' way", "ask for it at the machine");
                return Err(Error::invalid("leg.settings", field, rule, remedy).with("leg", name));
            }
            sources.insert(leg.source.name(), Arc::clone(&leg.source));
        }
        let random = self.random.unwrap_or_else(|| Arc::new(SystemRandom));
        let id = self.id.unwrap_or_else(|| EngineId(format!("engine-{:016x}", random.bits())));
        let spawner = match self.spawner {
            Some(spawner) => spawner,
            None => Arc::new(TokioSpawner::current()?),
        };
        let shared = Arc::new(Shared {
            id,
            legs: self.legs,
            sources,
            journal,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            random,
            spawner,
            authorizer: self.authorizer.unwrap_or_else(|| Arc::new(AllowAll)),
            validation: self.validation,
            preparation: self.preparation,
            deadlines: self.deadlines,
            cycles: Arc::new(Semaphore::new(self.cycles.unwrap_or(8).max(1))),
            proofs: Arc::new(Semaphore::new(self.proofs.unwrap_or(1).max(1))),
            bus: super::events::Bus::default(),
            slots: RwLock::default(),
            homes: RwLock::default(),
        });
        load(&shared).await?;
        Ok(Vault::of(shared))
    }
}
