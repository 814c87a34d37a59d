//! What is left on disk of each drill, failover and failback: `<state>/reports/`, a page and JSON.

use crate::engine::{Engine, Unit, name_of};
use crate::execute::Out;
use site_recovery::audit::AuditRecord;
use site_recovery::state::Direction;
use site_recovery::{
    Clock, Error, ErrorKind, Item, ItemHandle, JobId, JobRun, Operation, Result, SystemClock, Timestamp,
    UnitId,
};
use site_recovery_plans::{Action, ActionRun, ActionState, Does, Part, PlanRun, Stage};
use site_recovery_report::{ActionEnding, ActionPart, GroupPart, Job, PlanPart, Report, ReportBuilder};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Everything that a report says of one job.
struct Ran {
    unit: UnitId,
    run: JobRun,
    items: Vec<Item>,
    trail: Result<Vec<AuditRecord>>,
}

/// Reports what a job came to. A report that cannot be written is told, and fails nothing: the journal has it all.
pub(crate) async fn of_job(engine: &Engine, unit: &Unit, job: &JobId, out: &Out) {
    let Some(ran) = ran(engine, unit.unit(), job).await else { return };
    let Some(what) = what(ran.run.operation, direction(&ran)) else { return };
    let report = with_health(Report::of_job(&host(), SystemClock.now(), ran.job()), unit.items());
    write(engine, ran.run.started, what, &name_of(unit), report, out);
}

/// Reports what a run of a plan came to: all of its jobs as one, and its actions.
pub(crate) async fn of_plan(engine: &Engine, run: &PlanRun, out: &Out) {
    let Some(what) = what(run.operation, Some(run.direction)) else { return };
    let mut rans = vec![];
    for member in &run.members {
        if let Some(job) = &member.job {
            rans.extend(ran(engine, &member.unit, job).await);
        }
    }
    let Some((first, others)) = rans.split_first() else { return };
    let report = Report::of_job(&host(), SystemClock.now(), first.job());
    let mut report = others.iter().fold(report, |report, ran| report.job(ran.job()));
    if !run.why.is_empty() {
        report = report.why(&run.why);
    }
    let units = rans.iter().filter_map(|ran| engine.vault.group(ran.unit.as_str()).ok());
    report = with_health(report, units.flat_map(|unit| unit.items()));
    report = report.plan(plan_part(run), actions(run));
    write(engine, run.started, what, &run.plan, report, out);
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

fn direction(ran: &Ran) -> Option<Direction> {
    ran.items.first().map(|item| item.state.direction)
}

async fn ran(engine: &Engine, unit: &UnitId, job: &JobId) -> Option<Ran> {
    let handle = engine.vault.group(unit.as_str()).ok()?;
    let run = handle.run().into_iter().chain(handle.finished()).find(|run| run.id == *job)?;
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

fn plan_part(run: &PlanRun) -> PlanPart {
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
    PlanPart {
        name: run.plan.clone(),
        run: run.id.clone(),
        started: run.started,
        ended: run.ended,
        groups: groups.collect(),
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

fn write(engine: &Engine, at: Timestamp, what: &str, unit: &str, report: ReportBuilder<'_>, out: &Out) {
    let dir = engine.settings.reports();
    let file = dir.join(format!("{}-{what}-{}", plain(&at.to_string()), plain(unit)));
    let written = report.build().and_then(|report| both(&dir, &file, &report));
    match written {
        Ok(page) => out.note(format!("the report is {}", page.display())),
        Err(error) => {
            out.note(format!("warning: the report {}.html cannot be written: {error}", file.display()))
        }
    }
}

/// Each file is there whole, or not at all. The page is written last.
fn both(dir: &Path, file: &Path, report: &Report) -> Result<PathBuf> {
    let unwritten =
        |e: std::io::Error| Error::new(ErrorKind::Unavailable, "its directory takes no file").caused_by(e);
    std::fs::create_dir_all(dir).map_err(unwritten)?;
    let whole = |end: &str, text: &str| {
        let name = PathBuf::from(format!("{}.{end}", file.display()));
        let mut part = tempfile::NamedTempFile::new_in(dir).map_err(unwritten)?;
        part.write_all(text.as_bytes()).map_err(unwritten)?;
        part.persist(&name).map_err(|e| unwritten(e.error))?;
        Ok(name)
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
