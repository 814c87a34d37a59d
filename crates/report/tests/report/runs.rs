//! Real runs on the engine, each told as a report. Time goes on by itself at every look at the clock, always alike.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use site_recovery::audit::AuditRecord;
use site_recovery::state::Direction::{PrimaryToRecovery as OUT, RecoveryToPrimary as BACK};
use site_recovery::{
    Armed, Booted, Clock, CommitRequest, DrillRequest, ErrorKind, FailoverRequest, Failure, Force,
    GroupHandle, GuestPreparation, Item, ItemHandle, JobRun, Operation, Policy, ProtectRequest, Recovery,
    ReprotectRequest, Request, Result, Timestamp, UndoRequest, UnitId, Validation, Vault, Verdict,
};
use site_recovery_report::{
    ActionEnding, ActionPart, Ending, GroupPart, Job, PlanPart, Report, ReportBuilder,
};
use site_recovery_testkit::clock::{ManualClock, SeededRandom};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::{Pair, World};
use std::sync::Arc;
use std::time::Duration;

/// A fake clock that moves on a little whenever somebody looks.
#[derive(Debug)]
struct Ticking {
    clock: ManualClock,
    steps: SeededRandom,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        self.clock.advance(Duration::from_millis(40 + self.steps.below(400)));
        self.clock.now()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(span)
    }
}

/// A fake guest: preparing it takes a while, and so does looking at it.
#[derive(Debug)]
struct Guest {
    clock: ManualClock,
    verdict: Verdict,
}

#[async_trait]
impl GuestPreparation for Guest {
    async fn prepare(&self, _: &Recovery, _: &Armed) -> Result<()> {
        self.clock.advance(Duration::from_millis(21_300));
        Ok(())
    }
}

#[async_trait]
impl Validation for Guest {
    async fn validate(&self, _: &Recovery, _: &Booted) -> Result<Verdict> {
        self.clock.advance(Duration::from_millis(8_700));
        Ok(self.verdict.clone())
    }
}

/// Two sites and an engine whose runs take their time.
pub(crate) struct Hall {
    pub(crate) pair: Pair,
    pub(crate) vault: Vault,
    pub(crate) clock: ManualClock,
}

/// What a report is made of.
pub(crate) struct Ran {
    pub(crate) unit: UnitId,
    pub(crate) run: JobRun,
    pub(crate) items: Vec<Item>,
    pub(crate) trail: Vec<AuditRecord>,
}

impl Ran {
    pub(crate) fn job(&self) -> Job<'_> {
        Job { unit: &self.unit, run: &self.run, items: &self.items, trail: Ok(&self.trail) }
    }
}

impl Hall {
    pub(crate) async fn new() -> Result<Self> {
        Self::judging(Verdict::Good).await
    }

    pub(crate) async fn judging(verdict: Verdict) -> Result<Self> {
        let pair = World::new(7).pair();
        let clock = pair.world.clock();
        let guest = Arc::new(Guest { clock: clock.clone(), verdict });
        let vault = MemoryEngine::builder(&pair, Arc::new(MemoryJournal::new()))
            .clock(Arc::new(Ticking { clock: clock.clone(), steps: SeededRandom::new(11) }))
            .validation(guest.clone())
            .guest_preparation(guest)
            .build()
            .await?;
        Ok(Self { pair, vault, clock })
    }

    pub(crate) async fn protect(&self, machine: &str) -> Result<ItemHandle> {
        self.pair.here.add_machine(machine, &[("boot", DISK), ("data", DISK)]);
        let policy = Policy::every(Duration::from_secs(300));
        let item = self.vault.protect(ProtectRequest::machine(machine).policy(policy)).await?;
        item.until_done().await?;
        Ok(item)
    }

