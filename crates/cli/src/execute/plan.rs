//! Recovery plans: begun, followed, decided.

use super::begin::over;
use super::follow::{self, TICK};
use super::plan_page::{list, page, show, stage};
use super::words::choice;
use super::{Out, Request};
use crate::answer::Answer;
use crate::args::{PlanFailover, PlanVerb};
use crate::engine::Engine;
use crate::reports;
use serde_spanned::Spanned;
use site_recovery::state::Direction;
use site_recovery::{
    Clock, CommitRequest, DrillRequest, Error, ErrorKind, JobRun, PointChoice, ReprotectRequest, Result,
    SystemClock,
};
use site_recovery_plans::{ActionState, Course, MemberState, Plan, PlanRun, Plans, RunState, StageRun};

/// Does what is asked of plans. A run is followed until it has ended or needs a person.
///
/// # Errors
/// `NotFound` for a plan that the settings lack; those of the library.
pub(super) async fn plan(engine: &Engine, request: &Request, verb: &PlanVerb, out: &Out) -> Result<Answer> {
    let reason = request.reason.as_deref().unwrap_or_default();
    let plans = engine.plans.clone().acting_as(&request.operator).because(reason);
    let begun = match verb {
        PlanVerb::List => return Ok(Answer::RecoveryPlans(list(engine))),
        PlanVerb::Show(told) => return show(engine, &told.name),
        PlanVerb::Drill(told) => {
            let point = told.point.map_or(PointChoice::LatestProcessed, choice);
            let (network, expires_after) = (told.network.clone(), told.expires.0);
            let wish = DrillRequest { point, network, expires_after, ..DrillRequest::default() };
            plans.drill(&told.name, find(engine, &told.name)?, wish).await
        }
        PlanVerb::CleanUp(told) => plans.clean_up(&told.name, find(engine, &told.name)?).await,
        PlanVerb::Failover(told) => {
            fail_over(engine, &plans, told, Direction::PrimaryToRecovery, request).await
        }
        PlanVerb::Failback(told) => {
            fail_over(engine, &plans, told, Direction::RecoveryToPrimary, request).await
        }
        PlanVerb::Commit(told) => {
            let wish = CommitRequest {
                require_good: told.require_good,
                purge_now: told.purge_now,
                force: told.force.then(|| request.force()).transpose()?,
                ..CommitRequest::default()
            };
            plans.commit(&told.name, find(engine, &told.name)?, wish).await
        }
        PlanVerb::Reprotect(told) => {
            let wish = ReprotectRequest {
                other_side_loses: told.other_side_loses,
                compare: told.compare,
                consolidate: told.consolidate,
                ..ReprotectRequest::default()
            };
            plans.reprotect(&told.name, find(engine, &told.name)?, wish).await
        }
        PlanVerb::Continue(told) => plans.go_on(&told.name).await,
        PlanVerb::Cancel(told) => plans.cancel(&told.name).await,
        PlanVerb::Complete(told) => plans.complete(&told.name, &told.action, &told.note).await,
    };
    follow(engine, &plans, begun.map_err(|error| follow::of_journal(engine, error))?, out).await
}

async fn fail_over(
    engine: &Engine,
    plans: &Plans,
    told: &PlanFailover,
    direction: Direction,
    request: &Request,
) -> Result<PlanRun> {
    let wish = over(&told.over, direction, false, request)?;
    plans.failover(&told.name, find(engine, &told.name)?, wish).await
}

fn find<'a>(engine: &'a Engine, name: &str) -> Result<&'a Plan> {
    engine.settings.plans.get(name).map(Spanned::get_ref).ok_or_else(|| unknown(engine, name))
}

/// Says which plans there are.
pub(super) fn unknown(engine: &Engine, name: &str) -> Error {
    let all: Vec<&str> = engine.settings.plans.keys().map(String::as_str).collect();
    let there =
        if all.is_empty() { "there is none".to_owned() } else { format!("these are: {}", all.join(", ")) };
    Error::new(ErrorKind::NotFound, format!("no plans.{name} is in the settings; {there}"))
}

/// Goes on with the runs that a crash interrupted, and gives them. Those that wait for a person are left to that person.
pub(super) async fn resume(engine: &Engine, out: &Out) -> Vec<PlanRun> {
    let under_way = |run: &PlanRun| run.state() == RunState::InProgress;
    let mut runs = vec![];
    if !engine.plans.list().iter().any(under_way) {
        return runs;
    }
    for (plan, resumed) in engine.plans.resume().await {
        match resumed {
            Ok(run) => runs.push(run),
            Err(error) => out.note(format!("the run of plan {plan} does not go on: {}", error.message())),
        }
    }
    runs.retain(under_way);
    runs
}

