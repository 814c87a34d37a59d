//! Conformance suites: one test per numbered rule of a role's contract, run against your adapter.
//!
//! # For adapter authors
//! Write one fixture per role: how to make a new world, how to get the role, and how to look at the platform *around*
//! the adapter, so that a rule is checked against what is true and not against what the adapter says. Then name it in
//! one macro line; each rule becomes a `#[test]` of its own, named after the rule.
//!
//! ```
//! use site_recovery::{Append, Journal, Result};
//! use site_recovery_testkit::suite::JournalFixture;
//! use std::sync::Arc;
//! # #[derive(Debug)]
//! # struct MyJournal;
//! # impl MyJournal { fn open(_: &std::path::Path) -> Result<Self> { Ok(Self) } }
//! # #[async_trait::async_trait]
//! # impl Journal for MyJournal {
//! #     async fn subjects(&self) -> Result<Vec<String>> { Ok(vec![]) }
//! #     async fn load(&self, _: &str) -> Result<(u64, Vec<Vec<u8>>)> { Ok((0, vec![])) }
//! #     async fn append(&self, _: &[Append]) -> Result<()> { Ok(()) }
//! #     async fn fold(&self, _: &str, _: u64, _: Vec<u8>) -> Result<()> { Ok(()) }
//! # }
//!
//! struct Fresh {
//!     path: std::path::PathBuf, // of a temporary directory that goes with the fixture
//! }
//!
//! #[async_trait::async_trait]
//! impl JournalFixture for Fresh {
//!     async fn new() -> Self {
//!         Self { path: "/nowhere".into() }
//!     }
//!     async fn open(&self) -> Result<Arc<dyn Journal>> {
//!         Ok(Arc::new(MyJournal::open(&self.path)?))
//!     }
//! }
//!
//! mod journal {
//!     use super::*;
//!     site_recovery_testkit::journal_suite!(Fresh);
//! }
//! # fn main() {}
//! ```
//!
//! | role | fixture | macro |
//! |---|---|---|
//! | `Source` | [`SourceFixture`] | [`source_suite!`](crate::source_suite) |
//! | `ProcessServer` | [`ProcessServerFixture`] | [`process_server_suite!`](crate::process_server_suite) |
//! | any `Replica` | [`ReplicaFixture`] | [`replica_suite!`](crate::replica_suite) |
//! | `RecoveryPointStore` | [`StoreFixture`], besides the above | [`store_suite!`](crate::store_suite) |
//! | any `RecoverySite` | [`RecoverySiteFixture`] | [`recovery_site_suite!`](crate::recovery_site_suite) |
//! | `Target` | [`TargetFixture`], besides the above | [`target_suite!`](crate::target_suite) |
//! | `MasterTarget` | [`MasterTargetFixture`], besides `Replica` and `RecoverySite` | [`master_target_suite!`](crate::master_target_suite) |
//! | `LandingSite` | [`LandingSiteFixture`] | [`landing_site_suite!`](crate::landing_site_suite) |
//! | `Journal` | [`JournalFixture`] | [`journal_suite!`](crate::journal_suite) |
//!
//! - **A fixture method that your world cannot serve** keeps its default. The rule that needs it is then skipped, aloud:
//!   `SKIPPED SRC-7 on my-site: the fixture cannot lose tracking`. So is a rule that the role's
//!   [`Capability`](site_recovery::Capability) excludes. Nothing is skipped in silence.
//! - **A fixture that cannot do what it was asked** (write a disk, start a machine) panics.
//! - **`reopen` is a crash** of the adapter's process: everything that it held in memory is gone, what is on the platform
//!   and on its disks stays. Give the adapter up without shutting it down.
//! - Worlds are small: disks of a few hundred KiB, everything aligned to 4096 bytes but for the end of a disk.
//! - The suites' keys are like an engine's: long, with slashes, capitals and spaces. [`OpKey::to_name`](site_recovery::OpKey::to_name) makes a name of
//!   one that every platform takes.
//! - A case runs on a current-thread tokio runtime of its own. The clock that an adapter is given should be the
//!   system's, or move by itself.
//! - The adapter's rules about time (`grace`, expiries) are asked for with zero, two seconds, or far in the future.

mod case;
mod content;
mod disk;
mod double;
pub mod journal;
pub mod landing_site;
pub mod master_target;
pub mod process_server;
pub mod recovery_site;
pub mod replica;
pub mod source;
pub mod store;
pub mod target;
mod timeline;

pub use case::{op, permit, recovery};
pub use content::{checksum, pattern};
pub use journal::JournalFixture;
pub use landing_site::LandingSiteFixture;
pub use master_target::MasterTargetFixture;
pub use process_server::ProcessServerFixture;
pub use recovery_site::RecoverySiteFixture;
pub use replica::ReplicaFixture;
pub use source::SourceFixture;
pub use store::StoreFixture;
pub use target::TargetFixture;
pub use timeline::machine;

/// Runs one case to its end, on a runtime of its own.
///
/// # Panics
/// When the case fails, with the rule that was broken.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(case);
}

/// Makes a `#[test]` of every case of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! each_case {
    ($fixture:ty, $suite:ident, $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                $crate::suite::run($crate::suite::$suite::$case::<$fixture>());
            }
        )+
    };
}
