//! What all parts of one engine share, and the turn by which a unit is changed.

use super::events::{Bus, NoticeKind};
use crate::alarm::Alarm;
use crate::audit::{AuditRecord, sha256_hex};
use crate::state::Direction;
use crate::{
    Append, Authorizer, Clock, Deadlines, EngineId, Error, ErrorKind, Event, GuestPreparation, Item, JobId,
    Journal, Leg, MachineId, Point, PointId, Policy, Random, Readiness, Report, Result, Sources, Spawner,
    Timestamp, Unit, UnitId, Validation, apply,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, oneshot, watch};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: EngineId,
    pub(crate) legs: BTreeMap<String, Leg>,
    pub(crate) sources: Sources,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) validation: Option<Arc<dyn Validation>>,
    pub(crate) preparation: Option<Arc<dyn GuestPreparation>>,
    pub(crate) deadlines: Deadlines,
    pub(crate) cycles: Arc<Semaphore>,
    pub(crate) bus: Bus,
    pub(crate) slots: RwLock<BTreeMap<UnitId, Arc<Slot>>>,
    pub(crate) homes: RwLock<BTreeMap<MachineId, UnitId>>,
}

/// One unit in memory: what was journalled last, and who may change it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: UnitId,
    now: RwLock<Arc<Unit>>,
    written: Mutex<(u64, u64)>,
    turn: Arc<tokio::sync::Mutex<()>>,
    wanted: AtomicUsize,
    asked: Notify,
    pub(crate) control: Mutex<Option<Arc<Control>>>,
    pub(crate) pulse: Mutex<BTreeMap<MachineId, Pulse>>,
}

/// The job under way, as seen from outside of it.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) job: JobId,
    cancelled: AtomicBool,
    stopped: AtomicBool,
    yields: AtomicBool,
    changed: Notify,
    pub(crate) done: watch::Sender<Option<Arc<Result<Report>>>>,
}

/// What replication has last seen of one machine. Never journalled: the sealed point is the durable record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse {
    pub(crate) newest: Option<Point>,
    pub(crate) newest_application: Option<Timestamp>,
    pub(crate) tried_application: Option<Timestamp>,
    pub(crate) last_attempt: Option<Timestamp>,
    pub(crate) failing_since: Option<(Timestamp, String)>,
    pub(crate) quiesce_failed: Option<String>,
    pub(crate) shipped: u64,
    pub(crate) changed: u64,
    pub(crate) readiness: Option<Readiness>,
    pub(crate) outsiders: Vec<String>,
    pub(crate) swept: bool,
    pub(crate) alarm: Alarm,
    /// When the points are looked through again for what is due; none: with the next cycle.
    pub(crate) next_look: Option<Look>,
    /// Since when, and why, points that are due could not be dropped.
    pub(crate) not_dropped: Option<(Timestamp, String)>,
    /// The last point before an alarm, until it is pinned.
    pub(crate) to_pin: Option<PointId>,
}

/// How many cycles go by until points are looked through: for the policy and the direction that it was counted for.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) policy: Policy,
    pub(crate) direction: Direction,
    pub(crate) in_cycles: usize,
}