/// Whether a plan's run drives this job, and tells of it.
pub(super) fn has(engine: &Engine, job: &JobRun) -> bool {
    engine.plans.list().iter().any(|run| run.ended.is_none() && run.operator() == job.who)
}

/// Whether the run that this job belongs to waits for a person.
pub(super) fn rests(engine: &Engine, job: &JobRun) -> bool {
    let rests = |run: &PlanRun| matches!(run.state(), RunState::WaitingForManualAction | RunState::Stopped);
    engine.plans.list().iter().any(|run| rests(run) && run.operator() == job.who)
}

/// Follows a run, from where it was seen last, until it has ended or needs a person.
///
/// # Errors
/// Why this engine does not drive it any more.
pub(super) async fn follow(engine: &Engine, plans: &Plans, mut seen: PlanRun, out: &Out) -> Result<Answer> {
    let (name, mut asked) = (seen.plan.clone(), false);
    let resting = plans.wait(&name);
    tokio::pin!(resting);
    let run = loop {
        tokio::select! {
            biased;
            run = &mut resting => break run.map_err(|error| follow::of_journal(engine, error))?,
            () = out.stopped(), if !asked => {
                asked = true;
                turn_back(plans, &name, out).await;
            }
            () = SystemClock.sleep(TICK) => {
                let run = plans.status(&name)?;
                tell(&seen, &run, out);
                let machines = run.members.iter().flat_map(|member| &member.machines);
                let machines = machines.map(|of| of.machine.clone()).collect();
                follow::count(engine, &name, machines, out).await;
                seen = run;
            }
        }
    };
    tell(&seen, &run, out);
    if run.ended.is_some() {
        reports::of_plan(engine, &run, out).await;
    }
    Ok(Answer::PlanRun(Box::new(page(&run))))
}

async fn turn_back(plans: &Plans, name: &str, out: &Out) {
    match plans.cancel(name).await {
        Ok(_) => out.note("asked to turn back; waiting until it has. Ctrl-C again leaves at once"),
        Err(error) => {
            out.note(format!("it cannot turn back ({}); Ctrl-C again leaves at once", error.message()))
        }
    }
}

/// Tells what came between two looks, in the order in which it came.
fn tell(before: &PlanRun, now: &PlanRun, out: &Out) {
    let plan = &now.plan;
    // Of one moment: what has ended first, then a stage, then what has begun. When a member began to boot nobody has noted: it
    // boots still, so that nothing has come after it but what is of others.
    let (mut ended, mut begun, mut boots) = (vec![], vec![], vec![]);
    for (old, new) in before.members.iter().zip(&now.members) {
        if old.state != new.state {
            let why = new.error.as_ref().map_or(String::new(), |error| format!(": {}", error.message));
            let note = format!("{plan}: {} is {:?}{why}", new.name, new.state);
            match new.state {
                MemberState::Waiting | MemberState::Begun | MemberState::Prepared => {
                    begun.push((new.started, note));
                }
                MemberState::Booting => boots.push(note),
                _ => ended.push((new.ended, note)),
            }
        }
    }
    for new in &now.actions {
        let old = before.action(&new.name).map(|action| action.state);
        if old == Some(new.state) {
            continue;
        }
        let said = match new.state {
            ActionState::Running => "has begun".to_owned(),
            ActionState::Waiting => "waits for a person".to_owned(),
            ActionState::Done => "is done".to_owned(),
            ActionState::Failed => {
                format!("has failed: {}", new.error.as_ref().map_or("", |error| error.message.as_str()))
            }
            ActionState::PassedOver => "is passed over".to_owned(),
            ActionState::Dropped => "is dropped".to_owned(),
        };
        let note = format!("{plan}: the action {} {said}", new.name);
        match new.ended {
            Some(_) => ended.push((new.ended, note)),
            None => begun.push((Some(new.started), note)),
        }
    }
    let started = |(old, new): (&StageRun, &StageRun)| {
        let note = format!("{plan}: {}", stage(new.stage));
        (old.started.is_none() && new.started.is_some()).then_some((new.started, note))
    };
    let stages = before.stages.iter().zip(&now.stages).filter_map(started);
    let mut all: Vec<_> = ended.into_iter().chain(stages).chain(begun).collect();
    all.sort_by_key(|(at, _)| *at);
    for note in all.into_iter().map(|(_, note)| note).chain(boots) {
        out.note(note);
    }
    if before.course != now.course && now.course == Course::TurningBack {
        out.note(format!("{plan}: turning back"));
    }
}
