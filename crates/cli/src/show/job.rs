//! Jobs, plans and the audit trail.

use super::table::Table;
use super::{bytes, item, seconds};
use crate::answer::{AuditLine, Ended, JobLine, JobPage, MemberLine, PlanPage};
use std::fmt::Write;

pub(super) fn page(page: &JobPage) -> String {
    let end = match page.outcome {
        Ended::Done => "done",
        Ended::Undone => "UNDONE",
        Ended::NeedsPerson => "NEEDS A PERSON",
    };
    let mut text = format!("{} {end} in {:.1} s", page.operation, page.seconds);
    if let Some(why) = &page.why {
        let _ = write!(text, ": {why}");
    }
    text.push('\n');
    for member in &page.members {
        text += &of(member);
    }
    if !page.items.is_empty() {
        text += &item::list(&page.items);
    }
    text
}

fn of(member: &MemberLine) -> String {
    let mut said: Vec<String> = vec![];
    said.extend(member.point.map(|point| format!("point {point}")));
    said.extend(member.loss_at_most_seconds.map(loss));
    if member.shipped_bytes > 0 || member.changed_bytes > 0 {
        said.push(format!("{} changed, {} shipped", bytes(member.changed_bytes), bytes(member.shipped_bytes)));
    }
    said.extend(member.running.map(|running| if running { "it runs" } else { "it does NOT run" }.to_owned()));
    said.extend(member.boots.map(|boots| if boots { "it boots" } else { "it does NOT boot" }.to_owned()));
    said.extend(member.reach.iter().map(|reach| format!("reach it at {reach}")));
    let mut text = match said.is_empty() {
        true => String::new(),
        false => format!("  {}: {}\n", member.machine, said.join("; ")),
    };
    for note in &member.notes {
        let _ = writeln!(text, "  {}: {note}", member.machine);
    }
    text
}

fn loss(at_most: f64) -> String {
    if at_most == 0.0 { "nothing is lost".into() } else { format!("at most {at_most:.1} s are lost") }
}

pub(super) fn plan(page: &PlanPage) -> String {
    let mut table = Table::new();
    let mut row = |name: &str, value: String| table.row([format!("  {name}"), value]);
    row("steps", page.steps.join(", "));
    for point in &page.points {
        let which = point.point.map_or("what is left".into(), |number| format!("point {number}"));
        let taken = point.taken.as_ref().map_or(String::new(), |taken| format!(" of {taken}"));
        let lost = point.loss_at_most_seconds.map_or(String::new(), |most| format!("; {}", loss(most)));
        row(&point.machine, format!("{which}{taken}{lost}"));
    }
    for (name, machines) in [("stops", &page.stops), ("starts", &page.starts), ("removes", &page.removes)] {
        if !machines.is_empty() {
            row(name, machines.join(", "));
        }
    }
    if let Some(downtime) = page.downtime_seconds {
        row("downtime", format!("{}, as measured the last time", seconds(downtime)));
    }
    format!("{} would do this:\n{}", page.operation, table.text())
}

pub(super) fn jobs(lines: &[JobLine]) -> String {
    if lines.is_empty() {
        return "there was no job yet\n".to_owned();
    }
    let mut table = Table::new();
    table.row(["STARTED", "UNIT", "OPERATION", "WHO", "STATE", "STEP", "WHY"].map(str::to_owned));
    for line in lines {
        table.row([
            line.started.clone(),
            line.unit.clone(),
            line.operation.clone(),
            line.who.clone(),
            line.state.clone(),
            line.step.clone().unwrap_or("-".into()),
            line.why.clone().unwrap_or("-".into()),
        ]);
    }
    table.text()
}

pub(super) fn audit(lines: &[AuditLine]) -> String {
    let mut table = Table::new();
    table.row(["NUMBER", "AT", "WHO", "WHY", "EVENT"].map(str::to_owned));
    for line in lines {
        let event = match &line.event {
            serde_json::Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
            serde_json::Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        table.row([line.number.to_string(), line.at.clone(), line.who.clone(), line.why.clone(), event]);
    }
    format!("{}the trail of {} records is whole\n", table.text(), lines.len())
}
