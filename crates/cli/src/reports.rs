//! What is left on disk of each drill, failover and failback: `<state>/reports/`, a page and JSON.

use crate::engine::{Engine, Unit, name_of};
use crate::execute::{Out, because};
use site_recovery::audit::AuditRecord;
use site_recovery::state::Direction;
use site_recovery::{
    Clock, ErrorKind, Failure, Item, ItemHandle, JobId, JobRun, Operation, Result, SystemClock, UnitId,
};
use site_recovery_plans::{
    Action, ActionRun, ActionState, Does, MemberRun, MemberState, Outcome, Part, PlanRun, Stage,
};
use site_recovery_register::durable;
use site_recovery_report::{
    ActionEnding, ActionPart, Ending, GroupPart, Job, Left, LeftOut, PlanPart, Report, ReportBuilder,
};
use std::path::{Path, PathBuf};

/// Everything that a report says of one job.
struct Ran {
    unit: UnitId,
    run: JobRun,
    items: Vec<Item>,
    trail: Result<Vec<AuditRecord>>,
}

/// Reports what a job came to, and what the engine did by itself to take it back. A report that cannot be written is told,
/// and fails nothing: the journal has it all.
pub(crate) async fn of_job(engine: &Engine, unit: &Unit, job: &JobId, out: &Out) {
    let finished = unit.finished();
    for job in [job].into_iter().chain(undo_of(job, &finished)) {
        let Some(ran) = ran(engine, unit.unit(), job).await else { return };
        let report = Report::of_job(&host(), SystemClock.now(), ran.job());
        write(engine, &name_of(unit), with_health(report, unit.items()), out);
    }
}

/// The undo that followed a failover by itself, since its boot was refused.
fn undo_of<'a>(job: &JobId, finished: &'a [JobRun]) -> Option<&'a JobId> {
    let at = finished.iter().position(|run| run.id == *job && run.why.is_some())?;
    finished.get(at + 1).filter(|next| next.operation == Operation::UndoFailover).map(|next| &next.id)
}

/// Reports what a run of a plan came to: all of its jobs as one, its actions, and those that have no job.
pub(crate) async fn of_plan(engine: &Engine, run: &PlanRun, out: &Out) {
    if what(run.operation, None).is_none() {
        return;
    }
    let mut rans = vec![];
    for member in &run.members {
        if let Some(job) = &member.job {
            rans.extend(ran(engine, &member.unit, job).await);
        }
    }
    let report = Report::of_plan(&host(), SystemClock.now(), plan_part(run, &rans), actions(run));
    let mut report = rans.iter().fold(report, |report, ran| report.job(ran.job()));
    if !run.why.is_empty() {
        report = report.why(&run.why);
    }
    let units = rans.iter().filter_map(|ran| engine.vault.group(ran.unit.as_str()).ok());
    report = with_health(report, units.flat_map(|unit| unit.items()));
    write(engine, &run.plan, report, out);
}

/// What is reported, in the words of file names.
fn what(operation: Operation, direction: Option<Direction>) -> Option<&'static str> {
    Some(match (operation, direction) {
        (Operation::TestFailover, _) => "drill",
        (Operation::TestFailoverCleanup, _) => "clean-up",
        (Operation::PlannedFailover | Operation::UnplannedFailover, Some(Direction::RecoveryToPrimary)) => {
            "failback"
        }
        (Operation::PlannedFailover | Operation::UnplannedFailover, _) => "failover",
        (Operation::PromoteTestFailover, _) => "promoted-drill",
        (Operation::PromoteOther, _) => "last-resort",
        (Operation::UndoFailover, _) => "undo",
        (Operation::VerifyBoot, _) => "boot-proof",
        _ => return None,
    })
}

