//! When proofs are made, and what goes on beside them.

use super::*;

#[tokio::test]
async fn proofs_are_made_on_schedule_and_not_beside_a_drill() -> Result<()> {
    let stage = Stage::every(HOUR).await?;
    stage.tick().await;
    assert_eq!(stage.probe.asked(), 1, "none was ever made");
    let mut made = vec![];
    for minute in 0..180 {
        let before = stage.probe.asked();
        stage.tick().await;
        made.extend((stage.probe.asked() > before).then_some(minute));
        stage.advance(Duration::from_secs(60));
    }
    assert_eq!(made.len(), 2, "once an hour: {made:?}");
    stage.nothing_is_left().await?;
    // An operator's drill stands: nothing is proven beside it, and nobody is told that something is wrong.
    stage.web.test_failover(DrillRequest::default()).await?.done().await?;
    let asked = stage.probe.asked();
    stage.advance(2 * HOUR);
    stage.tick().await;
    assert_eq!(stage.probe.asked(), asked);
    let refused = stage.web.verify().await.expect_err("a drill stands");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(stage.engine.pair.cloud.all().len(), 1, "the drill is as it was");
    stage.web.clean_up_test().await?.done().await?;
    stage.tick().await;
    assert_eq!(stage.probe.asked(), asked + 1);
    // A clock that is set back does not end the proofs.
    let clock = stage.engine.pair.world.clock();
    clock.set(site_recovery::Timestamp(clock.now().0 - 30 * 86_400_000));
    stage.tick().await;
    assert_eq!(stage.probe.asked(), asked + 2);
    Ok(())
}

/// One machine more at a time, however many are due.
#[tokio::test]
async fn proofs_of_many_machines_come_one_after_the_other() -> Result<()> {
    let stage = Stage::every(HOUR).await?;
    stage.engine.pair.here.add_machine("db", &[("boot", DISK)]);
    let policy = Policy::every(Duration::from_secs(300)).verify_every(HOUR);
    let db = stage.vault.protect(ProtectRequest::machine("db").policy(policy)).await?;
    db.until_done().await?;
    stage.probe.will(Answer::Hangs);
    let now = || stage.engine.pair.world.clock().now();
    for _ in 0..3 {
        stage.vault.tick(now(), false);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((stage.probe.asked(), stage.engine.pair.cloud.all().len()), (1, 1));
    stage.advance(Deadlines::default().validation);
    until(|| stage.web.run().is_none() && db.run().is_none()).await;
    stage.vault.tick(now(), false);
    until(|| stage.probe.asked() == 2).await;
    until(|| stage.web.run().is_none() && db.run().is_none()).await;
    assert_eq!(stage.web.item()?.boot_proofs.len() + db.item()?.boot_proofs.len(), 2);
    Ok(())
}

/// Where proofs take so long that one machine is due again before the last had its turn, who waits longest comes first.
#[tokio::test]
async fn proofs_go_round_where_more_are_due_than_can_be_made() -> Result<()> {
    let stage = Stage::every(HOUR).await?;
    let policy = Policy::every(Duration::from_secs(300)).verify_every(HOUR);
    let mut all = vec![stage.web.clone()];
    for name in ["xa", "xb", "xc"] {
        stage.engine.pair.here.add_machine(name, &[("boot", DISK)]);
        let item = stage.vault.protect(ProtectRequest::machine(name).policy(policy.clone())).await?;
        item.until_done().await?;
        all.push(item);
    }
    // Each is due again when the next one begins.
    for _ in 0..all.len() {
        stage.advance(2 * HOUR);
        stage.vault.tick(stage.engine.pair.world.clock().now(), false);
        let asked = stage.probe.asked();
        until(|| stage.probe.asked() > asked || all.iter().any(|item| item.run().is_some())).await;
        until(|| all.iter().all(|item| item.run().is_none())).await;
    }
    for item in &all {
        assert_eq!(item.item()?.boot_proofs.len(), 1, "{} was left out, or came twice", item.id());
    }
    Ok(())
}

/// A machine whose cycle hangs waits with its proof, and nobody waits behind it.
#[tokio::test]
async fn a_machine_that_cannot_be_proven_now_holds_up_no_other() -> Result<()> {
    let stage = Stage::every(HOUR).await?;
    stage.engine.pair.here.add_machine("xa", &[("boot", DISK)]);
    let policy = Policy::every(Duration::from_secs(300)).verify_every(HOUR);
    let xa = stage.vault.protect(ProtectRequest::machine("xa").policy(policy)).await?;
    xa.until_done().await?;
    stage.plan.next("ship", NEVER);
    let faulted = stage.plan.faulted();
    let mut cycle = Box::pin(stage.vault.replicate_now(stage.web.id()));
    for _ in 0..1_000 {
        assert!(futures_util::poll!(&mut cycle).is_pending(), "it hangs");
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.plan.faulted(), faulted + 1);
    // Neither was ever proven, and `web` comes first by its name.
    stage.vault.tick(stage.engine.pair.world.clock().now(), false);
    until(|| xa.item().is_ok_and(|item| item.boot_proofs.len() == 1)).await;
    assert!(stage.web.item()?.boot_proofs.is_empty());
    Ok(())
}

/// While a guest comes up, its source is replicated and watched as ever.
#[tokio::test]
async fn replication_goes_on_while_a_guest_comes_up() -> Result<()> {
    let stage = Stage::new().await?;
    stage.probe.will(Answer::Hangs);
    let job = stage.web.verify().await?;
    until(|| stage.probe.asked() == 1).await;
    assert_eq!(stage.engine.pair.cloud.isolated("isolated").len(), 1);
    let allowed = stage.web.summary()?.allowed;
    for operation in [Operation::TestFailover, Operation::PlannedFailover] {
        assert!(allowed.contains(&operation), "a proof gives way to {operation:?}: {allowed:?}");
    }
    assert!(!allowed.contains(&Operation::VerifyBoot), "one proof at a time: {allowed:?}");
    let proves = stage.web.points().await?.last().expect("a point").id;
    let newer = stage.sealed().await?;
    assert!(newer > proves);
    // By the schedule, too; and the watch tends what the drill stands on, and leaves it alone.
    let later = stage.engine.pair.world.clock().now().after(Duration::from_secs(300));
    assert_eq!(stage.vault.tick(later, true), 1, "a cycle");
    until(|| stage.plan.calls().iter().any(|c| c == "cloud.tend")).await;
    stage.vault.watch_now().await?;
    assert_eq!(stage.engine.pair.cloud.isolated("isolated").len(), 1, "it runs on");
    stage.advance(Deadlines::default().validation);
    let report = bounded(job.done()).await?;
    assert_eq!(report.only()?.point, Some(proves));
    let told: Vec<PointId> = stage.web.item()?.boot_proofs.into_keys().collect();
    assert_eq!(told, [proves], "it speaks of the point that was booted");
    assert!(stage.web.points().await?.len() >= 3);
    stage.nothing_is_left().await
}
