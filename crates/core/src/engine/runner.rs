//! Drives a run: step by step, back before the pivot, or parked for a person.

use super::context::{Context, Effects};
use super::events::NoticeKind;
use super::report::{Outcome, Report};
use super::shared::{Control, Shared};
use super::steps;
use super::turn::{Cause, Turn};
use super::verify;
use crate::state::{DrillState, Operation, Phase, Trigger};
use crate::unit::REMEMBERED_RUNS;
use crate::workflow::{Class, Course, Mark, Step, endings};
use crate::{
    Control as Travelling, Error, ErrorKind, Event, Failure, JobRun, MachineId, PhaseRecord, Prepared,
    Result, Timestamp, Unit,
};
use std::sync::Arc;

/// How often a planned failover ships and prepares again because somebody ran in between.
const ROUNDS: u32 = 3;

/// Drives the unit's run to its end, or to where a person is needed.
///
/// # Errors
/// Only when the journal does not take a record: then this engine must not go on. Another one, or this one started anew,
/// resumes.
pub(crate) async fn drive(turn: &Turn, control: &Arc<Control>) -> Result<Report> {
    loop {
        let unit = turn.unit();
        let Some(run) = unit.run.clone() else {
            return Err(Error::new(ErrorKind::NotFound, "no run is under way"));
        };
        let ended = match run.course {
            Course::Forward => forward(turn, &unit, run, control).await?,
            Course::Unwinding => back(turn, &unit, run, control).await?,
            Course::Parked => {
                let why = run
                    .why
                    .clone()
                    .unwrap_or_else(|| Failure::from(&Error::new(ErrorKind::Refused, "parked")));
                Some(Report::of(&run, Outcome::NeedsOperator { why }))
            }
        };
        if let Some(report) = ended {
            // What cannot wait writes a record of its own at once.
            if !control.yields() {
                remember(turn, None).await.ok();
            }
            if let Err(error) = turn.fold().await {
                tracing::warn!(unit = %unit.id, %error, "the journal could not be folded; it stays longer");
            }
            return Ok(report);
        }
    }
}

async fn forward(
    turn: &Turn,
    unit: &Arc<Unit>,
    run: JobRun,
    control: &Arc<Control>,
) -> Result<Option<Report>> {
    let Some(step) = run.next_step() else {
        let members = unit.members.iter();
        let events: Vec<(MachineId, Event)> =
            members.filter_map(|i| Some((i.id().clone(), Event::Moved(ending(&run, i)?)))).collect();
        finish(turn, &events).await?;
        return Ok(Some(Report::of(&run, Outcome::Done)));
    };
    let compensable = can_be_cancelled(&run) && (step.class() != Class::Forward || copies(run.operation));
    if control.is_cancelled() && compensable {
        let why = Error::new(ErrorKind::Cancelled, "it was cancelled");
        return fail(turn, unit, &run, step, &why).await;
    }
    mark(turn, step, Mark::Started).await?;
    let context = context(turn, step)?;
    tell(turn, &run, &format!("{step:?} begins"));
    if step == Step::HoldBoot
        && let Err(error) = may_boot(turn, &run, control).await
    {
        return fail(turn, unit, &run, step, &error).await;
    }
    let attempt = attempt(&turn.shared, &context, turn, control, compensable);
    // A guest takes its time to come up: replication goes on meanwhile.
    let taken = if step == Step::Probe { turn.lend(attempt).await } else { attempt.await };
    match taken {
        Ok(effects) if effects.values().any(|e| e.again) => again(turn, unit, &run, effects).await,
        Ok(effects) => {
            apply(turn, step, Mark::Done, effects).await?;
            tell(turn, &run, &format!("{step:?} done"));
            if step == Step::Probe {
                verify::tell(turn);
            }
            Ok(None)
        }
        Err(error) => {
            tell(turn, &run, &format!("{step:?} failed: {error}"));
            fail(turn, unit, &run, step, &error).await
        }
    }
}