/// What is known of a job, if it is one that is reported.
async fn ran(engine: &Engine, unit: &UnitId, job: &JobId) -> Option<Ran> {
    let handle = engine.vault.group(unit.as_str()).ok()?;
    let run = handle.run().into_iter().chain(handle.finished()).find(|run| run.id == *job)?;
    what(run.operation, None)?;
    let items = handle.items().iter().filter_map(|item| item.item().ok()).collect();
    Some(Ran { unit: unit.clone(), run, items, trail: engine.vault.audit(unit).await })
}

impl Ran {
    fn job(&self) -> Job<'_> {
        Job { unit: &self.unit, run: &self.run, items: &self.items, trail: self.trail.as_deref() }
    }
}

fn with_health<'a>(
    report: ReportBuilder<'a>,
    items: impl IntoIterator<Item = ItemHandle>,
) -> ReportBuilder<'a> {
    let known = items.into_iter().filter_map(|item| item.summary().ok());
    known.fold(report, |report, summary| report.health(&summary))
}

fn plan_part(run: &PlanRun, rans: &[Ran]) -> PlanPart {
    let names = |stage| run.actions_of(stage).map(|action| action.name.clone()).collect();
    let groups = (1..=run.of.groups.len()).map(|number| GroupPart {
        name: group_name(number),
        machines: run
            .members
            .iter()
            .filter(|member| member.group == number)
            .flat_map(|member| member.machines.iter().map(|m| m.machine.clone()))
            .collect(),
        before: names(Stage::Before(Part::Group(number))),
        after: names(Stage::After(Part::Group(number))),
    });
    let left_out = run.members.iter().filter(|member| !rans.iter().any(|ran| ran.unit == member.unit));
    PlanPart {
        name: run.plan.clone(),
        run: run.id.clone(),
        operation: run.operation,
        direction: run.direction,
        request: run.request.clone(),
        who: run.operator(),
        started: run.started,
        ended: run.ended,
        outcome: came_to(run),
        groups: groups.collect(),
        left_out: left_out.map(without_job).collect(),
    }
}

/// What a run came to as a whole.
fn came_to(run: &PlanRun) -> Ending {
    let message = || because(run).unwrap_or_else(|| "it was cancelled".to_owned());
    let why = |kind| Failure { kind, temporary: false, message: message() };
    match &run.outcome {
        None => Ending::UnderWay,
        Some(Outcome::Done) => Ending::Done,
        Some(Outcome::Partly { .. }) => Ending::Failed { why: why(ErrorKind::Refused) },
        Some(Outcome::Cancelled { .. }) => Ending::Undone { why: why(ErrorKind::Cancelled) },
    }
}

fn without_job(member: &MemberRun) -> LeftOut {
    let lost = || member.job.as_ref().map(|job| format!("its job {job} is not in the journal any more"));
    let why = match &member.error {
        Some(why) if member.state == MemberState::Failed => Left::Refused { why: why.clone() },
        _ => {
            let told = member.note.clone().or_else(lost);
            Left::Skipped { reason: told.unwrap_or_else(|| "the run had ended before its turn".into()) }
        }
    };
    LeftOut {
        name: member.name.clone(),
        machines: member.machines.iter().map(|of| of.machine.clone()).collect(),
        why,
    }
}

fn group_name(number: usize) -> String {
    format!("boot group {number}")
}

/// The actions of the run, in its order.
fn actions(run: &PlanRun) -> Vec<ActionPart> {
    let of = |stage| {
        let group = match stage {
            Stage::Before(Part::Group(number)) | Stage::After(Part::Group(number)) => Some(number),
            _ => None,
        };
        run.actions_of(stage).map(move |action| action_part(action, group, run.action(&action.name)))
    };
    run.stages.iter().flat_map(|part| of(part.stage)).collect()
}

