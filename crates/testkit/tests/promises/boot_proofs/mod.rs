//! What a boot proof does: it says which point boots, and leaves nothing behind, whatever happens to it.

mod interrupted;
mod schedule;
mod verdicts;

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
