//! The engine: what an embedder holds is a [`Vault`], with handles to items and groups.
//!
//! - [`shared`]: what all parts share, and the *turn* by which one unit is changed
//! - [`runner`] drives a run through its [`steps`]; [`context`] is what a step works with
//! - [`replicate`]: one instant, shipped and sealed; [`schedule`] says when; [`watch`] looks after what must not run;
//!   [`verify`]: boot proofs, when they are due and what is said of them
//! - [`vault`], [`handle`], [`job`]: the public face; [`adopt`]: control state from a replica alone

mod adopt;
mod builder;
pub(crate) mod choose;
mod context;
mod describe;
mod events;
mod handle;
mod job;
mod load;
mod plan;
mod ports;
mod readiness;
mod replicate;
mod report;
pub(crate) mod retention;
mod runner;
mod schedule;
mod shared;
mod steps;
mod summary;
mod survivor;
mod turn;
mod vault;
mod verify;
mod watch;

pub use adopt::Adopted;
pub use builder::VaultBuilder;
pub use events::{Delivery, Events, KEPT_NOTICES, Notice, NoticeKind};
pub use handle::{GroupHandle, ItemHandle};
pub use job::{Job, JobState};
pub use plan::{Downtime, Plan};
pub use ports::{AllowAll, Authorizer, Deadlines, GuestPreparation, Validation, Verb};
pub use report::{MemberReport, Outcome, Report};
pub use summary::{DiskSummary, Health, HealthLevel, NewestPoint, Summary, TargetProperty};
pub use vault::{ProtectRequest, Vault};
