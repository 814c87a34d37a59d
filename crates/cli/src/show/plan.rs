//! Recovery plans and their runs.

use super::seconds;
use super::table::Table;
use crate::answer::{BootGroupLine, PlanLine, RecoveryPlanPage, RunMemberLine, RunPage, RunState};
use std::fmt::Write;

pub(super) fn list(lines: &[PlanLine]) -> String {
    if lines.is_empty() {
        return "the settings have no plan; docs/cli.md describes [plans.NAME]\n".to_owned();
    }
    let mut table = Table::new();
    table.row(["PLAN", "GROUPS", "MEMBERS", "NEWEST RUN", "STATE", "WHY"].map(str::to_owned));
    for line in lines {
        table.row([
            line.plan.clone(),
            if line.in_settings { line.groups.to_string() } else { "not in the settings".into() },
            line.members.to_string(),
            line.operation.clone().unwrap_or("-".into()),
            line.state.map_or("-".into(), |state| word(state).into()),
            line.why.clone().unwrap_or("-".into()),
        ]);
    }
    table.text()
}

pub(super) fn plan(page: &RecoveryPlanPage) -> String {
    let groups: String = page.groups.iter().map(group).collect();
    let run = page.run.as_ref().map_or("it was never run\n".to_owned(), run);
    format!("{}\n{groups}{run}", page.plan)
}

fn group(line: &BootGroupLine) -> String {
    let member = |m: &crate::answer::PlanMemberLine| {
        let after = if m.after.is_empty() { String::new() } else { format!(" after {}", m.after.join(", ")) };
        format!("{}{after}{}", m.unit, if m.protected { "" } else { " (NOT PROTECTED)" })
    };
    let mut table = Table::new();
    let mut row = |name: &str, value: String| table.row([format!("    {name}"), value]);
    if !line.before.is_empty() {
        row("before", line.before.join(", "));
    }
    row("members", line.members.iter().map(member).collect::<Vec<_>>().join("; "));
    if !line.after.is_empty() {
        row("after", line.after.join(", "));
    }
    format!("  boot group {}\n{}", line.group, table.text())
}

pub(super) fn run(page: &RunPage) -> String {
    let mut text = format!("{} {} {}", page.plan, page.operation, word(page.state));
    if let Some(because) = &page.because {
        let _ = write!(text, ": {because}");
    }
    text.push('\n');
    let mut table = Table::new();
    for line in &page.members {
        table.row([format!("  {}", line.member), line.group.to_string(), line.state.clone(), said(line)]);
    }
    for line in &page.actions {
        let by = line.completed_by.as_ref().map(|who| format!("by {who}"));
        let said: Vec<String> = line
            .exit
            .map(|code| format!("exit code {code}"))
            .into_iter()
            .chain(by)
            .chain(line.why.clone())
            .chain(line.note.clone())
            .collect();
        table.row([format!("  {}", line.action), "action".into(), line.state.clone(), said.join("; ")]);
    }
    text += &table.text();
    match (page.state, &page.waits_for) {
        (RunState::Waiting, Some(waits)) => {
            let _ = writeln!(text, "to be done: {}", waits.instructions);
            let _ = writeln!(text, "then: plan complete {} {} --note TEXT", page.plan, waits.action);
        }
        (RunState::Stopped, _) => {
            let _ = writeln!(text, "then: plan continue {0}, or plan cancel {0}", page.plan);
        }
        _ => {}
    }
    text
}

fn said(line: &RunMemberLine) -> String {
    let mut said: Vec<String> = vec![];
    for machine in &line.machines {
        let name =
            if machine.machine == line.member { String::new() } else { format!("{}: ", machine.machine) };
        said.extend(machine.point.map(|point| format!("{name}point {point}")));
        said.extend(machine.loss_at_most_seconds.map(|most| match most {
            0.0 => "nothing is lost".to_owned(),
            most => format!("at most {} are lost", seconds(most)),
        }));
        said.extend(machine.reach.iter().map(|reach| format!("reach it at {reach}")));
    }
    said.extend(line.why.clone());
    said.extend(line.note.clone());
    said.join("; ")
}

/// How a run stands, for people.
pub(crate) fn word(state: RunState) -> &'static str {
    match state {
        RunState::UnderWay => "under way",
        RunState::Waiting => "WAITS FOR A PERSON",
        RunState::Stopped => "STOPPED, AND NEEDS A PERSON",
        RunState::Done => "done",
        RunState::Partly => "done IN PART",
        RunState::Cancelled => "CANCELLED",
    }
}