/// Waits until somebody lets a prepared run boot. A drill replicates meanwhile.
async fn may_boot(turn: &Turn, run: &JobRun, control: &Arc<Control>) -> Result<()> {
    let told = async {
        tokio::select! {
            () = control.may_boot() => Ok(()),
            () = control.cancelled() => Err(Error::new(ErrorKind::Cancelled, "it was cancelled")),
        }
    };
    if run.operation == Operation::TestFailover { turn.lend(told).await } else { told.await }
}

/// Whether an operator's wish can still turn the run back, or end a copy that goes on for long.
pub(crate) fn can_be_cancelled(run: &JobRun) -> bool {
    (turns_back(run.operation) || copies(run.operation)) && !run.past_pivot()
}

/// Operations that are undone step by step.
fn turns_back(operation: Operation) -> bool {
    use Operation::*;
    matches!(
        operation,
        PlannedFailover
            | UnplannedFailover
            | PromoteTestFailover
            | ChangePit
            | UndoFailover
            | TestFailover
            | PromoteOther
            | VerifyBoot
    )
}

/// Operations that are a copy: what has landed stays landed, and they are started again.
fn copies(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::EnableProtection | Operation::ReverseReplicate | Operation::RepairReplication
    )
}

fn ending(run: &JobRun, item: &crate::Item) -> Option<Trigger> {
    if run.operation == Operation::UndoFailover && !item.unproven.is_empty() {
        return Some(Trigger::UndoneOwing);
    }
    endings(run.operation, &item.state).0
}

/// Takes a step, and takes it again while the error may pass.
async fn attempt(
    shared: &Arc<Shared>,
    context: &Context,
    turn: &Turn,
    control: &Arc<Control>,
    compensable: bool,
) -> Result<Effects> {
    let mut tries = 1;
    loop {
        let remembered_then_taken = async {
            match remember(turn, Some(context.step)).await {
                Err(error) if must_remember(context.run.operation, context.step) => Err(error),
                _ => steps::take(context, &turn.slot).await,
            }
        };
        let taken = tokio::select! {
            taken = remembered_then_taken => taken,
            () = control.cancelled(), if compensable => {
                Err(Error::new(ErrorKind::Cancelled, "it was cancelled"))
            }
            // Every step can be taken again with its keys.
            () = control.gives_way() => {
                Err(Error::new(ErrorKind::Cancelled, "it gave way to what cannot wait"))
            }
        };
        match taken {
            Err(error)
                if error.is_temporary() && tries < shared.deadlines.tries && context.step != Step::Fence =>
            {
                tracing::info!(step = ?context.step, tries, %error, "tried again later");
                tries += u32::from(!works_on(context.step, &error));
                tokio::select! {
                    () = shared.clock.sleep(shared.deadlines.retry_after) => {}
                    () = control.stopped_retrying() => return Err(error),
                    // Looked at again before the step is taken.
                    () = control.cancelled(), if compensable => {}
                }
            }
            other => return other,
        }
    }
}

/// Hydration, clones and copies of a branch take their time: what is busy with them is asked again as often as it takes.
fn works_on(step: Step, error: &Error) -> bool {
    error.kind() == ErrorKind::Busy && matches!(step, Step::Settle | Step::Materialise | Step::SetAside)
}

/// Somebody ran between the fence and the intent: what was prepared is taken back, and the last changes are shipped again.
async fn again(turn: &Turn, unit: &Arc<Unit>, run: &JobRun, effects: Effects) -> Result<Option<Report>> {
    if run.round + 1 >= ROUNDS {
        let error = Error::new(
            ErrorKind::Refused,
            "somebody keeps starting the machine; a planned failover never goes on then",
        );
        return fail(turn, unit, run, Step::Intend, &error).await;
    }
    for step in [Step::Materialise, Step::Pin] {
        let undone = steps::undo(&context(turn, step)?).await;
        match undone {
            Ok(undone) => apply(turn, step, Mark::Undone, undone).await?,
            Err(error) => return fail(turn, &turn.unit(), run, Step::Intend, &error).await,
        }
    }
    let cause = Cause::of(unit);
    turn.record(&cause, &[], |unit| {
        if let Some(run) = &mut unit.run {
            for (machine, effect) in effects {
                if let Some(progress) = run.members.get_mut(&machine) {
                    progress.observed = effect.progress.observed;
                }
            }
            run.round += 1;
        }
    })
    .await?;
    Ok(None)
}

