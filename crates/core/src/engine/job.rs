//! Every operation is a job: begun, seen from outside, waited for, cancelled, resumed.

use super::ports::Verb;
use super::report::{Outcome, Report};
use super::runner::drive;
use super::shared::{Control, Shared, Slot};
use super::steps::PIN;
use super::turn::{Cause, Turn, Wish};
use crate::state::{DrillState, Operation, Phase, State, Trigger, next};
use crate::workflow::{Course, Mark, Step};
use crate::{
    Cutover, Error, ErrorKind, Event, FailoverRequest, JobId, JobRun, MachineId, OnUnfenced, Owed, Progress,
    Request, Result, Task, Unit, UnitId,
};
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// Azure's job states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum JobState {
    /// Its steps are being taken, or taken back.
    InProgress,
    /// It did what was asked for.
    Succeeded,
    /// It was undone or has failed.
    Failed,
    /// It was undone at somebody's wish.
    Cancelled,
    /// It waits for a person.
    Suspended,
}

/// A job, as a handle. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Job {
    id: JobId,
    slot: Arc<Slot>,
    done: watch::Receiver<Option<Arc<Result<Report>>>>,
    control: Arc<Control>,
}

impl Job {
    pub(crate) fn under_way(slot: &Arc<Slot>, control: Arc<Control>) -> Self {
        Self { id: control.job.clone(), slot: Arc::clone(slot), done: control.done.subscribe(), control }
    }

    /// Its name.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// The unit that it is of.
    pub fn unit(&self) -> &UnitId {
        &self.slot.id
    }

    /// Its steps so far.
    pub fn tasks(&self) -> Vec<Task> {
        self.found().map(|run| run.tasks).unwrap_or_default()
    }

    /// How it stands.
    pub fn state(&self) -> JobState {
        self.found().as_ref().map_or(JobState::Succeeded, JobRun::state)
    }

    /// Its run, under way or finished, as long as it is remembered.
    fn found(&self) -> Option<JobRun> {
        let unit = self.slot.unit();
        let under_way = unit.run.clone().filter(|run| run.id == self.id);
        under_way.or_else(|| unit.finished.newest_first().find(|run| run.id == self.id))
    }

    /// Asks it to turn back. Before the pivot it does; after it, or for a job that cannot be undone, it goes on.
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// Lets a job boot that holds ([`FailoverRequest::hold_boot`]), now or as soon as it is prepared. Of any other it
    /// changes nothing. An engine that goes on with the run after a crash waits anew.
    pub fn let_boot(&self) {
        self.control.let_boot();
    }

    /// Asks it to try nothing again: a step past the pivot that fails the next time ends the job, and a person decides.
    pub fn stop_retrying(&self) {
        self.control.stop_retrying();
    }

    /// Waits until it has ended or needs a person.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the job as it is.
    ///
    /// # Errors
    /// When the journal did not take a record: what is written is not known here, and the job is resumed by a new engine.
    pub async fn wait(&self) -> Result<Report> {
        let mut done = self.done.clone();
        let ended = done.wait_for(Option::is_some).await;
        let ended =
            ended.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?;
        match ended.as_deref() {
            Some(Ok(report)) => Ok(report.clone()),
            Some(Err(error)) => Err(Error::new(error.kind(), error.to_string())),
            None => Err(Error::new(ErrorKind::Cancelled, "the engine has stopped")),
        }
    }

    /// Waits until it has done what was asked for.
    ///
    /// # Errors
    /// As [`wait`](Job::wait), and when it was undone or needs a person.
    pub async fn done(&self) -> Result<Report> {
        self.wait().await?.done()
    }
}

impl JobRun {
    /// How it stands.
    pub fn state(&self) -> JobState {
        match (&self.course, self.ended, &self.why) {
            (Course::Parked, None, _) => JobState::Suspended,
            (_, None, _) if self.holds_boot() => JobState::Suspended,
            (_, None, _) => JobState::InProgress,
            (_, Some(_), None) => JobState::Succeeded,
            (_, Some(_), Some(why)) if why.kind == ErrorKind::Cancelled => JobState::Cancelled,
            (_, Some(_), Some(_)) => JobState::Failed,
        }
    }
}

