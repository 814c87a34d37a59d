//! The five roles, and the traits under them.
//!
//! | role | does |
//! |---|---|
//! | [`Source`] | discovers and captures machines, says what changed, fences |
//! | [`ProcessServer`] | moves the bytes of a capture to a replica and seals the point |
//! | [`RecoveryPointStore`]: [`Replica`] | keeps recovery points |
//! | [`Target`]: [`RecoverySite`] | runs recovered machines |
//! | [`MasterTarget`]: [`Replica`] + [`RecoverySite`] | receives the way back and hands the machine over |
//!
//! [`Role`] stands under all of them. [`LandingSite`] is what a hypervisor implements so that the one master target
//! works on it. Roles are used as `Arc<dyn …>` and handed to each other as `&Arc<dyn …>`.
//!
//! # Rules of every method
//! - ROL-1 Every changing method takes an [`Op`]. Same key, same effect, at most once; a repeat gives the same answer,
//!   also after a crash of the caller or of the adapter. A key belongs to one method and its arguments: with others it
//!   is another call. `claim`, `fence`, `sweep`, `tend`, `settle` bring about a state: a repeat looks again and acts
//!   where the state does not hold; so may `prune`, which then answers what was left to drop.
//! - ROL-2 Every changing method first passes the machine's [epoch](crate::Epoch) register and raises it; a lower
//!   epoch, or the same number of another owner, is [`StaleEpoch`](crate::ErrorKind::StaleEpoch) and changes nothing.
//!   The register survives restarts, and is never where the platform's own undo can rewind it. Where check and effect
//!   are not one atomic act, the adapter's docs name the window.
//! - ROL-3 Bad input is refused before anything changes, naming field, value, rule and remedy.
//! - ROL-4 Dropping a future means no longer waiting, never undone: the same call with the same key settles it. A call
//!   that waits for its turn when it is dropped begins nothing: it must not strike after a later one. A call that was
//!   begun may be left unpolled while another one is made, so no lock that the other one needs is held across an await.
//! - ROL-5 An error may come after the effect. [`Unavailable`](crate::ErrorKind::Unavailable) says nothing about it.
//! - ROL-6 An adapter's own note of a remote operation is a hint; the platform's name or mark is the proof.
//! - ROL-7 Nothing is deleted that our keys did not make.

mod journal;
mod landing_site;
mod master_target;
mod process_server;
mod recovery_site;
mod replica;
mod source;

pub use journal::{Append, Journal, LastEntry};
pub use landing_site::{LandingSite, Survey};
pub use master_target::{LOSING_SIDE, MasterTarget, POINT_ZERO};
pub use process_server::{Basis, DiskLag, Lag, ProcessServer, Shipment, Shipped};
pub use recovery_site::{RecoverySite, Target};
pub use replica::{RecoveryPointStore, Replica};
pub use source::{Source, Sources};

use crate::{Capability, Item, MachineId, Op, Result, RoleName, Settings};
use async_trait::async_trait;
use std::fmt::Debug;
use std::sync::Arc;

/// What every role has once, however many traits it implements.
#[async_trait]
pub trait Role: Debug + Send + Sync {
    /// Its stable name. A site's `Source` and `RecoverySite` share one name and one register.
    fn name(&self) -> RoleName;

    /// What it can do. Never changes while it lives.
    fn capability(&self) -> Capability;

    /// Raises the epoch register of one machine and does nothing else.
    ///
    /// # Contract
    /// - ROL-8 When it returns, no call of an older epoch can begin an effect any more, and each one begun is over: it
    ///   waits for, or carries to its end, what an older call began.
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()>;
}

/// One direction: who captures, who moves, who keeps, who runs. Both directions are the same type, and the engine
/// never asks which it has.
#[derive(Debug, Clone)]
pub struct Leg {
    /// Where the machine runs.
    pub source: Arc<dyn Source>,
    /// Who moves the bytes.
    pub process_server: Arc<dyn ProcessServer>,
    /// Who keeps the points.
    pub replica: Arc<dyn Replica>,
    /// Who runs the recovered machine.
    pub recovery_site: Arc<dyn RecoverySite>,
    /// The replica again, where it can lock and scrub its points.
    pub store: Option<Arc<dyn RecoveryPointStore>>,
    /// What machines shall be at the recovery site in each field for which nobody asked anything.
    pub settings: Settings,
}

impl Leg {
    /// The way out: a store keeps the points, a target runs the machine.
    pub fn out(
        source: Arc<dyn Source>,
        process_server: Arc<dyn ProcessServer>,
        store: Arc<dyn RecoveryPointStore>,
        target: Arc<dyn Target>,
    ) -> Self {
        Self {
            source,
            process_server,
            replica: Arc::clone(&store) as _,
            recovery_site: target,
            store: Some(store),
            settings: Settings::default(),
        }
    }

    /// The way back: one master target keeps the points and hands the machine over.
    pub fn back(
        source: Arc<dyn Source>,
        process_server: Arc<dyn ProcessServer>,
        master_target: Arc<dyn MasterTarget>,
    ) -> Self {
        Self {
            source,
            process_server,
            replica: Arc::clone(&master_target) as _,
            recovery_site: master_target,
            store: None,
            settings: Settings::default(),
        }
    }

    /// With this as what machines shall be at the recovery site in each [field](Settings::over) for which nobody asked anything. It
    /// is not written down with the machine: another vault that adopts it has legs of its own. A name, NICs and disks are of one
    /// machine: a vault is not built with them.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What a machine shall be where this leg leads: what was asked of it, over what the leg says.
    pub(crate) fn settings_of(&self, item: &Item) -> Settings {
        self.settings_by(item, None)
    }

    /// The same, by what is asked now, where anything is.
    pub(crate) fn settings_by(&self, item: &Item, asked: Option<&Settings>) -> Settings {
        let asked = asked.or_else(|| item.settings.get(&self.recovery_site.name()));
        asked.map_or_else(|| self.settings.clone(), |asked| asked.over(&self.settings))
    }
}
