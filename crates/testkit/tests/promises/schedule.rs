//! Who drives replication: whose turn it is.

use site_recovery::{Clock, ItemHandle, Policy, ProtectRequest, Result};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::World;
use std::sync::Arc;
use std::time::Duration;

const DISK: u64 = 64 << 10;

/// Where less fits into an interval than is due in it, all are late by as much, and none is left out.
#[tokio::test]
async fn cycles_go_round_where_more_are_due_than_there_is_room_for() -> Result<()> {
    let pair = World::new(11).pair();
    let clock = pair.world.clock();
    let vault =
        MemoryEngine::builder(&pair, Arc::new(MemoryJournal::new())).cycles_at_once(1).build().await?;
    let mut all: Vec<ItemHandle> = vec![];
    for name in ["a", "b", "c", "d", "e"] {
        pair.here.add_machine(name, &[("boot", DISK)]);
        let policy = Policy::every(Duration::from_secs(300));
        let item = vault.protect(ProtectRequest::machine(name).policy(policy)).await?;
        item.until_done().await?;
        all.push(item);
    }
    clock.advance(Duration::from_secs(300));
    // Three fit into the 300 s, and five are due.
    for round in 1..=3 {
        let mut served: Vec<String> = vec![];
        for _ in 0..all.len() {
            clock.advance(Duration::from_secs(100));
            let before = newest(&all).await?;
            // The cycle before gives its room back when it has looked through the points.
            let mut began = 0;
            for _ in 0..1_000 {
                began = vault.tick(clock.now(), false);
                if began > 0 {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(began, 1, "one at once");
            let mut now = before.clone();
            for _ in 0..1_000 {
                now = newest(&all).await?;
                if now != before {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let moved = (0..all.len()).filter(|i| now[*i] != before[*i]).map(|i| all[i].id().to_string());
            served.extend(moved);
        }
        served.sort();
        served.dedup();
        assert_eq!(served.len(), all.len(), "round {round}: only {served:?} had a turn");
    }
    Ok(())
}

async fn newest(all: &[ItemHandle]) -> Result<Vec<Option<u64>>> {
    let mut newest = vec![];
    for item in all {
        newest.push(item.points().await?.last().map(|point| point.id.0));
    }
    Ok(newest)
}