/// The name under which the engine acts.
pub(crate) const ENGINE: &str = "engine";

/// What is to begin.
pub(crate) struct Beginning {
    pub(crate) operation: Operation,
    pub(crate) request: Request,
    pub(crate) who: String,
    /// The engine begins it by itself; no operator is asked for.
    pub(crate) by_engine: bool,
}

/// Begins an operation of a whole unit: asks the authorizer and the state machine, journals the beginning, and starts a
/// task for it.
///
/// # Cancel safety
/// Dropping the future before the beginning is journalled begins nothing; from then on the job goes on by itself.
///
/// # Errors
/// `Denied`, `Refused` with what is allowed instead, `Busy` while another job of the unit is under way, `StaleEpoch` where
/// another engine is in charge, `Unavailable` where the replica cannot say that none is and nobody answers for its silence.
/// Nothing changed.
pub(crate) async fn begin(shared: &Arc<Shared>, slot: &Arc<Slot>, beginning: Beginning) -> Result<Job> {
    for item in &slot.unit().members {
        if !beginning.by_engine {
            shared.authorizer.authorize(&beginning.who, Verb::Operation(beginning.operation), item.id())?;
        }
        next(&without_proof(slot, item.state), Trigger::Begin(beginning.operation))?;
    }
    let turn = once_free(shared, slot, beginning.operation).await?;
    for item in &turn.unit().members {
        next(&item.state, Trigger::Begin(beginning.operation))?;
    }
    // What is journalled as begun is driven, also when the caller is gone by then.
    let (begun, job) = oneshot::channel();
    shared.spawner.spawn(Box::pin(async move {
        let started = match open(&turn, beginning).await {
            Ok(()) => start(turn),
            Err(error) => Err(error),
        };
        let _ = begun.send(started);
    }));
    job.await.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?
}

/// The turn, when no job is under way: one that gives way to this operation is asked to.
async fn once_free(shared: &Arc<Shared>, slot: &Arc<Slot>, to: Operation) -> Result<Turn> {
    loop {
        let control = slot.control.lock().expect("no panic under this lock").clone();
        if let Some(control) = control {
            let run = slot.unit().run.clone();
            let Some(run) = run.filter(|r| gives_way(r.operation, to)) else {
                return Err(Error::new(ErrorKind::Busy, format!("job {} is under way", control.job)));
            };
            if run.operation == Operation::VerifyBoot && !cannot_wait(to) {
                control.clear_up();
            } else {
                control.give_way();
            }
            // A job that lends its turn needs it to end: also a cycle that has it gives way.
            let _wish = Wish::of(slot);
            let mut done = control.done.subscribe();
            let ended = done.wait_for(Option::is_some);
            let ended = shared.within(shared.deadlines.recovery_site, "the job that gives way", async {
                ended
                    .await
                    .map(drop)
                    .map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))
            });
            ended.await?;
        }
        let turn = Turn::demand(shared, slot).await;
        // The schedule may have begun a proof meanwhile, which lends its turn.
        if !slot.is_driven() {
            return Ok(turn);
        }
    }
}

/// The state as it is once a boot proof that is under way has given way.
pub(super) fn without_proof(slot: &Slot, state: State) -> State {
    let proves = slot.is_driven() && slot.unit().proves();
    State { drill: if proves { DrillState::None } else { state.drill }, ..state }
}

/// What does not even wait until a drill is removed.
fn cannot_wait(operation: Operation) -> bool {
    matches!(operation, Operation::PlannedFailover | Operation::UnplannedFailover | Operation::PromoteOther)
}

/// A resync and a drill never hold up a failover; what waits for a side that is lost never holds up the last resort; a
/// boot proof holds up nobody.
fn gives_way(under_way: Operation, to: Operation) -> bool {
    use Operation::*;
    match to {
        _ if under_way == VerifyBoot => to != VerifyBoot,
        PlannedFailover | UnplannedFailover => {
            matches!(under_way, RepairReplication | TestFailover | TestFailoverCleanup)
        }
        PromoteOther => matches!(under_way, RepairReplication | TestFailover | ReverseReplicate | Commit),
        _ => false,
    }
}

