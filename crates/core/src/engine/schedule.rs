//! Who drives replication: [`Vault::run`], until it is told to stop.

use super::events::NoticeKind;
use super::job::{self, Beginning};
use super::replicate::{Effort, needs_compare, replicate};
use super::retention::to_drop;
use super::shared::{Look, Shared, Slot};
use super::turn::{Cause, Turn};
use super::vault::Vault;
use super::{verify, watch};
use crate::state::{Direction, Divergence, Phase, Resync, Trigger};
use crate::{
    Consistency, Error, ErrorKind, Event, Finding, Item, Op, OpKey, Operation, Point, Policy, Request,
    Result, Severity, Timestamp, Unit,
};
use futures_util::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How often the vault looks for what is due.
const TICK: Duration = Duration::from_secs(1);
/// How soon it looks again where more was due than there was room for.
const SOON: Duration = Duration::from_millis(100);
/// How often instances that must not run are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(30);
/// How long a stop waits for cycles under way.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Points that a cycle looks through in the long run.
const LOOKED_THROUGH: usize = 256;

impl Vault {
    /// Replicates what is due, watches what must not run, cleans up what is owed, begins boot proofs, until `shutdown` ends. Then starts nothing
    /// new, waits a bounded while for cycles under way, and returns; what it left is picked up by the next one.
    ///
    /// # Cancel safety
    /// Dropping the future stops at once: what has landed stays landed.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let shared = &self.shared;
        let mut shutdown = pin!(shutdown);
        let mut watched = Timestamp(0);
        let all = shared.cycles.available_permits();
        loop {
            let now = shared.clock.now();
            let watch_due = now.since(watched) >= WATCH_EVERY;
            if watch_due {
                watched = now;
            }
            let (_, some_wait) = self.look(now, watch_due);
            let pause = if some_wait { SOON } else { TICK };
            match select(shutdown.as_mut(), shared.clock.sleep(pause)).await {
                Either::Left(_) => break,
                Either::Right(_) => {}
            }
        }
        let permits = shared.cycles.acquire_many(all as u32);
        let limit = shared.clock.sleep(STOP_WITHIN);
        if let Either::Right(_) = select(pin!(permits), pin!(limit)).await {
            tracing::warn!("cycles were still under way after {STOP_WITHIN:?}; they are picked up again");
        }
    }

    /// Starts what is due at `now`: a watch, a cycle, a boot proof, one after the other in one turn. What waits longest comes
    /// first: where there is room for less than is due, everybody's turn comes round. Returns how many cycles were started.
    pub fn tick(&self, now: Timestamp, watch_due: bool) -> usize {
        self.look(now, watch_due).0
    }

    /// As [`tick`](Vault::tick); and whether a cycle that is due found no room.
    fn look(&self, now: Timestamp, watch_due: bool) -> (usize, bool) {
        let (mut started, mut some_wait) = (0, false);
        let work = |slot: Arc<Slot>| Work { cycle: due(&slot, now), proof: verify::due(&slot, now), slot };
        let mut all: Vec<Work> = self.shared.all_slots().into_iter().map(work).collect();
        all.retain(|work| watch_due || work.cycle.is_some() || work.proof.is_some());
        all.sort_by_key(|work| (work.proof.is_none(), work.proof));
        let mut room = self.shared.proofs.available_permits();
        for work in &mut all {
            // One whose turn somebody has holds up nobody else's proof.
            let now = work.proof.is_some() && room > 0 && Turn::try_take(&self.shared, &work.slot).is_some();
            room -= usize::from(now);
            work.proof = work.proof.filter(|_| now);
        }
        all.sort_by_key(|work| (work.cycle.is_none(), work.cycle));
        for work in all {
            let slot = work.slot;
            let permit = |due: bool, of: &Arc<Semaphore>| {
                due.then(|| Arc::clone(of).try_acquire_owned().ok()).flatten()
            };
            let proof = permit(work.proof.is_some(), &self.shared.proofs);
            let permit = permit(work.cycle.is_some(), &self.shared.cycles);
            some_wait |= work.cycle.is_some() && permit.is_none();
            if !watch_due && permit.is_none() && proof.is_none() {
                continue;
            }
            let Some(turn) = Turn::try_take(&self.shared, &slot) else { continue };
            started += usize::from(permit.is_some());
            self.shared.spawner.spawn(Box::pin(async move {
                let (shared, slot) = (Arc::clone(&turn.shared), Arc::clone(&turn.slot));
                if watch_due && let Err(error) = watch::look(&turn).await {
                    tracing::warn!(unit = %slot.id, %error, "the watch could not finish");
                }
                if permit.is_some()
                    && let Err(error) = cycle(&turn, None).await
                {
                    tracing::warn!(unit = %slot.id, %error, "a cycle did not seal");
                }
                drop(permit);
                match proof {
                    Some(_until_it_ends) => verify::prove(turn).await,
                    None => drop(turn),
                }
                if watch_due {
                    repair_if_due(&shared, &slot).await;
                }
            }));
        }
        (started, some_wait)
    }

    /// One replication cycle of the unit of `item`, now, whether it is due or not.
    ///
    /// # Errors
    /// `Refused` where nothing replicates; why it did not seal.
    pub async fn replicate_now(&self, machine: &crate::MachineId) -> Result<()> {
        let slot = self.shared.slot_of(machine)?;
        let turn = Turn::take(&self.shared, &slot).await;
        cycle(&turn, None).await
    }

    /// As [`replicate_now`](Vault::replicate_now), asking for this consistency, whatever the policy would ask for now. A
    /// point that reached less is sealed all the same, and says so.
    ///
    /// # Errors
    /// `Refused` where nothing replicates; why it did not seal.
    pub async fn take_point(&self, machine: &crate::MachineId, want: Consistency) -> Result<()> {
        let slot = self.shared.slot_of(machine)?;
        let turn = Turn::take(&self.shared, &slot).await;
        cycle(&turn, Some(want)).await
    }

    /// Looks once at everything that must not run, and does what is owed.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn watch_now(&self) -> Result<()> {
        for slot in self.shared.all_slots() {
            if let Some(turn) = Turn::try_take(&self.shared, &slot) {
                watch::look(&turn).await?;
            }
            repair_if_due(&self.shared, &slot).await;
        }
        Ok(())
    }
}