    pub(crate) async fn protect_group(&self, name: &str, machines: &[&str]) -> Result<GroupHandle> {
        for machine in machines {
            self.pair.here.add_machine(machine, &[("boot", DISK)]);
        }
        let policy = Policy::every(Duration::from_secs(300));
        let group = self.vault.protect_group(ProtectRequest::group(name, machines).policy(policy)).await?;
        for item in group.items() {
            item.until_done().await?;
        }
        Ok(group)
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The newest run, under way or ended, with all that is known around it.
    pub(crate) async fn last(&self, handles: &[ItemHandle]) -> Result<Ran> {
        let one = &handles[0];
        let run = one.run().or_else(|| one.finished().pop()).expect("something ran");
        let items = handles.iter().map(ItemHandle::item).collect::<Result<Vec<_>>>()?;
        let trail = self.vault.audit(one.unit()).await?;
        Ok(Ran { unit: one.unit().clone(), run, items, trail })
    }

    pub(crate) fn report<'a>(&self, ran: &'a Ran) -> ReportBuilder<'a> {
        Report::of_job("vault of cloud", self.clock.now().after(Duration::from_secs(2)), ran.job())
    }
}

/// Nothing lost; over and done.
pub(crate) async fn planned() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.pair.here.scribble("web", 3);
    hall.wait(90);
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).why("the hall is without power from nine to twelve");
    let report = report.health(&web.summary()?).readiness(web.id(), &web.check_readiness().await?).build()?;
    Ok((ran, report))
}

/// The site is dead; somebody answers for it.
pub(crate) async fn forced() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.pair.here.scribble("web", 3);
    hall.wait(200);
    let died = hall.clock.now();
    hall.pair.here.set_down(true);
    hall.wait(75);
    let force = Force::by("ben", "the hall burns");
    web.failover(FailoverRequest::unplanned(OUT, force)).await?.done().await?;
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).died(web.id(), died).health(&web.summary()?).build()?;
    Ok((ran, report))
}

/// A drill that runs, and waits for its clean-up.
pub(crate) async fn drill() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.wait(240);
    web.test_failover(DrillRequest::default()).await?.done().await?;
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).why("the drill of the first quarter").health(&web.summary()?).build()?;
    Ok((ran, report))
}

/// Back again, after over, commit and reprotect.
pub(crate) async fn failback() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    hall.wait(60);
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    hall.wait(3_600);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).why("the hall has power again").build()?;
    Ok((ran, report))
}

/// The other side refuses what was prepared before anything was started: all of it is undone.
pub(crate) async fn undone() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.wait(30);
    let mut request = FailoverRequest::planned(OUT);
    request.hold_boot = true;
    let job = web.failover(request).await?;
    while !web.run().is_some_and(|run| run.holds_boot()) {
        tokio::task::yield_now().await;
    }
    hall.wait(300);
    job.cancel();
    assert!(job.done().await.is_err(), "it was cancelled");
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).why("rehearsal of the morning").build()?;
    Ok((ran, report))
}

/// The boot is refused for good, and the engine takes the failover back by itself: the report is of the failover.
pub(crate) async fn refused() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.pair.cloud.refuse_boot("no quota is left");
    hall.wait(30);
    let refused = web.failover(FailoverRequest::planned(OUT)).await?.done().await;
    assert!(refused.is_err(), "the boot is refused");
    let mut ran = hall.last(std::slice::from_ref(&web)).await?;
    assert_eq!(ran.run.operation, Operation::UndoFailover, "begun by the engine");
    let over = web.finished().into_iter().rev().find(|run| run.operation == Operation::PlannedFailover);
    ran.run = over.expect("the failover has ended");
    let report = hall.report(&ran).why("the hall is without power from nine to twelve").build()?;
    Ok((ran, report))
}

/// Over, and taken back by an undo.
pub(crate) async fn taken_back() -> Result<(Ran, Report)> {
    let hall = Hall::judging(Verdict::Bad { reason: "no web page answers".into() }).await?;
    let web = hall.protect("web").await?.acting_as("ana");
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    hall.wait(120);
    web.undo(UndoRequest::default()).await?.done().await?;
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).build()?;
    Ok((ran, report))
}

