//! What a site of VMware's is tried by, whichever server answers for it. Each adapter's tests take all of it, and tell by `MODE`, `open`
//! and `looked_at` at their root which one it is.

mod care;
mod engines;
mod faults;
pub(crate) mod kept;
mod landings;
mod lost;
mod making;
#[path = "../../../../tests/vsphere-oracle/oracle.rs"]
mod oracle;
mod pitfalls;
#[path = "../../../vim/tests/simulator/process.rs"]
pub(crate) mod process;
mod readiness;
mod reading;
mod secrets;
mod seen;
mod spellings;
mod strangers;
mod suites;
pub(crate) mod world;
