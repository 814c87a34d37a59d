//! Who a proof gives way to, and what is left of one that is broken off.

use super::*;

/// A failover waits neither for a guest that comes up, nor for the clean-up after it, nor for a cycle that has the turn, nor
/// for the lost side to remember that the proof has ended.
#[tokio::test]
async fn o8_a_failover_does_not_wait_for_a_proof() -> Result<()> {
    for way in ["probe", "materialise", "clean-up", "cycle", "dead side"] {
        let stage = Stage::new().await?;
        stage.plan.always("cloud.destroy", NEVER);
        match way {
            "probe" | "cycle" | "dead side" => drop(stage.probe.will(Answer::Hangs)),
            "materialise" => stage.plan.next("cloud.materialise", NEVER),
            _ => {}
        }
        stage.web.verify().await?;
        until(|| stage.probe.asked() == 1 || stage.plan.faulted() == 1).await;
        if way == "clean-up" {
            until(|| stage.plan.faulted() == 1).await;
        }
        let cycle = async {
            if way != "cycle" {
                return ErrorKind::Cancelled;
            }
            stage.plan.next("process-server.ship", NEVER);
            stage.vault.replicate_now(stage.web.id()).await.expect_err("it gave way").kind()
        };
        let failover = async {
            let mut request = FailoverRequest::planned(OUT);
            match way {
                "cycle" => until(|| stage.plan.faulted() == 1).await,
                "dead side" => {
                    request = FailoverRequest::unplanned(OUT, fire());
                    stage.plan.always("master-target.remember", NEVER);
                }
                _ => {}
            }
            // The clock stands still: whatever it waits for does not come.
            stage.web.failover(request).await?.done().await
        };
        let (cycle, failed_over) = bounded(async { tokio::join!(cycle, failover) }).await;
        failed_over?;
        assert_eq!(cycle, ErrorKind::Cancelled);
        assert!(matches!(stage.web.state()?.phase, Phase::FailoverCompleted(_)), "{way}");
        assert_eq!(stage.engine.pair.cloud.running().len(), 1, "{way}");
        assert_eq!(stage.web.item()?.boot_proofs.len(), usize::from(way == "clean-up"), "{way}");
        // What is left of the proof goes as soon as the site does it.
        stage.plan.stop();
        bounded(stage.vault.watch_now()).await?;
        assert_eq!(stage.engine.pair.cloud.all().len(), 1, "{way}: {:?}", stage.engine.pair.cloud.all());
        assert_eq!(stage.web.state()?.drill, DrillState::None, "{way}");
        let pins: Vec<String> = stage.web.points().await?.into_iter().flat_map(|p| p.pins).collect();
        assert_eq!(pins, ["failover"], "{way}");
    }
    Ok(())
}

/// An operator who already waits for the turn when the schedule begins a proof, and gets the turn while it is lent.
#[tokio::test]
async fn o8_who_waits_while_a_proof_begins_does_not_act_beside_it() -> Result<()> {
    let stage = Stage::every(HOUR).await?;
    stage.probe.will(Answer::Hangs);
    stage.plan.next("journal.append", Fault::Late(Duration::from_secs(5)));
    stage.vault.tick(stage.engine.pair.world.clock().now(), false);
    until(|| stage.plan.faulted() == 1).await;
    let failover = async { stage.web.failover(FailoverRequest::planned(OUT)).await?.done().await };
    let written = async {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(stage.web.run().is_none(), "both wait");
        stage.advance(Duration::from_secs(5));
    };
    bounded(async { tokio::join!(failover, written) }).await.0?;
    stage.vault.watch_now().await?;
    assert_eq!((stage.probe.asked(), stage.engine.pair.cloud.all().len()), (1, 1));
    assert_eq!(stage.engine.pair.cloud.running().len(), 1);
    let ended: Vec<_> = stage.web.finished().iter().map(|r| r.operation).collect();
    let (proof, failover) = (site_recovery::Operation::VerifyBoot, site_recovery::Operation::PlannedFailover);
    assert_eq!(ended[1..3], [proof, failover], "{ended:?}");
    let why = stage.web.finished()[1].why.clone().map(|why| why.kind);
    assert_eq!(why, Some(ErrorKind::Cancelled), "it was ended, and not only forgotten");
    stage.advance(Deadlines::default().validation);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(stage.web.item()?.boot_proofs.is_empty() && stage.web.run().is_none());
    assert_eq!(stage.web.state()?.drill, DrillState::None);
    Ok(())
}

