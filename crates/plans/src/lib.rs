//! Recovery plans: many machines over and back as one act, in groups, with programs and people between them.
//!
//! A [`Plan`] is plain data: boot groups of machines and replication groups, what is done between them, and what networks and
//! addresses become at the other side. [`Plans`] drives it over a [`Vault`](site_recovery::Vault): drill, planned and unplanned
//! failover, commit and reprotect, in both directions with the same plan. A [`PlanRun`] is what was done: it stands in the
//! journal, goes on after a crash, and is what a report is made of.
//!
//! ```
//! use site_recovery::state::Direction::PrimaryToRecovery;
//! use site_recovery::{CommitRequest, FailoverRequest};
//! use site_recovery_plans::{Outcome, Plan, Plans};
//! # use site_recovery_testkit::engine::{DISK, MemoryEngine};
//! # use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shop: Plan = toml::from_str(
//!     r#"
//!     networks = [{ from = "production", to = "recovered" }]
//!
//!     [[groups]]
//!     members = [{ unit = "db" }]
//!     [[groups.after]]
//!     name = "migrate"
//!     does.command.program = ["true"]
//!
//!     [[groups]]
//!     members = [{ unit = "app" }, { unit = "web", after = ["app"] }]
//!     [[groups.before]]
//!     name = "firewall"
//!     on = ["Planned", "Unplanned"]
//!     does.manual.instructions = "open port 443 at the recovery site"
//!     "#,
//! )?;
//! # let engine = MemoryEngine::new(7).await?;
//! # for name in ["db", "app", "web"] {
//! #     engine.pair.here.add_machine(name, &[("boot", DISK)]);
//! #     engine.protect(name).await?;
//! # }
//! # let (vault, journal, clock) =
//! #     (&engine.vault, Arc::new(engine.journal.clone()), Arc::new(engine.pair.world.clock()));
//! let plans = Plans::builder(vault, journal).clock(clock).open().await?;
//! let jobs = vault.resume().await; // after a crash: first the machines' jobs; by unit each that goes on, and why one does not
//! let runs = plans.resume().await; // then the plans, likewise
//! assert!(jobs.values().all(Result::is_ok) && runs.values().all(Result::is_ok));
//!
//! let ana = plans.clone().acting_as("ana").because("exercise 7");
//! ana.failover("shop", &shop, FailoverRequest::planned(PrimaryToRecovery)).await?;
//! let run = ana.wait("shop").await?; // until it has ended, or needs a person
//! assert_eq!(run.waiting().map(|action| action.name.as_str()), Some("firewall"));
//! ana.complete("shop", "firewall", "opened, ticket 4711").await?;
//! assert_eq!(ana.wait("shop").await?.outcome, Some(Outcome::Done));
//!
//! ana.commit("shop", &shop, CommitRequest::default()).await?;
//! assert_eq!(ana.wait("shop").await?.outcome, Some(Outcome::Done));
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//! Of a failover: the checks of all members; `shutdown.before`, `failover.before`; the shutdown (a planned run: of the last boot
//! group first, each group's sources proven off before the next one's are touched; an unplanned run: all at once);
//! `shutdown.after`; all members stand prepared and none has booted; `failover.after`; then each boot group: `before`, its
//! members, `after`. `failover.before` comes before the shutdown, since a member prepares as soon as its source is off. A drill has no
//! shutdown, and nothing of what stands around it.
//!
//! # What fails
//! A planned run stops at the first failure, once the members that are under way have settled: what is prepared stays so, its
//! source off. It [goes on](Plans::go_on) or is [cancelled](Plans::cancel). An unplanned run and a drill go on, and
//! [say](Outcome::Partly) what failed; a member that waits for one that failed boots all the same. A person is waited for in every kind of run.
//!
//! # Crashes
//! What is about to be done is journalled first, and the vault's jobs carry the [run's name](PlanRun::operator): the next engine finds
//! what was begun, boots nothing twice, and runs no program twice unless its plan says `again`. A program that had begun is for a
//! person to judge then. Every change is written under the plan's count in the journal, so that an engine which was replaced is
//! told `StaleEpoch`.
#![forbid(unsafe_code)]

mod act;
mod actions;
mod address;
mod builder;
mod change;
mod check;
mod driver;
#[cfg(test)]
mod golden;
mod maps;
mod member;
mod plan;
mod plans;
mod port;
mod record;
mod resolve;
mod run;
mod shared;
mod slot;
mod system;

pub use actions::{Actions, Command, KEPT_OUTPUT, Output};
pub use address::{AddressMap, NetworkMap, Subnet};
pub use builder::PlansBuilder;
pub use change::{Change, replay};
pub use check::{MOST_GROUPS, MOST_MACHINES, check_name};
pub use plan::{Action, Around, BootGroup, Does, Kind, Member, Part, Plan};
pub use plans::Plans;
pub use record::{PlanAudit, SCHEMA};
pub use run::{
    ActionRun, ActionState, Course, MachineRun, Mapped, MemberRun, MemberState, Outcome, PlanRun, RunState,
    Stage, StageRun,
};
pub use system::SystemActions;
