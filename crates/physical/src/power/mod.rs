//! Who can switch a server off, and read back that it is off.
//!
//! - [`Redfish`]: the management controller of the server, by DMTF's Redfish.
//! - [`Commands`]: the user's own programs, for everything else: a switched outlet, another controller, storage that is made
//!   read-only.
//!
//! A controller may lie, hang, or be reset together with its server. So nobody who asks rests on one answer: the
//! [site](crate::site) reads twice, and asks the server itself.

mod commands;
pub mod redfish;

pub use commands::{Command, Commands};
pub use redfish::Redfish;
pub use site_recovery_https::SecretRef;

use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, Result, Stamp};
use std::fmt::Debug;
use std::time::Duration;

/// What a controller says of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// It has power.
    On,
    /// It has none.
    Off,
    /// Between the two, or the controller does not say. Silence is never off.
    Unknown,
}

/// What keeps a server off that this control has switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keeps {
    /// It can be held: no ordinary start runs its system, and whoever undoes that changes what [`PowerControl::held`] reads.
    pub holds: bool,
    /// A start from outside changes [`PowerControl::stamp`] for ever.
    pub tells: bool,
}

/// Switches one server.
///
/// # Errors
/// Of all methods: `Unavailable` when nobody answers, which says nothing about the effect; `Denied`; `Refused` when the
/// controller answers that it will not; `Corrupt` when its answer makes no sense.
///
/// # Cancel safety
/// Dropping a future leaves an act done, or not done, and nothing half.
#[async_trait]
pub trait PowerControl: Debug + Send + Sync {
    /// Read now, never remembered.
    async fn state(&self) -> Result<PowerState>;

    /// Asks the system to shut down, and waits until the server reads as off, for at most `grace`. Says whether it does.
    async fn off(&self, grace: Duration) -> Result<bool>;

    /// Takes its power away. It reads as off some time after that.
    async fn force_off(&self) -> Result<()>;

    /// Gives it power. On already is no error.
    async fn on(&self) -> Result<()>;

    /// What keeps it off. Never changes while the control lives.
    fn keeps(&self) -> Keeps {
        Keeps::default()
    }

    /// A value that every start changes for ever, where [`Keeps::tells`].
    async fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(None)
    }

    /// Holds the server, or lets it go. Read back by [`held`](Self::held).
    async fn hold(&self, _hold: bool) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "this power control cannot hold a server"))
    }

    /// Whether it is held now; `None` where nobody says.
    async fn held(&self) -> Result<Option<bool>> {
        Ok(None)
    }
}