/// Journals the beginning of a run, or lets a parked run of the same operation go on.
///
/// # Errors
/// `StaleEpoch` where another engine is in charge, `Unavailable` where nobody says that none is; those of the journal. Nothing
/// changed.
pub(crate) async fn open(turn: &Turn, beginning: Beginning) -> Result<()> {
    let (shared, unit) = (&turn.shared, turn.unit());
    let Beginning { operation, request, who, .. } = beginning;
    match shared.in_charge(&unit).await {
        // Somebody answers for silence by name.
        Err(error) if error.kind() == ErrorKind::Unavailable && request.force().is_some() => {}
        in_charge => in_charge?,
    }
    let now = shared.clock.now();
    let highest = unit.members.iter().map(|i| i.epoch.clone()).max_by_key(|e| e.number);
    let highest = highest.ok_or_else(|| Error::new(ErrorKind::NotFound, "the unit has no member"))?;
    let epoch = highest.raised(&shared.id);
    let began = |machine: &MachineId| {
        (machine.clone(), Event::Began { trigger: Trigger::Begin(operation), epoch: epoch.clone() })
    };
    let mut events: Vec<(MachineId, Event)> = unit.members.iter().map(|i| began(i.id())).collect();
    let cause = Cause { who: who.clone(), why: format!("{operation:?}"), input: input(&request) };
    // A run that nobody drives: parked, or left by an engine that stopped.
    let parked = unit.run.as_ref();
    if let Some(run) = parked
        && goes_on(run, operation)
    {
        let course = if operation == Operation::CancelFailover { Course::Unwinding } else { Course::Forward };
        return turn
            .record(&cause, &events, |unit| {
                if let Some(run) = &mut unit.run {
                    run.course = course;
                    run.why = None;
                    if operation != Operation::CancelFailover {
                        (run.request, run.who) = (request, who);
                        run.tasks.retain(|t| t.mark != Mark::Undone);
                    }
                }
            })
            .await;
    }
    if let Some(run) = parked {
        events.extend(leftovers(turn, &unit, run)?);
    }
    let id = JobId(format!("{}-{}-{:06x}", unit.id, unit.runs + 1, shared.random.bits() & 0xff_ffff));
    let run = JobRun {
        id,
        operation,
        request,
        who,
        started: now,
        ended: None,
        course: Course::Forward,
        why: None,
        round: 0,
        tasks: vec![],
        members: unit.members.iter().map(|i| (i.id().clone(), Box::<Progress>::default())).collect(),
    };
    turn.record(&cause, &events, |unit| {
        if let Some(mut parked) = unit.run.take() {
            parked.ended = Some(now);
            parked.course = Course::Forward;
            unit.finished.push(&parked);
        }
        unit.runs += 1;
        unit.run = Some(run);
    })
    .await
}

fn input(request: &Request) -> String {
    crate::audit::sha256_hex(&serde_json::to_vec(request).unwrap_or_default())
}

fn goes_on(run: &JobRun, operation: Operation) -> bool {
    use Operation::*;
    match operation {
        CancelFailover => matches!(run.operation, PlannedFailover | UnplannedFailover | PromoteTestFailover),
        UndoFailover | Commit | CompleteMigration => run.operation == operation,
        _ => false,
    }
}

/// What a run that is given up has pinned or prepared and not taken back.
fn leftovers(turn: &Turn, unit: &Unit, run: &JobRun) -> Result<Vec<(MachineId, Event)>> {
    let open = |step| run.tasks.iter().any(|t| t.step == step && t.mark != Mark::Undone);
    let mut events = vec![];
    if run.past_pivot() {
        return Ok(events);
    }
    for item in &unit.members {
        let Some(progress) = run.members.get(item.id()) else { continue };
        let leg = turn.shared.leg_of(item)?;
        if let (true, Some(point)) = (open(Step::Pin), progress.point) {
            let owed = Owed::Unpin { replica: leg.replica.name(), point, why: PIN.into() };
            events.push((item.id().clone(), Event::Owes(owed)));
        }
        if let (true, Some(recovery)) = (open(Step::Materialise), progress.recovery.clone()) {
            let made_by = run.key(item.id(), Step::Materialise, run.round);
            let owed = Owed::Withdraw { site: leg.recovery_site.name(), made_by, recovery };
            events.push((item.id().clone(), Event::Owes(owed)));
        }
    }
    Ok(events)
}