/// A resync that is due begins by itself.
async fn repair_if_due(shared: &Arc<Shared>, slot: &Arc<Slot>) {
    let unit = slot.unit();
    let due = |i: &Item| {
        i.state.phase == Phase::Protected && matches!(i.state.resync, Resync::Required | Resync::Failed)
    };
    if unit.run.is_none() && unit.members.iter().any(due) {
        let repair = Beginning {
            operation: Operation::RepairReplication,
            request: Request::Plain,
            who: job::ENGINE.into(),
            by_engine: true,
        };
        if let Err(error) = job::begin(shared, slot, repair).await {
            tracing::debug!(unit = %slot.id, %error, "a resync waits");
        }
    }
}

pub(crate) fn policy(item: &Item) -> Policy {
    match item.state.direction {
        Direction::PrimaryToRecovery => item.policy.clone(),
        Direction::RecoveryToPrimary => {
            let back = Policy::failback();
            Policy {
                interval: item.policy.interval.min(back.interval),
                alarm: item.policy.alarm.clone(),
                ..back
            }
        }
    }
}

pub(crate) fn replicates(item: &Item) -> bool {
    let state = &item.state;
    state.phase == Phase::Protected
        && state.resync == Resync::None
        && state.divergence != Divergence::Possible
}

/// What may be due of a unit.
struct Work {
    slot: Arc<Slot>,
    cycle: Option<Waits>,
    proof: Option<Waits>,
}

/// Since when something that is due was not done. What was never done waits longest.
pub(super) type Waits = Option<Timestamp>;

fn due(slot: &Slot, now: Timestamp) -> Option<Waits> {
    let unit = slot.unit();
    let first = unit.members.first()?;
    if unit.run.is_some() && !unit.proves() || !unit.members.iter().all(replicates) {
        return None;
    }
    let last = slot.with_pulse(first.id(), |pulse| pulse.last_attempt);
    // A clock that was set back makes the next cycle due at once, never later.
    last.is_none_or(|last| is_over(last, policy(first).interval, now)).then_some(last)
}

/// Whether so much time is over since then, by a clock that may have been set back.
pub(crate) fn is_over(since: Timestamp, span: Duration, now: Timestamp) -> bool {
    now < since || now.since(since) >= span
}

/// Captures, ships, seals; then drops what the policy no longer keeps, as far as that goes: the cycle has sealed, whatever
/// becomes of it. Not an operation: its durable record is the point. Asks for the consistency that is due, where none is told.
pub(crate) async fn cycle(turn: &Turn, want: Option<Consistency>) -> Result<()> {
    let (shared, slot, unit) = (&turn.shared, &turn.slot, turn.unit());
    if let Some(item) = unit.members.iter().find(|i| !replicates(i)) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} does not replicate in {}", item.id(), item.state),
        ));
    }
    let first =
        unit.members.first().ok_or_else(|| Error::new(ErrorKind::NotFound, "the unit has no member"))?;
    tokio::select! {
        () = watch::sweep_once(turn) => {}
        () = slot.is_wanted() => {
            return Err(Error::new(ErrorKind::Cancelled, "the cycle gave way to an operation"));
        }
    }
    let leg = shared.leg_of(first)?;
    let now = shared.clock.now();
    let key = OpKey(format!("{}/cycle-{}-{:08x}", unit.id, now.0, shared.random.bits() as u32));
    let op = Op { key, epoch: first.epoch.clone() };
    slot.with_pulse(first.id(), |pulse| pulse.last_attempt = Some(now));
    let want = want.unwrap_or_else(|| wanted(slot, first, now));
    let cycle = replicate(shared, slot, &unit, leg, &op, want, Effort::Delta);
    let results = tokio::select! {
        results = cycle => results,
        () = slot.is_wanted() => {
            return Err(Error::new(ErrorKind::Cancelled, "the cycle gave way to an operation"));
        }
    };
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            slot.with_pulse(first.id(), |pulse| {
                let since = pulse.failing_since.take().map_or(now, |(since, _)| since);
                pulse.failing_since = Some((since, error.to_string()));
            });
            let notice = NoticeKind::CycleFailed { reason: error.to_string() };
            shared.bus.publish(now, &unit.id, Some(first.id()), notice);
            return Err(error);
        }
    };
    let doubted = results.values().any(|r| r.as_ref().is_err_and(needs_compare));
    if doubted {
        let events: Vec<_> =
            unit.members.iter().map(|i| (i.id().clone(), Event::Moved(Trigger::Doubted))).collect();
        turn.record(&Cause::engine("the changes since the last point are unknown"), &events, |_| {}).await?;
    }
    // A group is pruned by cut: only when all of it sealed this one, so that a common cut is always left.
    super::replicate::all_sealed(results)?;
    let prunes = async {
        for item in &unit.members {
            prune_due(turn, &unit, item).await;
        }
    };
    tokio::select! {
        () = prunes => {}
        // It is sealed; what is due goes with the next cycle.
        () = slot.is_wanted() => {}
    }
    Ok(())
}