/// What a failure means: before the pivot the run turns back; after it a person decides.
async fn fail(
    turn: &Turn,
    unit: &Arc<Unit>,
    run: &JobRun,
    step: Step,
    error: &Error,
) -> Result<Option<Report>> {
    use Operation::*;
    let why = Failure::from(error);
    if turns_back(run.operation) && !run.past_pivot() {
        let mut events = vec![];
        for item in &unit.members {
            let epoch = item.epoch.raised(&turn.shared.id);
            match run.operation {
                PlannedFailover | UnplannedFailover | PromoteTestFailover => {
                    events.push((item.id().clone(), Event::Began { trigger: Trigger::Unwinding, epoch }));
                }
                TestFailover | VerifyBoot => {
                    events.push((item.id().clone(), Event::Moved(Trigger::DrillFailed)));
                }
                _ => {}
            }
        }
        let cause = Cause::of(unit);
        turn.record(&cause, &events, |unit| {
            if let Some(run) = &mut unit.run {
                run.mark(step, Mark::Failed { why: why.clone() }, turn.shared.clock.now());
                run.course = Course::Unwinding;
                run.why = Some(why);
            }
        })
        .await?;
        return Ok(None);
    }
    let members = unit.members.iter();
    let events: Vec<(MachineId, Event)> = members
        .filter_map(|i| Some((i.id().clone(), Event::Moved(endings(run.operation, &i.state).1?))))
        .collect();
    park(turn, &events, step, &why, keeps_run(run.operation)).await?;
    Ok(Some(Report::of(run, Outcome::NeedsOperator { why })))
}

/// Whether the failed run itself goes on when the operator asks again; otherwise a new one begins.
fn keeps_run(operation: Operation) -> bool {
    use Operation::*;
    matches!(
        operation,
        UndoFailover | Commit | CompleteMigration | PlannedFailover | UnplannedFailover | PromoteTestFailover
    )
}

async fn back(turn: &Turn, unit: &Arc<Unit>, run: JobRun, control: &Arc<Control>) -> Result<Option<Report>> {
    let why =
        run.why.clone().unwrap_or_else(|| Failure::from(&Error::new(ErrorKind::Cancelled, "cancelled")));
    let Some(step) = run.next_undo() else {
        let ends = |i: &crate::Item| Some((i.id().clone(), Event::Moved(unwound(&run, i)?)));
        let events: Vec<(MachineId, Event)> = unit.members.iter().filter_map(ends).collect();
        finish(turn, &events).await?;
        return Ok(Some(Report::of(&run, Outcome::Unwound { why })));
    };
    if run.operation == Operation::VerifyBoot && control.yields() {
        return leave(turn, unit, &run, why).await.map(Some);
    }
    let context = context(turn, step)?;
    remember(turn, Some(step)).await.ok();
    tell(turn, &run, &format!("{step:?} is undone"));
    let mut tries = 1;
    let undone = loop {
        match steps::undo(&context).await {
            Err(error) if error.is_temporary() && tries < turn.shared.deadlines.tries => {
                tries += 1;
                turn.shared.clock.sleep(turn.shared.deadlines.retry_after).await;
            }
            other => break other,
        }
    };
    match undone {
        Ok(effects) => {
            apply(turn, step, Mark::Undone, effects).await?;
            Ok(None)
        }
        Err(error) => {
            let why = Failure::from(&error);
            let trigger = match run.operation {
                Operation::ChangePit => Some(Trigger::ChangeFailed),
                Operation::UndoFailover => Some(Trigger::UndoFailed),
                Operation::TestFailover | Operation::VerifyBoot => Some(Trigger::DrillCleanupFailed),
                Operation::PromoteOther => None,
                _ => Some(Trigger::CancelFailed),
            };
            let events: Vec<(MachineId, Event)> =
                unit.members.iter().filter_map(|i| Some((i.id().clone(), Event::Moved(trigger?)))).collect();
            park(turn, &events, step, &why, keeps_run(run.operation)).await?;
            Ok(Some(Report::of(&run, Outcome::NeedsOperator { why })))
        }
    }
}

