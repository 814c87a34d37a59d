//! Machines as they are shown.

use super::words;
use crate::answer::{DiskLine, InstanceLine, ItemLine, ItemPage, JobLine};
use crate::engine::Unit;
use site_recovery::state::{Divergence, DrillState, Phase, Resync};
use site_recovery::{
    Clock, Instance, Item, ItemHandle, JobRun, JobState, Point, Result, Summary, SystemClock, UnitId,
};
use tokio::task::JoinSet;

/// Machines at a glance, by name, put together on all processors. One that has left meanwhile is left out.
pub(super) async fn lines(items: Vec<ItemHandle>) -> Vec<ItemLine> {
    let newest = ItemHandle::newest_points(&items).await;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(processors).max(1);
    let (mut told, mut parts) = (items.into_iter().zip(newest), JoinSet::new());
    loop {
        let part: Vec<_> = told.by_ref().take(share).collect();
        if part.is_empty() {
            break;
        }
        parts.spawn(async move { part.into_iter().filter_map(line).collect::<Vec<ItemLine>>() });
    }
    let mut lines: Vec<ItemLine> = parts.join_all().await.into_iter().flatten().collect();
    lines.sort_by(|a, b| (&a.group, &a.machine, &a.id).cmp(&(&b.group, &b.machine, &b.id)));
    lines
}

fn line((handle, newest): (ItemHandle, Result<Option<Point>>)) -> Option<ItemLine> {
    let summary = handle.summary().ok()?;
    // What the engine has seen itself is of the same instant as the rest of the line.
    let seen = summary.newest.as_ref().map(|newest| (newest.point.0, newest.age.as_secs_f64()));
    let newest = seen.or_else(|| newest.ok().flatten().map(|point| aged(&point)));
    Some(of(&handle, &summary, newest))
}

/// Number and age in seconds.
fn aged(point: &Point) -> (u64, f64) {
    (point.id.0, SystemClock.now().since(point.taken).as_secs_f64())
}

fn of(handle: &ItemHandle, summary: &Summary, newest: Option<(u64, f64)>) -> ItemLine {
    let (state, machine) = (summary.state, &summary.description);
    let age = newest.map(|(_, age)| age).filter(|_| state.phase == Phase::Protected);
    ItemLine {
        machine: machine.called().to_owned(),
        id: machine.id().to_string(),
        group: group(handle),
        phase: state.phase.to_string(),
        direction: format!("{:?}", state.direction),
        runs_at: machine.instance.site.to_string(),
        drill: (state.drill != DrillState::None).then(|| format!("{:?}", state.drill)),
        resync: (state.resync != Resync::None).then(|| format!("{:?}", state.resync)),
        divergence: (state.divergence != Divergence::None).then(|| format!("{:?}", state.divergence)),
        health: format!("{:?}", summary.health.level),
        rpo_seconds: age,
        newest_point: newest.map(|(point, _)| point),
        job: summary.run.as_ref().map(|run| format!("{:?}", run.operation)),
        allowed: words::allowed(&summary.allowed, state.direction),
    }
}

fn group(handle: &ItemHandle) -> Option<String> {
    let unit = handle.unit();
    (unit.as_str() != handle.id().as_str()).then(|| unit.to_string())
}

/// One machine, whole.
///
/// # Errors
/// `NotFound` once it has left.
pub(super) async fn page(handle: &ItemHandle, unit: &Unit) -> Result<ItemPage> {
    let (item, summary) = (handle.item()?, handle.summary()?);
    let points = handle.points().await.unwrap_or_default();
    let newest = points.last().map(aged);
    let instances = item.instances.iter().map(|instance| instance_line(&item, instance)).collect();
    let disk = |d: &site_recovery::DiskSummary| DiskLine {
        id: d.id.to_string(),
        bytes: d.size,
        included: d.included,
    };
    let (booted, drilled) = (item.promotion.as_ref().and_then(|p| p.booted.as_ref()), item.drill.as_ref());
    let reach = booted.into_iter().chain(drilled.and_then(|d| d.booted.as_ref()));
    Ok(ItemPage {
        line: of(handle, &summary, newest),
        legs: [item.out.clone(), item.back.clone()],
        interval_seconds: summary.policy.interval.as_secs_f64(),
        points: points.len(),
        proven_point: summary.proven.as_ref().map(|(point, _)| point.0),
        disks: summary.disks.iter().map(disk).collect(),
        instances,
        reach: reach.flat_map(|b| b.reach.clone()).collect(),
        findings: summary.health.findings.clone(),
        owed: summary.owed.iter().map(ToString::to_string).collect(),
        last_job: unit.finished().last().map(|run| job_line(unit.unit(), run)),
    })
}

fn instance_line(item: &Item, instance: &Instance) -> InstanceLine {
    let is = match instance {
        i if i.is(item.active()) => "active",
        i if item.kept.iter().any(|kept| kept.is(i)) => "set aside",
        i if item.unproven.iter().any(|unproven| unproven.is(i)) => "not proven off",
        _ => "off",
    };
    InstanceLine { name: instance.name.clone(), site: instance.site.to_string(), is: is.to_owned() }
}

/// A job, as a line.
pub(super) fn job_line(unit: &UnitId, run: &JobRun) -> JobLine {
    let state = match run.state() {
        JobState::Suspended if run.holds_boot() => "held before its boot",
        JobState::Suspended => "needs a person",
        JobState::InProgress => "under way",
        JobState::Succeeded => "done",
        JobState::Cancelled => "cancelled",
        JobState::Failed => "failed",
    };
    JobLine {
        job: run.id.to_string(),
        unit: unit.to_string(),
        operation: format!("{:?}", run.operation),
        who: run.who.clone(),
        started: run.started.to_string(),
        ended: run.ended.map(|at| at.to_string()),
        state: state.to_owned(),
        step: run.ended.is_none().then(|| run.tasks.last().map(|task| format!("{:?}", task.step))).flatten(),
        why: run.why.as_ref().map(|why| why.message.clone()),
    }
}