impl Control {
    pub(crate) fn new(job: JobId) -> Arc<Self> {
        Arc::new(Self {
            job,
            cancelled: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            yields: AtomicBool::new(false),
            changed: Notify::new(),
            done: watch::channel(None).0,
        })
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// What fails from now on is not tried again.
    pub(crate) fn stop_retrying(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Something that cannot wait stands behind this job: also a call that is under way is not waited for.
    pub(crate) fn give_way(&self) {
        self.cancel();
        self.yields.store(true, Ordering::SeqCst);
        self.stop_retrying();
    }

    /// Whether nothing shall be tried again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) async fn gives_way(&self) {
        self.until(&self.yields).await;
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) async fn cancelled(&self) {
        self.until(&self.cancelled).await;
    }

    pub(crate) async fn stopped_retrying(&self) {
        self.until(&self.stopped).await;
    }

    async fn until(&self, set: &AtomicBool) {
        loop {
            let changed = self.changed.notified();
            if set.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }
}

impl Slot {
    pub(crate) fn new(unit: Unit, written: (u64, u64)) -> Arc<Self> {
        Arc::new(Self {
            id: unit.id.clone(),
            now: RwLock::new(Arc::new(unit)),
            written: Mutex::new(written),
            turn: Arc::default(),
            wanted: AtomicUsize::new(0),
            asked: Notify::new(),
            control: Mutex::default(),
            pulse: Mutex::default(),
        })
    }

    /// The unit as it was journalled last.
    pub(crate) fn unit(&self) -> Arc<Unit> {
        Arc::clone(&self.now.read().expect("no panic under this lock"))
    }

    /// Ends when an operator waits for the turn: a cycle gives way, an operation does not.
    pub(crate) async fn is_wanted(&self) {
        loop {
            let asked = self.asked.notified();
            if self.wanted.load(Ordering::SeqCst) > 0 {
                return;
            }
            asked.await;
        }
    }

    pub(crate) fn with_pulse<T>(&self, machine: &MachineId, see: impl FnOnce(&mut Pulse) -> T) -> T {
        see(self.pulse.lock().expect("no panic under this lock").entry(machine.clone()).or_default())
    }

    pub(crate) fn pulse(&self, machine: &MachineId) -> Pulse {
        self.with_pulse(machine, |p| p.clone())
    }
}

pub(crate) fn unit_subject(unit: &UnitId) -> String {
    format!("unit/{unit}")
}

pub(crate) fn audit_subject(unit: &UnitId) -> String {
    format!("audit/{unit}")
}

/// The right to change one unit: one operation at a time. Held by a job for as long as it runs, by a cycle or a watch for
/// one round.
pub(crate) struct Turn {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
    guard: Arc<OwnedMutexGuard<()>>,
}

/// An operator's wish for the turn, for as long as somebody waits for it.
struct Wish<'a>(&'a Slot);

impl<'a> Wish<'a> {
    fn of(slot: &'a Slot) -> Self {
        slot.wanted.fetch_add(1, Ordering::SeqCst);
        slot.asked.notify_waiters();
        Self(slot)
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who changes a unit, and why.
pub(crate) struct Cause {
    pub(crate) who: String,
    pub(crate) why: String,
    pub(crate) input: String,
}

impl Cause {
    pub(crate) fn engine(why: &str) -> Self {
        Self { who: "engine".into(), why: why.into(), input: String::new() }
    }

    pub(crate) fn of(unit: &Unit) -> Self {
        match &unit.run {
            Some(run) => Self {
                who: run.who.clone(),
                why: match run.request.force() {
                    Some(force) => format!("{:?}: {} ({})", run.operation, force.reason, force.operator),
                    None => format!("{:?}", run.operation),
                },
                input: sha256_hex(&serde_json::to_vec(&run.request).unwrap_or_default()),
            },
            None => Self::engine("watch"),
        }
    }
}

impl Turn {
    pub(crate) async fn take(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Turn {
        let guard = Arc::clone(&slot.turn).lock_owned().await;
        Turn { shared: Arc::clone(shared), slot: Arc::clone(slot), guard: Arc::new(guard) }
    }

    /// The turn for an operator: a cycle that is under way gives way. What it landed stays landed.
    pub(crate) async fn demand(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Turn {
        let _wish = Wish::of(slot);
        Turn::take(shared, slot).await
    }

    /// The turn, unless somebody has it.
    pub(crate) fn try_take(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Option<Turn> {
        let guard = Arc::clone(&slot.turn).try_lock_owned().ok()?;
        Some(Turn { shared: Arc::clone(shared), slot: Arc::clone(slot), guard: Arc::new(guard) })
    }

    pub(crate) fn unit(&self) -> Arc<Unit> {
        self.slot.unit()
    }

    /// Applies events and edits the run, journals both with their audit records in one write, and only then shows them.
    ///
    /// # Errors
    /// A refusal of the state machine, with nothing changed. Any error of the journal: then this engine must stop changing
    /// the unit, because it does not know what is written.
    pub(crate) async fn record(
        &self,
        cause: &Cause,
        events: &[(MachineId, Event)],
        edit: impl FnOnce(&mut Unit),
    ) -> Result<()> {
        let (now, before) = (self.shared.clock.now(), self.unit());
        let mut unit = (*before).clone();
        let mut trail = vec![];
        for (machine, event) in events {
            let item = unit.item_mut(machine).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("{machine} is not a member of {}", before.id))
            })?;
            *item = apply(item, event)?;
            let epoch = item.epoch.clone();
            let record = AuditRecord {
                number: unit.trail.0,
                at: now,
                who: cause.who.clone(),
                why: cause.why.clone(),
                machine: machine.clone(),
                event: event.clone(),
                input: cause.input.clone(),
                epoch,
                previous: unit.trail.1.clone(),
                hash: String::new(),
            }
            .sealed();
            unit.trail = (record.number + 1, record.hash.clone());
            trail.push(record);
        }
        edit(&mut unit);
        self.write(unit, trail).await?;
        for (machine, event) in events {
            self.shared.bus.publish(
                now,
                &self.slot.id,
                Some(machine),
                NoticeKind::Changed(Box::new(event.clone())),
            );
        }
        Ok(())
    }

    async fn write(&self, unit: Unit, trail: Vec<AuditRecord>) -> Result<()> {
        let (units, audits) = *self.slot.written.lock().expect("no panic under this lock");
        let entry = Append { subject: unit_subject(&unit.id), expect: units, entry: unit.to_bytes() };
        let mut all = vec![entry];
        for (at, record) in trail.iter().enumerate() {
            let entry = serde_json::to_vec(record).expect("plain data serialises");
            all.push(Append { subject: audit_subject(&unit.id), expect: audits + at as u64, entry });
        }
        // In a task of its own, with the turn: a caller that is dropped meanwhile must not leave this engine in doubt of
        // what is written.
        let (journal, slot, guard) =
            (Arc::clone(&self.shared.journal), Arc::clone(&self.slot), Arc::clone(&self.guard));
        let (done, written) = oneshot::channel();
        self.shared.spawner.spawn(Box::pin(async move {
            let appended = journal.append(&all).await;
            if appended.is_ok() {
                *slot.written.lock().expect("no panic under this lock") =
                    (units + 1, audits + trail.len() as u64);
                *slot.now.write().expect("no panic under this lock") = Arc::new(unit);
            }
            drop(guard);
            // Whoever waited may be gone.
            let _ = done.send(appended);
        }));
        written.await.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?
    }

    /// Folds everything that was journalled of the unit into its present form.
    pub(crate) async fn fold(&self) -> Result<()> {
        let (units, _) = *self.slot.written.lock().expect("no panic under this lock");
        let unit = self.unit();
        self.shared.journal.fold(&unit_subject(&unit.id), units, unit.to_bytes()).await
    }
}

impl Shared {
    pub(crate) fn slot_of(&self, machine: &MachineId) -> Result<Arc<Slot>> {
        let unit = self.homes.read().expect("no panic under this lock").get(machine).cloned();
        unit.and_then(|unit| self.slots.read().expect("no panic under this lock").get(&unit).cloned())
            .ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("{machine} is not protected by this vault"))
            })
    }

