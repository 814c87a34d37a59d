//! What a proof says of a point, who remembers it, and who goes by it.

use super::*;

#[tokio::test]
async fn a_point_that_boots_is_known_with_what_was_measured_and_nothing_is_left() -> Result<()> {
    let stage = Stage::new().await?;
    let point = stage.sealed().await?;
    stage.advance(Duration::from_secs(60));
    let bytes = stage.engine.pair.here.bytes("web");
    let proof = stage.proof().await?;
    assert!(proof.is_good() && proof.boot == Some(Duration::from_secs(40)), "{proof:?}");
    assert_eq!((proof.loss.at_most, proof.lost_records), (Duration::from_secs(60), Some(3)));
    let points = stage.web.points().await?;
    let told = points.last().map(|p| (p.id, p.verified_boot.as_deref()));
    assert_eq!(told, Some((point, Some(&proof))));
    assert!(!points[0].boots() && points[0].verified_boot.is_none());
    assert_eq!(stage.web.summary()?.proven, Some((point, proof)));
    assert_eq!(stage.finding("boot.not-proven")?, None);
    assert_eq!(stage.engine.pair.here.bytes("web"), bytes);
    stage.nothing_is_left().await?;
    // What others took is not pushed out of what is remembered, however often something is proven.
    stage.web.repair().await?.done().await?;
    for _ in 0..20 {
        stage.proof().await?;
    }
    let finished = stage.web.finished();
    let of = |operation| finished.iter().filter(|r| r.operation == operation).count();
    assert_eq!(
        (of(site_recovery::Operation::VerifyBoot), of(site_recovery::Operation::RepairReplication)),
        (1, 1)
    );
    Ok(())
}

/// Whatever a probe does instead of a good answer is a proof that failed; so is a site that refuses the point. It names the
/// point, why, and the one to go back to; it is told once, and goes when a later point is proven.
#[tokio::test]
async fn a_point_that_does_not_boot_is_critical_and_names_the_last_good_one() -> Result<()> {
    let ways = [
        ("bad", "no login prompt"),
        ("fails", "no such port"),
        ("panics", "the probe is broken"),
        ("hangs", "no answer within"),
        ("does not start", "quota"),
        ("damaged", "store.open"),
    ];
    for (way, reason) in ways {
        let stage = Stage::new().await?;
        let fails = async || {
            match way {
                "bad" => drop(stage.probe.will(Answer::Bad)),
                "fails" => drop(stage.probe.will(Answer::Fails)),
                "panics" => drop(stage.probe.will(Answer::Panics)),
                "hangs" => drop(stage.probe.will(Answer::Hangs)),
                "does not start" => stage.engine.pair.cloud.refuse_boot("quota"),
                _ => stage.plan.next("cloud.materialise", Fault::Before(ErrorKind::Corrupt)),
            }
            let asked = stage.probe.asked();
            let job = stage.web.verify().await?;
            if way == "hangs" {
                until(|| stage.probe.asked() > asked).await;
                stage.advance(Deadlines::default().validation);
            }
            let report = bounded(job.done()).await?;
            stage.engine.pair.cloud.allow_boot();
            let proof = report.only()?.proof.clone().expect("a proof");
            assert!(!proof.is_good() && proof.boot.is_none(), "{way}: {proof:?}");
            stage.nothing_is_left().await
        };
        let first = stage.web.points().await?[0].id;
        fails().await?;
        let told = stage.finding("boot.not-proven")?.unwrap_or_else(|| panic!("{way}: nothing is said"));
        assert_eq!(told.severity, Severity::Critical);
        assert!(told.cause.contains("no point was proven to boot"), "{way}: {}", told.cause);
        assert!(way == "damaged" || told.cause.contains(reason), "{way}: {}", told.cause);
        assert!(stage.proof().await?.is_good() && stage.finding("boot.not-proven")?.is_none(), "{way}");

        let second = stage.sealed().await?;
        fails().await?;
        assert_eq!(stage.alerts("boot.not-proven"), 2, "{way}");
        stage.advance(HOUR);
        let told = stage.finding("boot.not-proven")?.unwrap_or_else(|| panic!("{way}: nothing is said"));
        assert!(told.cause.contains(&format!("point {second}, taken ")), "{way}: {}", told.cause);
        let good = format!("proven to boot is {first}, taken ");
        assert!(told.cause.contains(&good) && told.cause.contains("s old"), "{way}: {}", told.cause);
        assert_eq!(stage.web.summary()?.health.level, HealthLevel::Critical);
        let ready = stage.web.check_readiness().await?;
        assert!(!ready.is_ready(ready.checked) && stage.finding("boot.not-proven")?.is_some());
        stage.sealed().await?;
        assert!(stage.proof().await?.is_good());
        assert!(stage.finding("boot.not-proven")?.is_none(), "{way}: also where readiness is older");
    }
    Ok(())
}