/// Every other wish of an operator ends a proof too, and finds its drill gone.
#[tokio::test]
async fn a_proof_gives_way_to_an_operator() -> Result<()> {
    for wish in ["drill", "repair", "disable", "cancel"] {
        let stage = Stage::every(HOUR).await?;
        stage.probe.will(Answer::Hangs);
        stage.vault.tick(stage.engine.pair.world.clock().now(), false);
        until(|| stage.probe.asked() == 1).await;
        let busy = stage.web.verify().await.expect_err("one at a time");
        assert!(matches!(busy.kind(), ErrorKind::Busy), "{busy}");
        let done = async {
            match wish {
                "drill" => stage.web.test_failover(DrillRequest::default()).await?.done().await.map(drop),
                "repair" => stage.web.repair().await?.done().await.map(drop),
                "disable" => stage.web.disable(Default::default()).await?.done().await.map(drop),
                _ => {
                    assert!(stage.web.cancel().await?.is_none());
                    until(|| stage.web.run().is_none()).await;
                    Ok(())
                }
            }
        };
        bounded(done).await?;
        let cloud = &stage.engine.pair.cloud;
        assert_eq!(cloud.all().len(), usize::from(wish == "drill"), "{wish}: {:?}", cloud.all());
        match wish {
            "disable" => continue,
            "drill" => {
                let drill = stage.web.item()?.drill.expect("the operator's");
                assert!(!drill.proof);
                stage.advance(Deadlines::default().validation);
                stage.vault.watch_now().await?;
                assert_eq!(cloud.isolated("isolated").len(), 1, "it is not taken for a proof");
            }
            _ => stage.nothing_is_left().await?,
        }
        assert!(stage.web.item()?.boot_proofs.is_empty(), "{wish}: no verdict");
        assert!(stage.finding("boot.not-tried")?.is_none(), "{wish}: nothing is wrong");
        assert!(stage.web.until_done().await.is_ok(), "{wish}: nobody asked for the proof");
    }
    Ok(())
}

/// The engine is gone in the middle of a proof: another one takes it back, with the journal or without.
#[tokio::test]
async fn o1_o8_a_proof_whose_engine_is_gone_is_taken_back() -> Result<()> {
    for journal in [true, false] {
        for during in ["probe", "materialise", "going back"] {
            let stage = Stage::new().await?;
            assert!(stage.proof().await?.is_good());
            let good = stage.web.points().await?[0].id;
            stage.sealed().await?;
            if during == "materialise" {
                stage.plan.next("cloud.materialise", NEVER);
            } else {
                stage.probe.will(Answer::Hangs);
            }
            stage.web.verify().await?;
            until(|| stage.probe.asked() == 2 || stage.plan.faulted() > 0).await;
            if during == "going back" {
                stage.plan.next("cloud.destroy", NEVER);
                stage.web.cancel().await?;
                until(|| stage.plan.faulted() > 0).await;
                assert_eq!(stage.web.state()?.drill, DrillState::CleanupInitiated);
            }
            let kept = if journal { stage.engine.journal.reopen()? } else { MemoryJournal::new() };
            let (probe, plan) = (Probe::of(&stage.engine), FaultPlan::new());
            let anew = vault(&stage.engine, kept, &probe, &plan).await?;
            if journal {
                for job in anew.resume().await.into_values() {
                    bounded(job?.wait()).await?;
                }
            } else {
                anew.adopt("out").await?;
                anew.watch_now().await?;
            }
            let stage = Stage { web: anew.item(stage.web.id())?, vault: anew, probe, plan, ..stage };
            let when = format!("journal {journal}, {during}");
            stage.nothing_is_left().await?;
            let proven = stage.web.item()?.last_good_boot().map(|(point, _)| point);
            assert_eq!(
                (stage.probe.asked(), proven),
                (0, Some(good)),
                "{when}: it says nothing of the point"
            );
            assert!(stage.proof().await?.is_good(), "{when}: and is made again");
            stage.nothing_is_left().await?;
        }
    }
    Ok(())
}
