//! Follows a job to its end: tells what it does, and asks it to turn back when who asked wants to leave.

use super::words::at_most;
use super::{Out, page, plan};
use crate::answer::{Answer, Ended, JobPage, MemberLine, Told};
use crate::engine::{Engine, Unit, called_in, told_of_journal};
use site_recovery::{
    Clock, Delivery, Error, ErrorKind, Events, Job, MachineId, MemberReport, Notice, NoticeKind, Outcome,
    ProcessServer as _, Report, Result, SystemClock, UnitId,
};
use std::time::Duration;

/// How often bytes are counted.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Begins a job, and follows it.
///
/// # Errors
/// Those of the beginning; when the journal did not take a record of it.
pub(super) async fn begun(
    engine: &Engine,
    unit: &Unit,
    out: &Out,
    begin: impl Future<Output = Result<Job>>,
) -> Result<Answer> {
    let events = engine.vault.events();
    let job = begin.await.map_err(|error| of_journal(engine, error))?;
    watch(engine, job, unit, out, events).await
}

/// Follows one that is under way.
///
/// # Errors
/// As of [`begun`].
pub(super) async fn follow(engine: &Engine, job: Job, unit: &Unit, out: &Out) -> Result<Answer> {
    let events = engine.vault.events();
    watch(engine, job, unit, out, events).await
}

/// Goes on with everything that a crash interrupted, and waits until it is over or needs a person. What cannot go on is told, and
/// holds up nothing else: neither other jobs nor what was asked for, which is refused by itself where it needs that one.
pub(crate) async fn resume(engine: &Engine, out: &Out) {
    let (mut jobs, stays) = (vec![], |what: &str, error: &Error| {
        out.note(format!("{what} does not go on: {}", error.message()));
    });
    for (unit, resumed) in engine.vault.resume().await {
        match resumed {
            Ok(job) => jobs.push(job),
            Err(error) => stays(&format!("the job of {unit}"), &error),
        }
    }
    let runs = plan::resume(engine, out).await;
    for job in jobs {
        let Ok(unit) = engine.vault.group(job.unit().as_str()) else { continue };
        let unit = unit.acting_as("engine");
        // One that is held for its plan ends only with that.
        if unit.run().is_some_and(|run| plan::has(engine, &run)) {
            continue;
        }
        let what = format!("{} of {}", on_run(&unit), job.unit());
        out.note(format!("resuming {what}, which was interrupted"));
        match follow(engine, job, &unit, out).await {
            Ok(Answer::Job(page)) => {
                let end = match (page.outcome, page.why) {
                    (Ended::Done, _) => "done".to_owned(),
                    (Ended::Undone, why) => format!("undone: {}", why.unwrap_or_default()),
                    (Ended::NeedsPerson, why) => format!("needs a person: {}", why.unwrap_or_default()),
                };
                out.note(format!("resumed {what}: {end}"));
            }
            Ok(_) => {}
            Err(error) => stays(&what, &error),
        }
    }
    for run in runs {
        let what = format!("{:?} of plan {}", run.operation, run.plan);
        out.note(format!("resuming {what}, which was interrupted"));
        match plan::follow(engine, &engine.plans, run, out).await {
            Ok(Answer::PlanRun(page)) => {
                out.note(format!("resumed {what}: {}", crate::show::state_of(page.state)));
            }
            Ok(_) => {}
            Err(error) => stays(&what, &error),
        }
    }
}

/// Units whose job nobody drives.
pub(super) fn interrupted(engine: &Engine) -> usize {
    let left = |item: &site_recovery::ItemHandle| {
        let undriven = item.run().is_some_and(|run| run.course != site_recovery::Course::Parked);
        undriven && item.job().is_none() && !item.run().is_some_and(|run| plan::rests(engine, &run))
    };
    let units: std::collections::BTreeSet<_> =
        engine.vault.with_runs().into_iter().filter(left).map(|item| item.unit().clone()).collect();
    units.len()
}

fn on_run(unit: &Unit) -> String {
    unit.run().map_or_else(|| "a job".to_owned(), |run| format!("{:?}", run.operation))
}