fn wanted(slot: &Slot, item: &Item, now: Timestamp) -> Consistency {
    let last = slot.with_pulse(item.id(), |pulse| pulse.newest_application.max(pulse.tried_application));
    match policy(item).application_consistent {
        Some(every) if last.is_none_or(|last| now.since(last) >= every) => {
            // A guest that cannot be quiesced is asked again at the next turn, not at every cycle.
            slot.with_pulse(item.id(), |pulse| pulse.tried_application = Some(now));
            Consistency::Application
        }
        _ => Consistency::Crash,
    }
}

/// Drops what is due of one member. Points that stay too long are no failure of the cycle that sealed another one: health
/// tells of them until they go.
async fn prune_due(turn: &Turn, unit: &Unit, item: &Item) {
    let (shared, slot) = (&turn.shared, &turn.slot);
    let Err(error) = prune(turn, unit, item).await else {
        return slot.with_pulse(item.id(), |pulse| pulse.not_dropped = None);
    };
    tracing::warn!(machine = %item.id(), %error, "points that are due could not be dropped");
    let now = shared.clock.now();
    let first = slot.with_pulse(item.id(), |pulse| {
        let since = pulse.not_dropped.take().map(|(since, _)| since);
        pulse.not_dropped = Some((since.unwrap_or(now), error.to_string()));
        since.is_none()
    });
    if first {
        let finding = not_dropped(now, &error.to_string());
        shared.bus.publish(now, &unit.id, Some(item.id()), NoticeKind::Alert(finding));
    }
}

/// What health says of points that should be gone.
pub(crate) fn not_dropped(since: Timestamp, why: &str) -> Finding {
    let cause = format!("points that are due could not be dropped since {since}: {why}");
    let remedy = "mend the cause; they go by themselves, and take up space until then";
    Finding::new("points.not-dropped", Severity::Warning, cause, remedy)
}

/// A long history is looked through only now and then, so that each cycle costs the same however long it is: points go late
/// by a 256th of it at most.
async fn prune(turn: &Turn, unit: &Unit, item: &Item) -> Result<()> {
    let (shared, slot) = (&turn.shared, &turn.slot);
    let (policy, direction) = (policy(item), item.state.direction);
    let (waits, keep) = slot.with_pulse(item.id(), |pulse| {
        let look = pulse.next_look.take().filter(|l| l.policy == policy && l.direction == direction);
        let later = look.and_then(|l| Some(Look { in_cycles: l.in_cycles.checked_sub(1)?, ..l }));
        pulse.next_look = later;
        (pulse.next_look.is_some(), pulse.to_pin)
    });
    if waits {
        return Ok(());
    }
    let leg = shared.leg_of(item)?;
    let limit = shared.deadlines.replica;
    let listed = shared.within(limit, "points", leg.replica.points(item.id())).await?;
    let points = item.with_proofs(listed);
    let mut drop = to_drop(&points, &policy, shared.clock.now());
    drop.retain(|point| Some(*point) != keep);
    let mut dropped = vec![];
    if let [first, ..] = drop[..] {
        // Another list is another call.
        let last = drop.last().copied().unwrap_or(first);
        let op = item.op(format!("{}/prune-{first}-{last}-{}", item.id(), drop.len()));
        dropped = shared.within(limit, "prune", leg.replica.prune(&op, item.id(), &drop)).await?;
    }
    // A replica drops so many at once, and the rest with the next cycle.
    if dropped.len() == drop.len() {
        let look = Look { policy, direction, in_cycles: points.len() / LOOKED_THROUGH };
        slot.with_pulse(item.id(), |pulse| pulse.next_look = Some(look));
    }
    if !dropped.is_empty() {
        let kind = NoticeKind::Pruned { points: dropped.len() };
        shared.bus.publish(shared.clock.now(), &unit.id, Some(item.id()), kind);
    }
    let left: Vec<Point> = points.into_iter().filter(|p| !dropped.contains(&p.id)).collect();
    verify::forget(turn, item, &left).await
}
