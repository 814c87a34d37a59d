//! After each drill, failover and failback: a report that an auditor can read, keep and check.
//!
//! It is plain data, made of what the engine has journalled, and two texts of it: a page that stands alone
//! ([`Report::to_html`]: no script, nothing from elsewhere) and JSON ([`Report::to_json`]) that holds the audit records from
//! which [`verify`] finds again what the tables say. Nothing here reads or writes anything.
//!
//! ```
//! # use site_recovery_testkit::engine::MemoryEngine;
//! # async fn example() -> site_recovery::Result<()> {
//! use site_recovery::{Clock, FailoverRequest, state::Direction::PrimaryToRecovery};
//! use site_recovery_report::{Job, Report, verify};
//!
//! # let (engine, web) = MemoryEngine::protecting("web").await?;
//! # let (vault, clock) = (&engine.vault, engine.pair.world.clock());
//! web.failover(FailoverRequest::planned(PrimaryToRecovery)).await?.done().await?;
//!
//! let (run, items) = (web.finished().pop().expect("it has ended"), [web.item()?]);
//! let trail = vault.audit(web.unit()).await;
//! let job = Job { unit: web.unit(), run: &run, items: &items, trail: trail.as_deref() };
//! let report = Report::of_job("cloud", clock.now(), job)
//!     .why("the hall is without power from nine to twelve")
//!     .health(&web.summary()?)
//!     .build()?;
//!
//! assert!(report.to_html().starts_with("<!DOCTYPE html>"));
//! verify(&Report::from_json(&report.to_json())?)?;
//! # Ok(())
//! # }
//! # tokio_test(example());
//! # fn tokio_test(f: impl Future<Output = site_recovery::Result<()>>) {
//! #     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
//! #     runtime.block_on(f).expect("the example runs")
//! # }
//! ```
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../../../docs/report.md")]
mod documented {}

mod build;
mod chain;
mod figures;
mod json;
mod member;
mod model;
mod moment;
mod page;
mod plan;
mod top;
mod verify;
mod words;

pub use build::{Job, ReportBuilder};
pub use chain::ChainPart;
pub use figures::{Figures, Outage, OutageBasis};
pub use member::{Ending, LossPart, MemberPart, PointPart, ProofPart, StandsPart, StepPart};
pub use model::{FindingPart, FindingSource, Report, VERSION};
pub use plan::{ActionEnding, ActionPart, GroupPart, Left, LeftOut, PlanPart};
pub use verify::{Verified, verify, verify_against};
