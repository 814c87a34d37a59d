//! Looks after what must not run, under the unit's turn, so that it never acts beside an operation.

use super::describe;
use super::events::NoticeKind;
use super::job::{Beginning, open};
use super::readiness;
use super::runner::remember;
use super::turn::{Cause, Turn};
use crate::state::{Divergence, DrillState, Operation, Phase, Trigger};
use crate::{
    Armed, Consistency, ErrorKind, Event, Finding, Force, Instance, Item, Op, Owed, PointId, Power, Request,
    Result, Severity, Start, StartGuard,
};
use std::time::Duration;

/// One look at a unit: instances that must not run, machines that need tending, what is owed, a drill that has expired.
///
/// # Errors
/// Those of the journal. What a role does not answer is looked at again next time.
pub(crate) async fn look(turn: &Turn) -> Result<()> {
    tokio::select! {
        looked = all(turn) => looked,
        // An operation never waits for a side that does not answer; what is left is looked at next time.
        () = turn.slot.is_wanted() => Ok(()),
    }
}

async fn all(turn: &Turn) -> Result<()> {
    let unit = turn.unit();
    // A boot proof lends its turn while it looks at its guest; what it booted is to be tended.
    if unit.run.as_ref().is_some_and(|r| r.course != crate::workflow::Course::Parked) && !unit.proves() {
        return Ok(());
    }
    sweep_once(turn).await;
    let before: Vec<u64> = unit.members.iter().map(|i| i.revision).collect();
    for item in &unit.members {
        if item.state.phase == Phase::Protected
            && readiness::is_stale(&turn.slot, item.id(), turn.shared.clock.now())
        {
            if let Err(error) = describe::anew(turn, item).await {
                tracing::info!(machine = %item.id(), %error, "the machine could not be described anew");
            }
            let unit = turn.unit();
            let checked =
                readiness::check(&turn.shared, &turn.slot, unit.item(item.id()).unwrap_or(item)).await;
            if let Err(error) = checked {
                tracing::warn!(machine = %item.id(), %error, "readiness could not be checked");
            }
        }
        outsiders(turn, item).await?;
        owed(turn, item).await?;
        tend(turn, item).await;
    }
    // What was found stands beside the replica too: an engine that adopts must know of a divergence.
    if turn.unit().members.iter().map(|i| i.revision).ne(before)
        && let Err(error) = remember(turn, None).await
    {
        tracing::warn!(unit = %unit.id, %error, "what the watch has found is not beside the replica yet");
    }
    expire(turn).await
}

/// Captures that a crashed engine left: removed once in this engine's life, under the unit's turn, when none is in use.
pub(crate) async fn sweep_once(turn: &Turn) {
    let (shared, unit) = (&turn.shared, turn.unit());
    for item in unit.members.iter() {
        if turn.slot.with_pulse(item.id(), |pulse| pulse.swept) {
            continue;
        }
        let mut clean = true;
        for instance in &item.instances {
            let Some(source) = shared.sources.get(&instance.site) else { continue };
            let op = item.op(format!("{}/sweep-{}/{}", item.id(), shared.id, instance.name));
            let swept = source.sweep(&op, instance, &[]);
            match shared.within(shared.deadlines.source, "sweep", swept).await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    tracing::info!(machine = %item.id(), ?removed, "captures that nobody held are removed")
                }
                Err(e) if e.kind() == crate::ErrorKind::NotFound => {}
                Err(_) => clean = false,
            }
        }
        turn.slot.with_pulse(item.id(), |pulse| pulse.swept = clean);
        recall_newest(turn, item).await;
    }
}

/// What an engine that starts anew knows of the newest points, so that their age is told before the next one is sealed.
async fn recall_newest(turn: &Turn, item: &Item) {
    let shared = &turn.shared;
    let Ok(leg) = shared.leg_of(item) else { return };
    let points = shared.within(shared.deadlines.replica, "points", leg.replica.points(item.id())).await;
    let points = points.unwrap_or_default();
    let application = points.iter().rev().find(|p| p.consistency == Consistency::Application);
    turn.slot.with_pulse(item.id(), |pulse| {
        pulse.newest_application = pulse.newest_application.max(application.map(|p| p.taken));
        pulse.newest = pulse.newest.take().or_else(|| points.last().cloned());
    });
}