async fn watch(engine: &Engine, job: Job, unit: &Unit, out: &Out, mut events: Events) -> Result<Answer> {
    let (began, mut asked) = (SystemClock.now(), false);
    let ended = job.wait();
    tokio::pin!(ended);
    let report = loop {
        tokio::select! {
            biased;
            ended = &mut ended => break ended.map_err(|error| of_journal(engine, error))?,
            delivery = events.next() => tell(&delivery, unit.unit(), out),
            () = out.stopped(), if !asked => {
                asked = true;
                turn_back(unit, out).await;
            }
            () = SystemClock.sleep(TICK) => {
                let machines = unit.items().iter().map(|item| item.id().clone()).collect();
                count(engine, unit.unit().as_str(), machines, out).await;
            }
        }
    };
    while let Some(delivery) = events.try_next() {
        tell(&delivery, unit.unit(), out);
    }
    let page = ended_page(&report, unit, SystemClock.now().since(began)).await;
    crate::reports::of_job(engine, unit, &report.job, out).await;
    Ok(Answer::Job(page))
}

/// The one clear behaviour of a first Ctrl-C.
async fn turn_back(unit: &Unit, out: &Out) {
    match unit.cancel().await {
        Ok(_) => out.note("asked to turn back; waiting until it has. Ctrl-C again leaves at once"),
        Err(error) => out.note(format!(
            "it cannot turn back any more ({}); waiting for its end. Ctrl-C again leaves at once, and the next start goes on",
            error.message()
        )),
    }
}

/// A journal that does not take a record ends the job here; the next start goes on with it.
pub(super) fn of_journal(engine: &Engine, error: Error) -> Error {
    match (error.role(), error.kind()) {
        (None, ErrorKind::OutOfSpace | ErrorKind::Unavailable) => {
            told_of_journal(&engine.settings.journal(), error)
        }
        _ => error,
    }
}

fn tell(delivery: &Delivery, unit: &UnitId, out: &Out) {
    let Delivery::Notice(notice) = delivery else { return };
    if notice.unit == *unit
        && let Some(told) = words_of(notice)
    {
        out.tell(told);
    }
}

fn words_of(notice: &Notice) -> Option<Told> {
    let unit = notice.unit.to_string();
    Some(match &notice.kind {
        NoticeKind::Job { what, .. } => Told::Step { unit, what: what.clone() },
        NoticeKind::Sealed { point, changed, shipped } => Told::Note(format!(
            "point {} sealed: {} changed, {} shipped",
            point.id,
            indicatif::HumanBytes(*changed),
            indicatif::HumanBytes(*shipped)
        )),
        NoticeKind::CycleFailed { reason } => Told::Note(format!("no point: {reason}")),
        NoticeKind::Alert(finding) => Told::Note(format!("alert: {}; {}", finding.cause, finding.remedy)),
        NoticeKind::Changed(_) | NoticeKind::Pruned { .. } | NoticeKind::Unpinned { .. } => return None,
    })
}

/// Tells the bytes of the transfers of these machines.
pub(super) async fn count(engine: &Engine, unit: &str, machines: Vec<MachineId>, out: &Out) {
    let (mut done, mut all) = (0, 0);
    for machine in machines {
        let lag = engine.process_server.lag(&machine).await.unwrap_or_default();
        done += lag.transfer.saturating_sub(lag.backlog);
        all += lag.transfer;
    }
    if all > 0 {
        out.tell(Told::Bytes { unit: unit.to_owned(), done, all });
    }
}

async fn ended_page(report: &Report, unit: &Unit, took: Duration) -> JobPage {
    let (outcome, why) = match &report.outcome {
        Outcome::Done => (Ended::Done, None),
        Outcome::Unwound { why } => (Ended::Undone, Some(why.message.clone())),
        Outcome::NeedsOperator { why } => (Ended::NeedsPerson, Some(why.message.clone())),
    };
    let member = |(machine, m): (&site_recovery::MachineId, &MemberReport)| MemberLine {
        machine: called_in(unit, machine),
        point: m.point.map(|p| p.0),
        loss_at_most_seconds: m.loss.as_ref().and_then(at_most),
        running: m.booted.as_ref().map(|b| b.running),
        reach: m.booted.as_ref().map_or(vec![], |b| b.reach.clone()),
        boots: m.proof.as_ref().map(site_recovery::BootProof::is_good),
        changed_bytes: m.changed,
        shipped_bytes: m.shipped,
        notes: m.notes.clone(),
    };
    JobPage {
        job: report.job.to_string(),
        operation: format!("{:?}", report.operation),
        outcome,
        why,
        seconds: took.as_secs_f64(),
        members: report.members.iter().map(member).collect(),
        items: page::lines(unit.items()).await,
    }
}
