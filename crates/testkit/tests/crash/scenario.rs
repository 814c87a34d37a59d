//! Every operation, from the state in which it begins.

use crate::world::Shape;
use site_recovery::state::{Direction, Kind, Phase};
use site_recovery::workflow::Step;
use site_recovery::{
    CommitRequest, Deadlines, DisableRequest, DrillRequest, Error, ErrorKind, FailoverRequest, Force,
    ItemHandle, Job, PointChoice, PromoteRequest, ProtectRequest, ReprotectRequest, Result, UndoRequest,
    Vault,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan};
use site_recovery_testkit::world::World;
use std::sync::Arc;

const OUT: Direction = Direction::PrimaryToRecovery;
const BACK: Direction = Direction::RecoveryToPrimary;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Enable,
    Planned,
    PlannedHeld,
    PlannedGroup,
    Unplanned,
    RefusedBoot,
    RefusedDisks,
    RefusedChange,
    RefusedDrill,
    StartedOutside,
    ChangePoint,
    Undo,
    CommitOut,
    ReprotectBack,
    Failback,
    UndoFailback,
    CommitBack,
    ReprotectOut,
    Drill,
    DrillHeld,
    DrillCleanup,
    PromoteDrill,
    Verify,
    VerifyRefused,
    VerifyUnanswered,
    Repair,
    PromoteOther,
    CancelAdopted,
    CompleteMigration,
    RestoreLanding,
    Disable,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 31] = [
        Self::Enable,
        Self::Planned,
        Self::PlannedHeld,
        Self::PlannedGroup,
        Self::Unplanned,
        Self::RefusedBoot,
        Self::RefusedDisks,
        Self::RefusedChange,
        Self::RefusedDrill,
        Self::StartedOutside,
        Self::ChangePoint,
        Self::Undo,
        Self::CommitOut,
        Self::ReprotectBack,
        Self::Failback,
        Self::UndoFailback,
        Self::CommitBack,
        Self::ReprotectOut,
        Self::Drill,
        Self::DrillHeld,
        Self::DrillCleanup,
        Self::PromoteDrill,
        Self::Verify,
        Self::VerifyRefused,
        Self::VerifyUnanswered,
        Self::Repair,
        Self::PromoteOther,
        Self::CancelAdopted,
        Self::CompleteMigration,
        Self::RestoreLanding,
        Self::Disable,
    ];

    /// The world in which it begins. Always the same.
    pub(crate) async fn stage(self) -> Result<MemoryEngine> {
        use Scenario::*;
        let engine = MemoryEngine::over(World::new(11).pair(), Default::default()).await?;
        let here = &engine.pair.here;
        here.add_machine("web", &[("boot", 16 * 1024), ("data", 32 * 1024)]);
        if self == Enable {
            return Ok(engine);
        }
        if self == PlannedGroup {
            here.add_machine("db", &[("boot", 16 * 1024)]);
            let group = engine.vault.protect_group(ProtectRequest::group("shop", &["web", "db"])).await?;
            for item in group.items() {
                item.until_done().await?;
            }
            here.scribble("db", 2);
            here.scribble("web", 2);
            return Ok(engine);
        }
        let web = engine.protect("web").await?;
        here.scribble("web", 2);
        engine.vault.replicate_now(web.id()).await?;
        here.scribble("web", 2);
        let planned = matches!(
            self,
            CommitOut
                | ReprotectBack
                | Failback
                | UndoFailback
                | CommitBack
                | ReprotectOut
                | CompleteMigration
                | PromoteOther
                | RestoreLanding
        );
        if planned {
            done(web.failover(FailoverRequest::planned(OUT)).await?).await?;
        }
        if matches!(self, Undo | ChangePoint | RefusedChange) {
            let request = FailoverRequest::unplanned(OUT, fire()).to(PointChoice::LatestProcessed);
            done(web.failover(request).await?).await?;
            let there = web.item()?.active().name.clone();
            engine.pair.cloud.scribble(&there, 1);
        }
        if matches!(
            self,
            ReprotectBack | Failback | UndoFailback | CommitBack | ReprotectOut | RestoreLanding
        ) {
            done(web.commit(CommitRequest::default()).await?).await?;
        }
        if self == RestoreLanding {
            engine.pair.process_server.break_after(0);
            let there = web.item()?.active().name.clone();
            engine.pair.cloud.scribble(&there, 3);
            let once = Deadlines { tries: 1, ..Deadlines::default() };
            let journal = Arc::new(engine.journal.clone());
            let vault = MemoryEngine::builder(&engine.pair, journal).deadlines(once).build().await?;
            let failed = only(&vault)?.reprotect(ReprotectRequest::default()).await?.wait().await?;
            assert!(failed.done().is_err(), "the copy breaks");
            engine.pair.process_server.break_after(u64::MAX);
            return MemoryEngine::over(engine.pair, engine.journal).await;
        }
        if matches!(self, Failback | UndoFailback | CommitBack | ReprotectOut) {
            done(web.reprotect(ReprotectRequest::default()).await?).await?;
            let there = web.item()?.active().name.clone();
            engine.pair.cloud.scribble(&there, 2);
        }
        if matches!(self, UndoFailback | CommitBack | ReprotectOut) {
            done(web.failover(FailoverRequest::planned(BACK)).await?).await?;
            here.scribble("web", 1);
        }
        if self == ReprotectOut {
            done(web.commit(CommitRequest::default()).await?).await?;
            here.scribble("web", 1);
        }
        if self == CancelAdopted {
            return adopted_half_way(engine).await;
        }
        if matches!(self, DrillCleanup | PromoteDrill) {
            done(web.test_failover(DrillRequest::default()).await?).await?;
        }
        if self == RefusedBoot {
            engine.pair.cloud.refuse_boot("quota");
        }
        if self == StartedOutside {
            here.start_outside("web");
            here.tells(true);
        }
        if self == PromoteOther {
            engine.pair.cloud.destroy_outside(&web.item()?.active().name.clone());
        }
        Ok(engine)
    }

    /// What the roles refuse, whoever asks.
    pub(crate) fn faults(self) -> FaultPlan {
        let (plan, refused) = (FaultPlan::new(), Fault::Before(ErrorKind::Refused));
        match self {
            Self::RefusedDisks => plan.always("cloud.materialise", refused),
            Self::RefusedChange => plan.always("store.manifest", refused),
            Self::RefusedDrill | Self::VerifyRefused => plan.always("cloud.boot", refused),
            Self::VerifyUnanswered => plan.always("cloud.boot", Fault::Before(ErrorKind::Unavailable)),
            _ => {}
        }
        plan
    }

    /// Begins it; none where it is over already.
    pub(crate) async fn act(self, vault: &Vault) -> Result<Option<Job>> {
        use Scenario::*;
        if self == Enable {
            return Ok(vault.protect(ProtectRequest::machine("web")).await?.job());
        }
        if self == PlannedGroup {
            return vault.group("shop")?.failover(FailoverRequest::planned(OUT)).await.map(Some);
        }
        let web = only(vault)?;
        let job = match self {
            Enable | PlannedGroup => unreachable!("above"),
            Planned | RefusedBoot | RefusedDisks | StartedOutside => {
                web.failover(FailoverRequest::planned(OUT)).await
            }
            PlannedHeld => {
                let held = FailoverRequest { hold_boot: true, ..FailoverRequest::planned(OUT) };
                web.failover(held).await.inspect(Job::let_boot)
            }
            Unplanned => web.failover(FailoverRequest::unplanned(OUT, fire())).await,
            ChangePoint | RefusedChange => {
                let first = web.points().await?[0].id;
                web.change_point(PointChoice::Custom(first)).await
            }
            Undo | UndoFailback => web.undo(UndoRequest::default()).await,
            CommitOut | CommitBack => web.commit(CommitRequest::default()).await,
            ReprotectBack | ReprotectOut => web.reprotect(ReprotectRequest::default()).await,
            Failback => web.failover(FailoverRequest::planned(BACK)).await,
            Drill | RefusedDrill => web.test_failover(DrillRequest::default()).await,
            DrillHeld => {
                let held = DrillRequest { hold_boot: true, ..DrillRequest::default() };
                web.test_failover(held).await.inspect(Job::let_boot)
            }
            DrillCleanup => web.clean_up_test().await,
            PromoteDrill => web.promote_test(FailoverRequest::unplanned(OUT, fire())).await,
            Verify | VerifyRefused | VerifyUnanswered => web.verify().await,
            Repair => web.repair().await,
            PromoteOther => web.promote_other(PromoteRequest::newest(fire())).await,
            CancelAdopted => return web.cancel().await,
            CompleteMigration => web.complete_migration(CommitRequest::default()).await,
            RestoreLanding => web.restore_landing().await,
            Disable => web.disable(DisableRequest::default()).await,
        };
        job.map(Some)
    }

    /// What the whole run must come to, so that the comparison means something.
    pub(crate) fn check(self, before: &Shape, done: &Shape) {
        use Scenario::*;
        let phase = match self {
            Enable | CancelAdopted | RefusedBoot | RefusedDisks | RefusedDrill | Undo | ReprotectBack
            | UndoFailback | ReprotectOut | Drill | DrillHeld | DrillCleanup | Verify | VerifyRefused
            | VerifyUnanswered | Repair => Some(Phase::Protected),
            Planned | PlannedHeld | PlannedGroup | Failback | StartedOutside => {
                Some(Phase::FailoverCompleted(Kind::Planned))
            }
            Unplanned | PromoteDrill | ChangePoint | RefusedChange | PromoteOther => {
                Some(Phase::FailoverCompleted(Kind::Unplanned))
            }
            CommitOut | CommitBack => Some(Phase::CommitFailoverCompleted),
            CompleteMigration => Some(Phase::MigrationCompleted),
            RestoreLanding => Some(Phase::ReprotectFailed),
            Disable => None,
        };
        assert_eq!(done.phase(), phase, "{self:?}: {done:?}");
        if matches!(self, Verify | VerifyRefused) {
            assert_eq!((before.proofs(), done.proofs()), (0, 1), "{self:?}: {done:?}");
        }
        if matches!(self, Planned | PlannedHeld | Unplanned) {
            assert_eq!((before.running_at("here"), done.running_at("here")), (1, 0));
            assert_eq!((before.running_at("cloud"), done.running_at("cloud")), (0, 1));
        }
    }
}

