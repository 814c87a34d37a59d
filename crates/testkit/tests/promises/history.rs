//! A long history.

use site_recovery::{Policy, ProtectRequest, Result, Retention};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(300);

/// A long history is not looked through at each cycle: its points go late by a 256th of it, and no later.
#[tokio::test]
async fn d8_points_of_a_long_history_go_in_time() -> Result<()> {
    let engine = MemoryEngine::new(12).await?;
    engine.pair.here.add_machine("web", &[("boot", DISK), ("data", DISK)]);
    let wanted = 1024;
    let keep = Retention::KeepAll { span: INTERVAL * (wanted - 1) };
    let web = engine
        .vault
        .protect(ProtectRequest::machine("web").policy(Policy::every(INTERVAL).keep(keep)))
        .await?;
    web.until_done().await?;
    let mut most = 0;
    for number in 0..wanted + 64 {
        engine.pair.world.clock().advance(INTERVAL);
        engine.pair.here.write("web", "data", 0, &number.to_le_bytes());
        engine.vault.replicate_now(web.id()).await?;
        if number >= wanted {
            let there = web.points().await?.len();
            assert!(there >= wanted as usize, "nothing goes early: {there} at cycle {number}");
            most = most.max(there);
        }
    }
    let late = wanted as usize / 256 + 1;
    assert!(most <= wanted as usize + late, "{most} points were there, and {wanted} are wanted");
    Ok(())
}

/// A policy that is changed to keep less counts with the next cycle, however long the history is.
#[tokio::test]
async fn what_a_new_policy_no_longer_keeps_goes_with_the_next_cycle() -> Result<()> {
    let engine = MemoryEngine::new(13).await?;
    engine.pair.here.add_machine("web", &[("boot", DISK)]);
    let keep =
        |points: u32| Policy::every(INTERVAL).keep(Retention::KeepAll { span: INTERVAL * points - INTERVAL });
    let web = engine.vault.protect(ProtectRequest::machine("web").policy(keep(640))).await?;
    web.until_done().await?;
    let cycle = async || {
        engine.pair.world.clock().advance(INTERVAL);
        engine.vault.replicate_now(web.id()).await
    };
    for _ in 0..600 {
        cycle().await?;
    }
    for wanted in [500, 400, 300, 20] {
        web.set_policy(keep(wanted)).await?;
        cycle().await?;
        assert_eq!(web.points().await?.len(), wanted as usize);
    }
    Ok(())
}