/// What stands in the way of a proof says nothing of the point.
#[tokio::test]
async fn a_proof_that_cannot_be_made_is_no_verdict_and_is_made_later() -> Result<()> {
    for call in ["cloud.claim", "store.points", "store.pin", "cloud.materialise", "cloud.boot"] {
        let stage = Stage::every(8 * HOUR).await?;
        stage.plan.always(call, Fault::Before(ErrorKind::Unavailable));
        stage.tick().await;
        assert!(stage.plan.faulted() > 0, "{call}");
        assert!(stage.web.item()?.boot_proofs.is_empty() && stage.finding("boot.not-proven")?.is_none());
        let told = stage.finding("boot.not-tried")?.unwrap_or_else(|| panic!("{call}: nothing is said"));
        assert_eq!((told.severity, stage.alerts("boot.not-tried")), (Severity::Warning, 1), "{call}");
        stage.plan.stop();
        stage.nothing_is_left().await?;
        stage.tick().await;
        assert!(stage.web.item()?.boot_proofs.is_empty(), "{call}: not again at once");
        stage.advance(HOUR);
        stage.tick().await;
        assert_eq!(stage.web.item()?.boot_proofs.len(), 1, "{call}");
        assert!(stage.finding("boot.not-tried")?.is_none(), "{call}");
        stage.nothing_is_left().await?;
    }
    Ok(())
}

/// What is known of boots outlives the engine, and the journal.
#[tokio::test]
async fn o8_verdicts_survive_a_restart_and_adoption() -> Result<()> {
    let stage = Stage::new().await?;
    assert!(stage.proof().await?.is_good());
    stage.sealed().await?;
    stage.probe.will(Answer::Bad);
    assert!(!stage.proof().await?.is_good());
    let (was, said) = (stage.web.points().await?, stage.finding("boot.not-proven")?);
    assert!(said.is_some() && was.iter().filter(|p| p.verified_boot.is_some()).count() == 2);
    for journal in [stage.engine.journal.reopen()?, MemoryJournal::new()] {
        let adopts = site_recovery::Journal::subjects(&journal).await?.is_empty();
        let anew = MemoryEngine::over(stage.engine.pair.clone(), journal).await?;
        if adopts {
            assert_eq!(anew.vault.adopt("out").await?.machines.len(), 1);
        }
        let web = anew.vault.item(stage.web.id())?;
        assert_eq!(web.points().await?, was, "adopted: {adopts}");
        let findings = web.summary()?.health.findings;
        assert_eq!(findings.into_iter().find(|f| f.code == "boot.not-proven"), said, "adopted: {adopts}");
    }
    Ok(())
}

/// The newest point that is known to boot is not dropped, however many come after it; an older one is, and forgotten.
#[tokio::test]
async fn d8_the_newest_point_that_boots_is_kept() -> Result<()> {
    let stage = Stage::new().await?;
    let policy = Policy::every(Duration::from_secs(300)).keep(Retention::Grid { days: 0 });
    stage.web.set_policy(policy).await?;
    let ids = async || -> Result<Vec<u64>> { Ok(stage.web.points().await?.iter().map(|p| p.id.0).collect()) };
    let good = stage.sealed().await?.0;
    stage.proof().await?;
    for _ in 0..4 {
        let newest = stage.sealed().await?.0;
        assert_eq!(ids().await?, [good, newest]);
        stage.probe.will(Answer::Bad);
        stage.proof().await?;
    }
    let proofs: Vec<u64> = stage.web.item()?.boot_proofs.into_keys().map(|p| p.0).collect();
    assert!(proofs.len() <= 3 && proofs.contains(&good), "what is gone is forgotten: {proofs:?}");
    let better = stage.sealed().await?.0;
    stage.proof().await?;
    let newest = stage.sealed().await?.0;
    assert_eq!(ids().await?, [better, newest], "the older one is needed no more");
    let item = stage.web.item()?;
    assert_eq!(item.boot_proofs.keys().map(|p| p.0).collect::<Vec<_>>(), [better]);
    // A commit drops points as well.
    stage.web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    stage.web.commit(CommitRequest::default()).await?.done().await?;
    assert!(!ids().await?.contains(&better) && stage.web.item()?.boot_proofs.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_failover_goes_to_the_newest_point_that_boots() -> Result<()> {
    let stage = Stage::new().await?;
    let to = |point| FailoverRequest::unplanned(OUT, fire()).to(point);
    let error = stage.web.loss_of(PointChoice::LatestProven).await.expect_err("none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    stage.proof().await?;
    let bytes = stage.engine.pair.here.bytes("web");
    stage.sealed().await?;
    stage.probe.will(Answer::Bad);
    stage.proof().await?;
    stage.sealed().await?;
    let good = stage.web.points().await?[0].id;
    let report = stage.web.failover(to(PointChoice::LatestProven)).await?.done().await?;
    assert_eq!(report.only()?.point, Some(good));
    let there = stage.engine.pair.cloud.running();
    assert_eq!(stage.engine.pair.cloud.bytes(&there[0]), bytes);
    Ok(())
}

/// On the way back nothing is proven, and nothing is said of the way out.
#[tokio::test]
async fn on_the_way_back_nothing_is_proven() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let lenient = Lenient::default();
    let builder = MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone()));
    let vault = builder.validation(Arc::new(lenient.clone())).build().await?;
    let web = vault.item(web.id())?;
    web.set_policy(Policy::every(Duration::from_secs(300)).verify_every(HOUR)).await?;
    let report = web.verify().await?.done().await?;
    let member = report.only()?;
    assert!(!member.proof.as_ref().expect("a proof").is_good());
    // It is kept, and what is known of it with it.
    web.pin(member.point.expect("a point"), "audit").await?;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    assert_eq!(web.item()?.boot_proofs.len(), 1);
    assert!(web.summary()?.health.findings.iter().all(|f| f.code != "boot.not-proven"));
    assert!(web.check_readiness().await?.findings.iter().all(|f| f.code != "boot.not-proven"));
    assert_eq!(web.verify().await.expect_err("back").kind(), ErrorKind::Refused);
    let asked = lenient.0.load(Ordering::SeqCst);
    engine.pair.world.clock().advance(2 * HOUR);
    vault.tick(engine.pair.world.clock().now(), false);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lenient.0.load(Ordering::SeqCst), asked);
    Ok(())
}