/// Starts a task that drives the unit's run, and gives a handle to it.
pub(crate) fn start(turn: Turn) -> Result<Job> {
    let (shared, slot) = (Arc::clone(&turn.shared), Arc::clone(&turn.slot));
    let run = slot.unit().run.clone();
    let run = run.ok_or_else(|| Error::new(ErrorKind::NotFound, "no run is under way"))?;
    let control = Control::new(run.id.clone());
    *slot.control.lock().expect("no panic under this lock") = Some(Arc::clone(&control));
    let job = Job::under_way(&slot, Arc::clone(&control));
    shared.spawner.spawn(Box::pin(async move {
        // A role that panics ends the run here, as the engine's death would; who waits for the job is told.
        let driven = AssertUnwindSafe(drive(&turn, &control)).catch_unwind().await;
        let mut ended = driven.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        // Who stopped the retries decides what comes next.
        if let Ok(report) = &ended
            && matches!(report.outcome, Outcome::NeedsOperator { .. })
            && !control.is_stopped()
            && let Some(undo) = undoes_itself(&turn.unit())
        {
            ended = undo_itself(&turn, &control, undo).await;
        }
        if let Err(error) = &ended {
            tracing::error!(unit = %slot.id, %error, "the run stopped; a new engine resumes it");
        }
        if turn.unit().members.iter().all(|i| i.state.phase == Phase::Unprotected)
            && turn.unit().run.is_none()
        {
            turn.shared.remove(&slot.id);
        }
        *slot.control.lock().expect("no panic under this lock") = None;
        drop(turn);
        control.done.send_replace(Some(Arc::new(ended)));
    }));
    Ok(job)
}

/// Goes back by itself, under the job's name; what was asked of the failover is not asked of its undo.
async fn undo_itself(
    turn: &Turn,
    of: &Arc<Control>,
    (undo, why): (Beginning, crate::Failure),
) -> Result<Report> {
    open(turn, undo).await?;
    let control = Control::new(of.job.clone());
    let driven = AssertUnwindSafe(drive(turn, &control)).catch_unwind().await;
    let undone = driven.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
    Ok(match undone.outcome {
        Outcome::Done => Report { outcome: Outcome::Unwound { why }, job: of.job.clone(), ..undone },
        _ => undone,
    })
}

/// What a panic says.
pub(crate) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = said(panic);
    Error::new(
        ErrorKind::Cancelled,
        format!(
            "a role has panicked; the run stands where it was until Vault::resume goes on with it: {text}"
        ),
    )
}

/// A planned failover, or one that was to unwind, whose boot was refused for good fences what it booted and goes back by
/// itself: also when the engine that had it refused is gone.
pub(crate) fn undoes_itself(unit: &Unit) -> Option<(Beginning, crate::Failure)> {
    let failed = unit.members.iter().all(|i| matches!(i.state.phase, Phase::FailoverCompletionFailed(_)));
    let run = failed.then(|| unit.last_run()).flatten()?;
    let Request::Failover(FailoverRequest { cutover, .. }) = &run.request else { return None };
    let by_itself = matches!(
        cutover,
        Cutover::Planned { .. } | Cutover::Unplanned { on_unfenced: OnUnfenced::Unwind, .. }
    );
    let undo = Beginning {
        operation: Operation::UndoFailover,
        request: Request::Undo(crate::UndoRequest::default()),
        who: ENGINE.into(),
        by_engine: true,
    };
    by_itself.then_some((undo, run.why)).and_then(|(undo, why)| Some((undo, why?)))
}