/// A boot proof ends at once, since what stands behind it does not wait: the watch removes what is left.
async fn leave(turn: &Turn, unit: &Arc<Unit>, run: &JobRun, why: Failure) -> Result<Report> {
    let left = |i: &crate::Item| {
        let trigger = if i.drill.is_some() { Trigger::DrillCleanupFailed } else { Trigger::DrillCleaned };
        (i.id().clone(), Event::Moved(trigger))
    };
    let events: Vec<(MachineId, Event)> = unit.members.iter().map(left).collect();
    finish(turn, &events).await?;
    Ok(Report::of(run, Outcome::Unwound { why }))
}

fn unwound(run: &JobRun, item: &crate::Item) -> Option<Trigger> {
    let ran = run.members.get(item.id()).and_then(|p| p.ran);
    let set_aside = run.tasks.iter().any(|t| t.step == Step::SetAside);
    match run.operation {
        Operation::ChangePit if set_aside || ran != Some(true) => Some(Trigger::ChangeFailed),
        Operation::ChangePit => Some(Trigger::ChangeReverted),
        Operation::UndoFailover if ran == Some(true) => Some(Trigger::UndoReverted),
        Operation::UndoFailover => Some(Trigger::UndoStopped),
        // It never got as far as a drill.
        Operation::TestFailover | Operation::VerifyBoot => {
            (item.state.drill == DrillState::CleanupInitiated).then_some(Trigger::DrillCleaned)
        }
        Operation::PromoteOther => None,
        _ => Some(Trigger::Cancelled),
    }
}

fn context(turn: &Turn, step: Step) -> Result<Context> {
    let unit = turn.unit();
    let run = unit.run.clone().ok_or_else(|| Error::new(ErrorKind::NotFound, "no run is under way"))?;
    Context::new(&turn.shared, unit, run, step)
}

async fn mark(turn: &Turn, step: Step, mark: Mark) -> Result<()> {
    let now = turn.shared.clock.now();
    turn.record(&Cause::of(&turn.unit()), &[], |unit| {
        if let Some(run) = &mut unit.run {
            run.mark(step, mark, now);
        }
    })
    .await
}

async fn apply(turn: &Turn, step: Step, mark: Mark, effects: Effects) -> Result<()> {
    let now = turn.shared.clock.now();
    let each = effects.iter().flat_map(|(m, e)| e.events.iter().map(move |event| (m.clone(), event.clone())));
    let events: Vec<(MachineId, Event)> = each.collect();
    turn.record(&Cause::of(&turn.unit()), &events, |unit| {
        if let Some(run) = &mut unit.run {
            run.mark(step, mark, now);
            for (machine, effect) in effects {
                run.members.insert(machine, Box::new(effect.progress));
            }
        }
    })
    .await
}

async fn finish(turn: &Turn, events: &[(MachineId, Event)]) -> Result<()> {
    let now = turn.shared.clock.now();
    turn.record(&Cause::of(&turn.unit()), events, |unit| end(unit, now)).await
}

/// The run is over: it is remembered among the finished ones.
fn end(unit: &mut Unit, now: Timestamp) {
    if let Some(mut run) = unit.run.take() {
        run.ended = Some(now);
        // What the others took and came to is not to be pushed out by proofs; what they came to is in the items.
        if run.operation == Operation::VerifyBoot {
            unit.finished.retain(|r| r.operation != Operation::VerifyBoot);
        }
        unit.finished.push(&run);
        unit.finished.keep_last(REMEMBERED_RUNS);
    }
}

