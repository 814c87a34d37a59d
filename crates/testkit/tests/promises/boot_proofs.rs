//! What a boot proof does: it says which point boots, and leaves nothing behind, whatever happens to it.

use super::*;
use async_trait::async_trait;
use site_recovery::state::{DrillState, Operation, Phase};
use site_recovery::{
    BootProof, Booted, Clock, CommitRequest, Deadlines, Delivery, DrillRequest, ErrorKind, FailoverRequest,
    Finding, HealthLevel, NoticeKind, PointChoice, PointId, Policy, Probed, ProtectRequest, Purpose,
    Recovery, ReprotectRequest, Result, Retention, Severity, Validation, Vault, Verdict,
};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const NEVER: Fault = Fault::Late(Duration::from_secs(1_000_000_000));

#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Good,
    Bad,
    Fails,
    Panics,
    Hangs,
}

/// Answers as it was told to, and well when it was told nothing.
#[derive(Debug, Clone, Default)]
struct Probe {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<AtomicUsize>,
    /// Moved on while it looks.
    clock: ManualClock,
}

impl Probe {
    fn of(engine: &MemoryEngine) -> Self {
        Self { clock: engine.pair.world.clock(), ..Self::default() }
    }

    fn will(&self, answer: Answer) -> &Self {
        self.answers.lock().expect("no panic under this lock").push_back(answer);
        self
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Validation for Probe {
    /// Asked of failovers and of an operator's drills.
    async fn validate(&self, _recovery: &Recovery, _booted: &Booted) -> Result<Verdict> {
        Ok(Verdict::Good)
    }

    async fn probe(&self, recovery: &Recovery, booted: &Booted) -> Result<Probed> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(booted.running && recovery.purpose == Purpose::Drill);
        let answer = self.answers.lock().expect("no panic under this lock").pop_front();
        self.clock.advance(Duration::from_secs(40));
        match answer.unwrap_or(Answer::Good) {
            Answer::Good => Ok(Probed { lost_records: Some(3), ..Verdict::Good.into() }),
            Answer::Bad => Ok(Verdict::Bad { reason: "no login prompt".into() }.into()),
            Answer::Fails => Err(site_recovery::Error::new(ErrorKind::Unsupported, "no such port")),
            Answer::Panics => panic!("the probe is broken"),
            Answer::Hangs => std::future::pending().await,
        }
    }
}

/// An engine with a probe, each of its roles on the way out behind a plan.
struct Stage {
    engine: MemoryEngine,
    vault: Vault,
    web: ItemHandle,
    probe: Probe,
    plan: FaultPlan,
}

impl Stage {
    async fn new() -> Result<Self> {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (probe, plan) = (Probe::of(&engine), FaultPlan::new());
        let vault = vault(&engine, engine.journal.clone(), &probe, &plan).await?;
        let web = vault.item(web.id())?;
        Ok(Self { engine, vault, web, probe, plan })
    }

    async fn every(every: Duration) -> Result<Self> {
        let stage = Self::new().await?;
        let policy = Policy::every(Duration::from_secs(300)).verify_every(every);
        stage.web.set_policy(policy).await?;
        Ok(stage)
    }

    fn advance(&self, span: Duration) {
        self.engine.pair.world.clock().advance(span);
    }

    /// Seals a point, and says which.
    async fn sealed(&self) -> Result<PointId> {
        self.advance(Duration::from_secs(300));
        self.engine.pair.here.scribble("web", 2);
        self.vault.replicate_now(self.web.id()).await?;
        Ok(self.web.points().await?.last().expect("a point").id)
    }

    async fn proof(&self) -> Result<BootProof> {
        let report = bounded(async { self.web.verify().await?.done().await }).await?;
        Ok(report.only()?.proof.clone().expect("a proof"))
    }

    /// What the schedule begins, to its end.
    async fn tick(&self) {
        self.vault.tick(self.engine.pair.world.clock().now(), false);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        until(|| self.web.run().is_none()).await;
    }

    async fn nothing_is_left(&self) -> Result<()> {
        let cloud = &self.engine.pair.cloud;
        assert!(cloud.all().is_empty(), "{:?}", cloud.all());
        assert!(self.web.points().await?.iter().all(|p| !p.pins.iter().any(|pin| pin == "drill")));
        let item = self.web.item()?;
        assert_eq!(
            (item.state.drill, item.drill, item.state.phase),
            (DrillState::None, None, Phase::Protected)
        );
        assert_eq!(self.engine.pair.here.running(), ["web"]);
        Ok(())
    }

    fn finding(&self, code: &str) -> Result<Option<Finding>> {
        let findings = self.web.summary()?.health.findings;
        assert!(findings.iter().filter(|f| f.code == code).count() < 2, "told twice: {findings:?}");
        Ok(findings.into_iter().find(|f| f.code == code))
    }

    fn alerts(&self, code: &str) -> usize {
        let mut events = self.vault.events_from(0);
        let told = std::iter::from_fn(|| events.try_next());
        told.filter(|d| match d {
            Delivery::Notice(n) => matches!(&n.kind, NoticeKind::Alert(f) if f.code == code),
            Delivery::Lagged { .. } => false,
        })
        .count()
    }
}

async fn vault(
    engine: &MemoryEngine,
    journal: MemoryJournal,
    probe: &Probe,
    plan: &FaultPlan,
) -> Result<Vault> {
    let (clock, mut out) = (engine.pair.world.clock(), engine.pair.forward.clone());
    out.source = Arc::new(Faulty::new(out.source, plan, clock.clone()));
    out.process_server = Arc::new(Faulty::new(out.process_server, plan, clock.clone()));
    out.replica = Arc::new(Faulty::new(out.replica, plan, clock.clone()));
    out.recovery_site = Arc::new(Faulty::new(out.recovery_site, plan, clock.clone()));
    let mut back = engine.pair.reverse.clone();
    back.replica = Arc::new(Faulty::new(back.replica, plan, clock));
    let journal: Arc<dyn site_recovery::Journal> = Arc::new(journal);
    let journal = Arc::new(Faulty::new(journal, plan, engine.pair.world.clock()));
    let builder = MemoryEngine::builder(&engine.pair, journal).out(out).back(back);
    builder.validation(Arc::new(probe.clone())).build().await
}

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
                for job in anew.resume().await? {
                    bounded(job.wait()).await?;
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