/// Whether a step asks a role for anything in these scenarios, so that a reply can be lost.
pub(crate) fn calls_a_role(step: Step) -> bool {
    !matches!(step, Step::Validate | Step::Probe)
}

fn fire() -> Force {
    Force::by("ana", "the site is on fire")
}

/// A failover that could not be taken back, and then the journal was lost: nobody knows its run any more.
async fn adopted_half_way(engine: MemoryEngine) -> Result<MemoryEngine> {
    let (plan, refused) = (FaultPlan::new(), Fault::Before(ErrorKind::Refused));
    plan.always("cloud.materialise", refused);
    plan.always("here.unfence", refused);
    let (out, back) = crate::world::faulty(&engine.pair, &plan);
    let builder = MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone()));
    let vault = builder.out(out).back(back).build().await?;
    let stuck = only(&vault)?.failover(FailoverRequest::planned(OUT)).await?.wait().await?;
    assert!(stuck.done().is_err(), "it can go neither way");
    let anew = MemoryEngine::over(engine.pair, Default::default()).await?;
    anew.vault.adopt("out").await?;
    anew.vault.watch_now().await?; // takes back what the lost run had prepared
    Ok(anew)
}

async fn done(job: Job) -> Result<()> {
    job.done().await.map(drop)
}

fn only(vault: &Vault) -> Result<ItemHandle> {
    let mut items = vault.items();
    items.pop().ok_or_else(|| Error::new(ErrorKind::NotFound, "nothing is protected"))
}