/// A start that is not ours: divergence, an alert, and a fence.
async fn outsiders(turn: &Turn, item: &Item) -> Result<()> {
    let shared = &turn.shared;
    let mut seen = vec![];
    for instance in item.must_not_run() {
        let Some(source) = shared.sources.get(&instance.site) else { continue };
        let power = shared.within(shared.deadlines.source, "power", source.power(instance)).await;
        if !matches!(power, Ok(Power::On)) {
            continue;
        }
        let unit = turn.unit();
        if let Err(error) = shared.in_charge(&unit).await {
            // It runs by another engine's leave, or might.
            tracing::error!(machine = %item.id(), instance = %instance.name, %error, "not ours to judge");
            continue;
        }
        seen.push(instance.name.clone());
        // Raised, so that nothing which was asked for before can still act on that side.
        let epoch = item.epoch.raised(&shared.id);
        let claimed = |i: &Item| (i.id().clone(), Event::Claimed(epoch.clone()));
        let mut events: Vec<_> = unit.members.iter().map(claimed).collect();
        if item.state.phase != Phase::MigrationCompleted {
            events.push((item.id().clone(), Event::Moved(Trigger::FoundPossible)));
        }
        events.push((item.id().clone(), Event::Seen(instance.clone())));
        if item.state.phase == Phase::Protected {
            events.push((item.id().clone(), Event::Moved(Trigger::Doubted)));
        }
        let fresh = !item.unproven.iter().any(|u| u.is(instance));
        if fresh {
            turn.record(&Cause::engine("an instance that must not run was seen running"), &events, |_| {})
                .await?;
            let cause =
                format!("{} runs at {}, and {} does too", instance.name, instance.site, item.active().name);
            let remedy = "it is fenced again; find out who started it, and which side's writes count";
            alert(turn, item, Finding::new("both-sides-running", Severity::Critical, cause, remedy));
        }
        let now = turn.unit();
        fence(turn, now.item(item.id()).unwrap_or(item), instance).await?;
    }
    turn.slot.with_pulse(item.id(), |pulse| pulse.outsiders = seen);
    Ok(())
}

/// Fences an instance, and notes it as proven where it reads back as off.
async fn fence(turn: &Turn, item: &Item, instance: &Instance) -> Result<()> {
    let shared = &turn.shared;
    let Some(source) = shared.sources.get(&instance.site) else { return Ok(()) };
    let op = item.op(format!("{}/watch-{}/{}", item.id(), item.revision, instance.name));
    let fenced = source.fence(&op, instance, Duration::ZERO);
    if shared.within(shared.deadlines.source, "fence", fenced).await.is_err() {
        return Ok(());
    }
    let power = shared.within(shared.deadlines.source, "power", source.power(instance)).await;
    let guarded = matches!(&power, Ok(Power::Off { start }) if *start != StartGuard::Free);
    if guarded && item.unproven.iter().any(|u| u.is(instance)) {
        let events = [(item.id().clone(), Event::Proven(instance.clone()))];
        turn.record(&Cause::engine("an instance answers, and is fenced"), &events, |_| {}).await?;
    }
    Ok(())
}

/// Lifts a fence that was asked for and not answered when a failover was taken back, and starts what ran before.
async fn lift(turn: &Turn, op: &Op, item: &Item, instance: &Instance) -> Result<()> {
    let shared = &turn.shared;
    if !instance.is(item.active()) || item.state.phase != Phase::Protected {
        return Ok(());
    }
    let Some(source) = shared.sources.get(&instance.site) else { return Ok(()) };
    let nobody = Force::by("engine", "the journal holds no intent to boot the other side");
    let op = op.part("lift");
    let clearance = shared.clear(&op, item, Some(instance), &[], Some(&nobody), Duration::ZERO).await?;
    source.unfence(&op, instance, clearance.permit, Start::AsBefore).await.map(drop)
}

