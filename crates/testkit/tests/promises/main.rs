//! Promises of the engine that no other test carries, one test each, by the world's state.

mod alarm;
mod boot_proofs;
mod choices;
mod data;
mod giving_way;
mod held;
mod history;
mod leg_settings;
mod operations;
mod other_legs;
mod pruning;
mod requests;
mod safety;
mod schedule;
mod start;
mod way_back;

use site_recovery::state::Direction;
use site_recovery::{FailoverRequest, Force, ItemHandle, Result};
use site_recovery_testkit::engine::MemoryEngine;

pub(crate) const OUT: Direction = Direction::PrimaryToRecovery;

pub(crate) const BACK: Direction = Direction::RecoveryToPrimary;

pub(crate) fn fire() -> Force {
    Force::by("ana", "the site is on fire")
}

pub(crate) fn name(item: &ItemHandle) -> String {
    item.item().expect("protected").active().name.clone()
}

/// Lets the others go on until it is so; not for ever.
pub(crate) async fn until(so: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to that");
}

/// What would hang if it were broken fails instead.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), what).await.expect("it never came to an end")
}

pub(crate) async fn failed_over(engine: &MemoryEngine, web: &ItemHandle) -> Result<String> {
    let _ = engine;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    Ok(name(web))
}