    pub(crate) fn all_slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().expect("no panic under this lock").values().cloned().collect()
    }

    pub(crate) fn insert(&self, slot: &Arc<Slot>) {
        let mut homes = self.homes.write().expect("no panic under this lock");
        for machine in slot.unit().machines() {
            homes.insert(machine, slot.id.clone());
        }
        self.slots.write().expect("no panic under this lock").insert(slot.id.clone(), Arc::clone(slot));
    }

    pub(crate) fn remove(&self, unit: &UnitId) {
        self.homes.write().expect("no panic under this lock").retain(|_, home| home != unit);
        self.slots.write().expect("no panic under this lock").remove(unit);
    }

    pub(crate) fn leg(&self, name: &str) -> Result<Leg> {
        self.legs.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.legs.keys().map(String::as_str).collect();
            Error::invalid("leg", name, &format!("this vault has {}", known.join(", ")), "name one of them")
        })
    }

    /// The leg that an item replicates over, or replicated over last.
    pub(crate) fn leg_of(&self, item: &Item) -> Result<Leg> {
        self.leg(match item.state.direction {
            crate::state::Direction::PrimaryToRecovery => &item.out,
            crate::state::Direction::RecoveryToPrimary => &item.back,
        })
    }

    /// The leg of the other direction.
    pub(crate) fn far_leg_of(&self, item: &Item) -> Result<Leg> {
        self.leg(match item.state.direction {
            crate::state::Direction::PrimaryToRecovery => &item.back,
            crate::state::Direction::RecoveryToPrimary => &item.out,
        })
    }

    /// The leg of the other direction, where a request names other legs for it.
    pub(crate) fn far_leg(&self, item: &Item, named: Option<&(String, String)>) -> Result<Leg> {
        match (named, item.state.direction) {
            (Some((_, back)), crate::state::Direction::PrimaryToRecovery) => self.leg(back),
            (Some((out, _)), crate::state::Direction::RecoveryToPrimary) => self.leg(out),
            (None, _) => self.far_leg_of(item),
        }
    }

    /// An answer within `limit`, or `Unavailable`. The call is no longer waited for, never taken back.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            answer = call => answer,
            () = self.clock.sleep(limit) => {
                Err(Error::new(ErrorKind::Unavailable, format!("{what}: no answer within {limit:?}")))
            }
        }
    }
}

/// Takes one member out of a unit into a unit of its own, in one write, so that it is never in both or in none.
pub(crate) async fn depart(turn: &Turn, alone: Unit, who: &str) -> Result<Arc<Slot>> {
    let mut rest = (*turn.unit()).clone();
    let machines = alone.machines();
    rest.members.retain(|i| !machines.contains(i.id()));
    let (units, _) = *turn.slot.written.lock().expect("no panic under this lock");
    let all = [
        Append { subject: unit_subject(&rest.id), expect: units, entry: rest.to_bytes() },
        Append { subject: unit_subject(&alone.id), expect: 0, entry: alone.to_bytes() },
    ];
    turn.shared.journal.append(&all).await?;
    turn.slot.written.lock().expect("no panic under this lock").0 += 1;
    *turn.slot.now.write().expect("no panic under this lock") = Arc::new(rest);
    let slot = Slot::new(alone, (1, 0));
    turn.shared.insert(&slot);
    tracing::warn!(group = %turn.slot.id, member = ?machines, who, "a member left its group; the group's point is no longer common");
    Ok(slot)
}