/// The boot is refused for good, by what nobody there can mend.
pub(crate) async fn needs_operator() -> Result<(Ran, Report)> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.pair.here.set_down(true);
    hall.pair.cloud.refuse_boot("no quota is left for machines of this size");
    hall.wait(45);
    let force = Force::by("ben", "the hall burns");
    let refused = web.failover(FailoverRequest::unplanned(OUT, force)).await?.done().await;
    assert!(refused.is_err(), "the boot is refused");
    let ran = hall.last(std::slice::from_ref(&web)).await?;
    let report = hall.report(&ran).health(&web.summary()?).build()?;
    Ok((ran, report))
}

/// A group of two and a machine alone, by a plan with actions.
pub(crate) async fn plan() -> Result<([Ran; 2], Report)> {
    let hall = Hall::new().await?;
    let shop = hall.protect_group("shop", &["db", "app"]).await?;
    let web = hall.protect("web").await?.acting_as("ana");
    hall.wait(90);
    let began = hall.clock.now();
    hall.wait(4);
    let shop = shop.acting_as("ana");
    shop.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let switched = hall.clock.now();
    hall.wait(14);
    let switch_over = hall.clock.now();
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let looked = hall.clock.now();
    hall.wait(20);
    let rans = [hall.last(&shop.items()).await?, hall.last(std::slice::from_ref(&web)).await?];
    let ids = |ran: &Ran| ran.items.iter().map(|i| i.id().clone()).collect();
    let group = |name: &str, machines, before: &[&str], after: &[&str]| GroupPart {
        name: name.into(),
        machines,
        before: before.iter().map(|s| s.to_string()).collect(),
        after: after.iter().map(|s| s.to_string()).collect(),
    };
    let plan = PlanPart {
        name: "whole shop".into(),
        run: "plan-3".into(),
        operation: Operation::PlannedFailover,
        direction: OUT,
        request: Request::Failover(FailoverRequest::planned(OUT)),
        who: "ana".into(),
        started: began,
        ended: Some(hall.clock.now()),
        outcome: Ending::Failed { why: failure("failed: tell the customers") },
        left_out: vec![],
        groups: vec![
            group("database", ids(&rans[0]), &[], &["switch names"]),
            group("front", ids(&rans[1]), &[], &["look at the shop", "tell the customers"]),
        ],
    };
    let action = |name: &str, kind: &str, group: &str, started, ended, ending| ActionPart {
        name: name.into(),
        kind: kind.into(),
        group: Some(group.into()),
        started,
        ended,
        ending,
        who: (kind == "manual").then(|| "cleo".into()),
        notes: vec![],
    };
    let failed = ActionEnding::Failed { error: "the mail server does not answer".into() };
    let actions = vec![
        action("switch names", "script", "database", Some(switched), Some(switch_over), ActionEnding::Done),
        action(
            "look at the shop",
            "manual",
            "front",
            Some(looked),
            Some(hall.clock.now()),
            ActionEnding::Done,
        ),
        action(
            "tell the customers",
            "script",
            "front",
            Some(looked),
            Some(looked.after(Duration::from_secs(3))),
            failed,
        ),
    ];
    let made_at = hall.clock.now().after(Duration::from_secs(2));
    let report = Report::of_plan("vault of cloud", made_at, plan, actions).job(rans[0].job());
    let report = report.job(rans[1].job()).why("yearly move to the other hall").build()?;
    Ok((rans, report))
}

pub(crate) fn failure(message: &str) -> Failure {
    Failure { kind: ErrorKind::Refused, temporary: false, message: message.into() }
}

/// Every story, by its name.
pub(crate) async fn all() -> Result<Vec<(&'static str, Report)>> {
    Ok(vec![
        ("planned_failover", planned().await?.1),
        ("forced_failover", forced().await?.1),
        ("drill", drill().await?.1),
        ("failback", failback().await?.1),
        ("undone", undone().await?.1),
        ("refused", refused().await?.1),
        ("undo", taken_back().await?.1),
        ("needs_operator", needs_operator().await?.1),
        ("plan", plan().await?.1),
    ])
}
