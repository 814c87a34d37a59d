//! Physical servers: an agent on each, their power beside them, and the way back to bare disks.
//!
//! - [`inventory`]: what a Linux server is made of.
//! - [`preparation`]: what its system needs before it can start elsewhere, and making it so.
//! - [`tracking`]: which blocks of a disk changed since an instant, by one of three means.
//! - [`freeze`], [`snapshot`]: one instant over all disks, for a strictly bounded time.
//! - [`agent`]: these as a `Source` for the one server that it runs on.
//! - [`power`]: who can switch a server off and read it back.
//! - [`site`]: the servers of one site as a `Source`: agents for bytes, power control for fences.
//! - [`guard`]: what a server asks before it takes part in the network again.
//! - [`bare`]: bare disks as a `LandingSite`.
//! - [`Agents`]: the agents of a site, as a process server reads them.
//!
//! The program `site-recovery-agent` (feature `agent`) serves [`agent`], or, in a rescue system, [`bare`]. It is for Linux; there
//! is none for Windows. `docs/physical.md` is the page for operators.
#![forbid(unsafe_code)]

pub mod agent;
mod agents;
pub mod bare;
pub mod freeze;
pub mod guard;
pub mod inventory;
pub mod power;
pub mod preparation;
mod signature;
pub mod site;
pub mod snapshot;
pub mod tracking;

pub use agents::{Agents, Reach};