/// The run failed at a step: it waits for a person, or is over and another one is to begin.
async fn park(
    turn: &Turn,
    events: &[(MachineId, Event)],
    step: Step,
    why: &Failure,
    keep: bool,
) -> Result<()> {
    let now = turn.shared.clock.now();
    turn.record(&Cause::of(&turn.unit()), events, |unit| {
        if let Some(run) = &mut unit.run {
            run.mark(step, Mark::Failed { why: why.clone() }, now);
            run.why = Some(why.clone());
            run.course = Course::Parked;
        }
        if !keep {
            end(unit, now);
        }
    })
    .await
}

fn tell(turn: &Turn, run: &JobRun, what: &str) {
    let kind = NoticeKind::Job { job: run.id.clone(), what: what.to_owned() };
    turn.shared.bus.publish(turn.shared.clock.now(), &turn.slot.id, None, kind);
    tracing::info!(unit = %turn.slot.id, job = %run.id, what);
}

/// Whether a step of this operation may only be taken when its phase record stands beside the replica.
fn must_remember(operation: Operation, step: Step) -> bool {
    use Operation::*;
    matches!(operation, PlannedFailover | UnplannedFailover | PromoteTestFailover | ChangePit | RetryFailover)
        && !matches!(step, Step::Claim | Step::Validate | Step::DrillRemove)
}

/// Writes the phase record beside the replica: before the effect of a step, and when something has ended. Then it is also
/// written beside the other leg's replica, where that answers: an unplanned failover asks nothing of the side it leaves.
///
/// # Errors
/// Those of the replica that the unit replicates to.
pub(crate) async fn remember(turn: &Turn, step: Option<Step>) -> Result<()> {
    let (shared, unit) = (&turn.shared, turn.unit());
    let limit = shared.deadlines.replica;
    let last = unit.last_run().map(|run| run.operation);
    let both = step.is_none()
        && !matches!(
            last,
            Some(Operation::UnplannedFailover | Operation::PromoteTestFailover | Operation::PromoteOther)
        );
    for item in &unit.members {
        let (before, quiet) = (Phase::InitialReplicationInProgress, item.state.phase);
        // What has left is written down as gone, so that nobody adopts it again.
        let left = matches!(last, Some(Operation::DisableProtection | Operation::Purge)) && step.is_none();
        if quiet == before || quiet == Phase::EnablingProtection || quiet == Phase::Unprotected && !left {
            continue;
        }
        let run = unit.run.as_ref().zip(step).map(|(run, step)| (run.id.clone(), format!("{step:?}")));
        let control = Travelling { unit: unit.id.clone(), members: unit.machines(), item: item.clone() };
        let prepared = unit.run.as_ref().and_then(|run| prepared(run, item));
        let record = PhaseRecord { written: shared.clock.now(), run, prepared, control };
        let (revision, tasks) = (item.revision, unit.run.as_ref().map_or(0, |r| r.tasks.len()));
        let named = step.map_or_else(|| "ended".into(), |s| format!("{s:?}"));
        let op = item.op(format!("{}/phase/{revision}-{tasks}-{named}-{}", item.id(), record.written.0));
        let replica = &shared.leg_of(item)?.replica;
        shared.within(limit, "phase record", replica.remember(&op, item.id(), &record)).await?;
        let other = &shared.far_leg_of(item)?.replica;
        if both && other.name() != replica.name() {
            let written = shared.within(limit, "phase record", other.remember(&op, item.id(), &record)).await;
            if let Err(error) = written {
                tracing::info!(machine = %item.id(), %error, "the other replica does not know yet what has ended");
            }
        }
    }
    Ok(())
}

/// What a run that has not recorded its intent to boot prepares of an item.
fn prepared(run: &crate::JobRun, item: &crate::Item) -> Option<Prepared> {
    if run.operation == Operation::PromoteOther {
        // Its disks are made by another step, perhaps at the other site.
        return None;
    }
    let recovery = run.members.get(item.id())?.recovery.clone().filter(|_| !run.past_pivot())?;
    Some(Prepared { made_by: run.key(item.id(), Step::Materialise, run.round), recovery })
}