/// Does what could not be done before.
async fn owed(turn: &Turn, item: &Item) -> Result<()> {
    let shared = &turn.shared;
    for unproven in &item.unproven {
        fence(turn, item, unproven).await?;
    }
    for owed in item.owed.iter().filter(|o| !o.is_of(item.active()) || matches!(o, Owed::Lift(_))) {
        let op = item.op(format!("{}/owed-{}", item.id(), item.epoch.number));
        let leg_at = |site| shared.legs.values().find(|l| &l.recovery_site.name() == site);
        let mut events = vec![(item.id().clone(), Event::Paid(owed.clone()))];
        let paid = match owed {
            Owed::Withdraw { site, made_by, recovery } => match leg_at(site) {
                Some(leg) => leg.recovery_site.withdraw(&op.part("withdraw"), made_by, recovery).await,
                None => continue,
            },
            Owed::Lift(instance) => lift(turn, &op, item, instance).await,
            Owed::Unpin { replica, point, why } => {
                match shared.legs.values().find(|l| &l.replica.name() == replica) {
                    Some(leg) => leg.replica.unpin(&op.part("unpin"), item.id(), *point, why).await,
                    None => continue,
                }
            }
            Owed::Fence(instance) => {
                let now = turn.unit();
                let unproven = now.item(item.id()).is_some_and(|i| i.unproven.iter().any(|u| u.is(instance)));
                if unproven {
                    continue;
                }
                let leg = shared.leg_of(item)?;
                // What it stands on, the site knows: no more is kept of it than its instance.
                let armed = Armed { instance: instance.clone(), cursor: None, point: PointId(0) };
                let aside = async {
                    leg.recovery_site.tend(&op.part("tend"), &armed, &leg.replica).await?;
                    leg.recovery_site.set_aside(&op.part("aside"), instance).await
                };
                match aside.await {
                    Ok(kept) => {
                        events.push((
                            item.id().clone(),
                            Event::SetAside { was: instance.clone(), kept, stands: leg.store.is_none() },
                        ));
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            // Its time is the reprotect's, which looks at it itself.
            Owed::Remove { .. } if item.promotion.is_some() => continue,
            Owed::Remove { site, instance, seen } => match leg_at(site) {
                Some(leg) => match shared.ran_since(instance, seen).await {
                    Ok(true) => {
                        let cause = format!("{} was started since the failback", instance.name);
                        let remedy = "it is kept; look what it wrote, then drop it by name";
                        alert(turn, item, Finding::new("kept-losing-side", Severity::Warning, cause, remedy));
                        Ok(())
                    }
                    Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                    Ok(false) | Err(_) => {
                        events.push((item.id().clone(), Event::Removed(instance.clone())));
                        leg.recovery_site.destroy(&op.part("remove"), instance).await
                    }
                },
                None => continue,
            },
        };
        match paid {
            Ok(()) => turn.record(&Cause::engine("what was owed is done"), &events, |_| {}).await?,
            Err(error) => tracing::info!(machine = %item.id(), %error, "still owed"),
        }
    }
    let now = turn.unit();
    if let Some(item) = now.item(item.id())
        && item.state.phase == Phase::Protected
        && item.state.divergence == Divergence::Possible
        && item.unproven.is_empty()
        && !item.owed.iter().any(|o| matches!(o, Owed::Fence(_)))
    {
        let events = [
            (item.id().clone(), Event::Moved(Trigger::Reconciled)),
            (item.id().clone(), Event::Moved(Trigger::Doubted)),
        ];
        let why = "the other side is fenced under this authority, and what it held is kept";
        turn.record(&Cause::engine(why), &events, |_| {}).await?;
    }
    Ok(())
}

/// Keeps alive what a booted machine needs of the replica until it is settled.
async fn tend(turn: &Turn, item: &Item) {
    let Ok(leg) = turn.shared.leg_of(item) else { return };
    let promotion =
        item.promotion.as_ref().filter(|p| !p.committed && p.recovery.is_some()).map(|p| &p.armed);
    let drill = item.drill.as_ref().and_then(|d| d.armed.as_ref());
    for armed in promotion.into_iter().chain(drill) {
        let op = item.op(format!("{}/tend-{}/{}", item.id(), item.epoch.number, armed.instance.name));
        if let Err(error) = leg.recovery_site.tend(&op, armed, &leg.replica).await {
            let cause = format!("{} may lose its disks: {error}", armed.instance.name);
            alert(
                turn,
                item,
                Finding::new("untended", Severity::Critical, cause, "see to the recovery site"),
            );
        }
    }
}

/// A drill whose time is over is cleaned up, and what is left of one that nobody drives.
async fn expire(turn: &Turn) -> Result<()> {
    let (unit, now) = (turn.unit(), turn.shared.clock.now());
    let over = |i: &Item| {
        let stands = !matches!(i.state.drill, DrillState::None | DrillState::Promoting);
        stands && i.drill.as_ref().is_none_or(|d| d.proof || now >= d.expires)
    };
    if unit.run.is_some() || !unit.members.iter().all(over) {
        return Ok(());
    }
    let cleanup = Beginning {
        operation: Operation::TestFailoverCleanup,
        request: Request::Plain,
        who: "engine: expired".into(),
        by_engine: true,
    };
    open(turn, cleanup).await?;
    let control = super::shared::Control::new(crate::JobId::from("expiry"));
    super::runner::drive(turn, &control).await.map(drop)
}

pub(crate) fn alert(turn: &Turn, item: &Item, finding: Finding) {
    tracing::error!(machine = %item.id(), code = finding.code, cause = finding.cause, "alert");
    turn.shared.bus.publish(
        turn.shared.clock.now(),
        &turn.slot.id,
        Some(item.id()),
        NoticeKind::Alert(finding),
    );
}