/// Bad of drills, good of failovers.
#[derive(Debug, Clone, Default)]
struct Lenient(Arc<AtomicUsize>);

#[async_trait]
impl Validation for Lenient {
    async fn validate(&self, recovery: &Recovery, _booted: &Booted) -> Result<Verdict> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(match recovery.purpose {
            Purpose::Drill => Verdict::Bad { reason: "not yet".into() },
            Purpose::Failover => Verdict::Good,
        })
    }
}

/// Where nothing can say whether a guest has come up, no proof is promised.
#[tokio::test]
async fn without_a_probe_there_is_no_proof() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    assert_eq!(web.verify().await.expect_err("no validation").kind(), ErrorKind::Unsupported);
    let wanted = Policy::every(Duration::from_secs(300)).verify_every(HOUR);
    let error = web.set_policy(wanted.clone()).await.expect_err("no validation");
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("policy.verify_every")));
    engine.pair.here.add_machine("db", &[("boot", DISK)]);
    let error = engine.vault.protect(ProtectRequest::machine("db").policy(wanted)).await.expect_err("none");
    assert_eq!(error.fact("field"), Some("policy.verify_every"));
    assert_eq!((engine.vault.items().len(), web.item()?.policy.verify_every), (1, None), "nothing changed");
    Ok(())
}

/// Of a group each member has its own verdict, and the group goes where all of them boot.
#[tokio::test]
async fn o4_a_group_is_proven_member_by_member() -> Result<()> {
    let engine = MemoryEngine::new(3).await?;
    for machine in ["web", "db"] {
        engine.pair.here.add_machine(machine, &[("boot", DISK)]);
    }
    let (probe, plan) = (Probe::of(&engine), FaultPlan::new());
    let vault = vault(&engine, engine.journal.clone(), &probe, &plan).await?;
    let shop = vault.protect_group(ProtectRequest::group("shop", &["web", "db"])).await?;
    for item in shop.items() {
        item.until_done().await?;
    }
    let report = shop.verify().await?.done().await?;
    assert!(report.members.values().all(|m| m.proof.as_ref().is_some_and(BootProof::is_good)));
    engine.pair.world.clock().advance(Duration::from_secs(300));
    vault.replicate_now(shop.items()[0].id()).await?;
    // One member's disks cannot be made: that is its verdict, and the other is booted all the same.
    plan.next("cloud.materialise", Fault::Before(ErrorKind::Corrupt));
    let asked = probe.asked();
    let report = shop.verify().await?.done().await?;
    let good: Vec<bool> =
        report.members.values().map(|m| m.proof.as_ref().is_some_and(BootProof::is_good)).collect();
    assert_eq!((good.iter().filter(|g| **g).count(), probe.asked()), (1, asked + 1));
    assert!(engine.pair.cloud.all().is_empty());
    let request = FailoverRequest::unplanned(OUT, fire()).to(PointChoice::LatestProven);
    let plan = shop.plan(request.operation(), &site_recovery::Request::Failover(request)).await?;
    for item in shop.items() {
        let points = item.points().await?;
        let chosen = plan.points.iter().find(|(m, ..)| m == item.id()).map(|(_, point, _)| *point);
        assert_eq!(chosen, Some(points[0].id), "the common one that all boot from");
    }
    Ok(())
}
