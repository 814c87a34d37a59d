//! Verbs that only look.

use super::page;
use crate::answer::{Answer, AuditLine, PointLine, ReadyPage};
use crate::engine::{Engine, Unit, called};
use site_recovery::{Clock, ItemHandle, JobRun, Point, Result, SystemClock, Timestamp, UnitId};
use std::collections::BTreeMap;

pub(super) async fn show(unit: &Unit) -> Result<Answer> {
    let mut pages = vec![];
    for item in unit.items() {
        pages.push(page::page(&item, unit).await?);
    }
    Ok(Answer::Shown(pages))
}

pub(super) async fn ready(unit: &Unit) -> Result<Answer> {
    let mut pages = vec![];
    for item in unit.items() {
        let readiness = item.check_readiness().await?;
        pages.push(ReadyPage {
            machine: called(item.item()?),
            ready: readiness.is_ready(SystemClock.now()),
            expires: readiness.expires.to_string(),
            findings: readiness.findings,
        });
    }
    Ok(Answer::Ready(pages))
}

pub(super) async fn points(unit: &Unit) -> Result<Answer> {
    let (mut lines, now) = (vec![], SystemClock.now());
    for item in unit.items() {
        let machine = called(item.item()?);
        lines.extend(item.points().await?.iter().map(|point| line(&machine, point, now)));
    }
    Ok(Answer::Points(lines))
}

fn line(machine: &str, point: &Point, now: Timestamp) -> PointLine {
    PointLine {
        machine: machine.to_owned(),
        point: point.id.0,
        taken: point.taken.to_string(),
        age_seconds: now.since(point.taken).as_secs_f64(),
        consistency: format!("{:?}", point.consistency),
        boots: point.verified_boot.as_ref().map(|_| point.boots()),
        verified: point.verified,
        pins: point.pins.clone(),
        locked_until: point.locked_until.map(|until| until.to_string()),
    }
}

/// Jobs under way and the last ones, oldest first; of one unit, or of all.
pub(super) fn jobs(engine: &Engine, name: Option<&str>) -> Result<Answer> {
    let mut units: BTreeMap<UnitId, ItemHandle> = BTreeMap::new();
    let items = match name {
        Some(name) => engine.unit(name, "operator")?.items(),
        None => engine.vault.items(),
    };
    for item in items {
        units.entry(item.unit().clone()).or_insert(item);
    }
    let mut runs: Vec<(UnitId, JobRun)> = vec![];
    for (unit, item) in units {
        runs.extend(item.finished().into_iter().chain(item.run()).map(|run| (unit.clone(), run)));
    }
    runs.sort_by_key(|(_, run)| run.started);
    Ok(Answer::Jobs(runs.iter().map(|(unit, run)| page::job_line(unit, run)).collect()))
}

/// The trail of a unit.
///
/// # Errors
/// `Corrupt`, naming the record that was changed, added or removed.
pub(super) async fn audit(engine: &Engine, unit: &Unit) -> Result<Answer> {
    let trail = engine.vault.audit(unit.unit()).await?;
    let line = |record: &site_recovery::audit::AuditRecord| AuditLine {
        number: record.number,
        at: record.at.to_string(),
        who: record.who.clone(),
        why: record.why.clone(),
        machine: record.machine.to_string(),
        event: serde_json::to_value(&record.event).unwrap_or_default(),
        epoch: record.epoch.number,
        hash: record.hash.clone(),
    };
    Ok(Answer::Audit(trail.iter().map(line).collect()))
}
