//! Machines and their points.

use super::table::Table;
use super::{bytes, findings, seconds};
use crate::answer::{ItemLine, ItemPage, PointLine};
use std::fmt::Write;

pub(super) fn list(lines: &[ItemLine]) -> String {
    if lines.is_empty() {
        return "nothing is protected; `protect NAME` begins\n".to_owned();
    }
    let mut table = Table::new();
    table.row(["MACHINE", "STATE", "RUNS AT", "RPO", "HEALTH", "ALLOWED NOW"].map(str::to_owned));
    for line in lines {
        table.row([
            line.group.as_ref().map_or(line.machine.clone(), |group| format!("{group}/{}", line.machine)),
            state(line),
            line.runs_at.clone(),
            line.rpo_seconds.map_or("-".into(), seconds),
            line.health.clone(),
            if line.allowed.is_empty() { "-".into() } else { line.allowed.join(", ") },
        ]);
    }
    table.text()
}

/// The phase, and what is beside it.
fn state(line: &ItemLine) -> String {
    let mut text = line.phase.clone();
    let beside = [("drill", &line.drill), ("resync", &line.resync), ("divergence", &line.divergence)];
    for (name, value) in beside {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    }
    text
}

pub(super) fn page(page: &ItemPage) -> String {
    let line = &page.line;
    let mut table = Table::new();
    let mut row = |name: &str, value: String| table.row([format!("  {name}"), value]);
    row("state", state(line));
    row("direction", format!("{}, by {} and {}", line.direction, page.legs[0], page.legs[1]));
    row("runs at", line.runs_at.clone());
    let rpo = line.rpo_seconds.map_or("nothing replicates".into(), seconds);
    row("RPO", format!("{rpo}; a point every {}", seconds(page.interval_seconds)));
    let newest = line.newest_point.map_or(String::new(), |point| format!(", the newest is {point}"));
    let proven = page.proven_point.map_or(String::new(), |point| format!(", {point} was proven to boot"));
    row("points", format!("{}{newest}{proven}", page.points));
    row("health", line.health.clone());
    let disk = |d: &crate::answer::DiskLine| {
        format!("{} {}{}", d.id, bytes(d.bytes), if d.included { "" } else { " (left out)" })
    };
    row("disks", page.disks.iter().map(disk).collect::<Vec<_>>().join(", "));
    for instance in &page.instances {
        row("instance", format!("{} at {}: {}", instance.name, instance.site, instance.is));
    }
    for reach in &page.reach {
        row("reach", reach.clone());
    }
    for owed in &page.owed {
        row("owed", owed.clone());
    }
    if let Some(job) = &line.job {
        row("job", format!("{job} is under way"));
    } else if let Some(last) = &page.last_job {
        let why = last.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
        row("last job", format!("{} by {}, {}{why}", last.operation, last.who, last.state));
    }
    let allowed = if line.allowed.is_empty() { "nothing, a job is under way".into() } else { line.allowed.join(", ") };
    row("allowed", allowed);
    let group = line.group.as_ref().map_or(String::new(), |group| format!(", of the group {group}"));
    format!("{} ({}{group})\n{}{}", line.machine, line.id, table.text(), findings(&page.findings))
}

pub(super) fn points(lines: &[PointLine]) -> String {
    if lines.is_empty() {
        return "there is no point\n".to_owned();
    }
    let mut table = Table::new();
    table.row(["MACHINE", "POINT", "TAKEN", "AGE", "CONSISTENCY", "BOOTS", "KEPT FOR"].map(str::to_owned));
    for line in lines {
        let boots = line.boots.map_or("not tried", |boots| if boots { "yes" } else { "NO" });
        let locked = line.locked_until.as_ref().map(|until| format!("locked until {until}"));
        let kept: Vec<String> = line.pins.iter().cloned().chain(locked).collect();
        table.row([
            line.machine.clone(),
            line.point.to_string(),
            line.taken.clone(),
            seconds(line.age_seconds),
            if line.verified { line.consistency.clone() } else { format!("{}, not verified", line.consistency) },
            boots.to_owned(),
            if kept.is_empty() { "-".into() } else { kept.join(", ") },
        ]);
    }
    table.text()
}