fn action_part(action: &Action, group: Option<usize>, run: Option<&ActionRun>) -> ActionPart {
    let error = |run: &ActionRun| run.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
    let ending = run.map(|run| match run.state {
        ActionState::Done => ActionEnding::Done,
        ActionState::Failed => ActionEnding::Failed { error: error(run) },
        ActionState::PassedOver => {
            ActionEnding::Skipped { reason: format!("passed over after it had failed: {}", error(run)) }
        }
        ActionState::Dropped => {
            ActionEnding::Skipped { reason: "the run was cancelled before its end".into() }
        }
        ActionState::Running | ActionState::Waiting => ActionEnding::Open,
    });
    let mut notes: Vec<String> = vec![];
    match &action.does {
        Does::Manual { instructions } => notes.push(instructions.clone()),
        Does::Command { program, .. } => notes.push(program.join(" ")),
        Does::Port { .. } | Does::Probe { .. } => {}
    }
    if let Some(run) = run {
        notes.extend(run.exit.map(|code| format!("exit code {code}")));
        notes.extend(Some(run.output.clone()).filter(|output| !output.is_empty()));
        notes.extend(run.note.clone());
    }
    ActionPart {
        name: action.name.clone(),
        kind: match action.does {
            Does::Command { .. } => "command",
            Does::Manual { .. } => "manual",
            Does::Port { .. } => "port",
            Does::Probe { .. } => "probe",
        }
        .into(),
        group: group.map(group_name),
        started: run.map(|run| run.started),
        ended: run.and_then(|run| run.ended),
        ending: ending.unwrap_or(ActionEnding::Skipped { reason: "the run had ended before".into() }),
        who: run.and_then(|run| run.completed_by.clone()),
        notes,
    }
}

/// Writes it under a name that says when, what and whose; nothing where its operation is not reported.
fn write(engine: &Engine, name: &str, report: ReportBuilder<'_>, out: &Out) {
    let written = report.build().and_then(|report| {
        let Some(what) = what(report.operation, report.direction) else { return Ok(None) };
        let file = format!("{}-{what}-{}", plain(&report.started.to_string()), plain(name));
        both(&engine.settings.reports().join(file), &report).map(Some)
    });
    match written {
        Ok(page) => page.iter().for_each(|page| out.note(format!("the report is {}", page.display()))),
        Err(error) => out.note(format!("warning: the report of {name} cannot be written: {error}")),
    }
}

/// Each file is there whole, or not at all. The page is written last.
fn both(file: &Path, report: &Report) -> Result<PathBuf> {
    let whole = |end: &str, text: &str| {
        let name = PathBuf::from(format!("{}.{end}", file.display()));
        durable::write_bytes(&name, text.as_bytes()).map(|()| name)
    };
    whole("json", &report.to_json())?;
    whole("html", &report.to_html())
}

/// Whose engine it is, for people.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A name as a part of a file's.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::{Course, Request, Timestamp};
    use std::collections::BTreeMap;

    fn run(id: &str, operation: Operation, failed: bool) -> JobRun {
        let why = Failure { kind: ErrorKind::Refused, temporary: false, message: "no quota is left".into() };
        JobRun {
            id: JobId::from(id),
            operation,
            request: Request::Plain,
            who: "ana".into(),
            started: Timestamp(0),
            ended: Some(Timestamp(1)),
            course: Course::Forward,
            why: failed.then_some(why),
            round: 0,
            tasks: vec![],
            members: BTreeMap::new(),
        }
    }

    #[test]
    fn the_undo_that_follows_a_failover_which_failed_is_reported_with_it() {
        use Operation::{PlannedFailover, UndoFailover};
        let over = JobId::from("over");
        let undo = |failed, next| {
            let finished = [run("before", UndoFailover, false), run("over", PlannedFailover, failed), next];
            undo_of(&over, &finished).cloned()
        };
        assert_eq!(undo(true, run("back", UndoFailover, false)), Some(JobId::from("back")));
        assert_eq!(undo(true, run("back", PlannedFailover, false)), None);
        // That one was asked for, and is reported for itself.
        assert_eq!(undo(false, run("back", UndoFailover, false)), None);
        assert_eq!(undo_of(&over, &[run("over", PlannedFailover, true)]), None);
    }
}
