//! What all parts of one engine share: its roles, and the units in memory.

use super::events::Bus;
use crate::alarm::Alarm;
use crate::state::Direction;
use crate::{
    Authorizer, Clock, Deadlines, EngineId, Error, ErrorKind, GuestPreparation, Item, JobId, Journal, Leg,
    MachineId, Point, PointId, Policy, Random, Readiness, Report, Result, Sources, Spawner, Timestamp, Unit,
    UnitId, Validation,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

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
    pub(crate) proofs: Arc<Semaphore>,
    pub(crate) bus: Bus,
    pub(crate) slots: RwLock<BTreeMap<UnitId, Arc<Slot>>>,
    pub(crate) homes: RwLock<BTreeMap<MachineId, UnitId>>,
}

/// One unit in memory: what was journalled last, and who may change it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: UnitId,
    pub(super) now: RwLock<Arc<Unit>>,
    pub(super) written: Mutex<(u64, u64)>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) wanted: AtomicUsize,
    pub(super) asked: Notify,
    pub(crate) control: Mutex<Option<Arc<Control>>>,
    /// Boxed: a leaf of the map has room for eleven.
    pub(crate) pulse: Mutex<BTreeMap<MachineId, Box<Pulse>>>,
}

/// The job under way, as seen from outside of it.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) job: JobId,
    cancelled: AtomicBool,
    stopped: AtomicBool,
    yields: AtomicBool,
    may_boot: AtomicBool,
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
    /// Whether no capture that nobody holds can be left of it.
    pub(crate) swept: bool,
    pub(crate) alarm: Alarm,
    /// When the points are looked through again for what is due; none: with the next cycle.
    pub(crate) next_look: Option<Look>,
    /// Since when, and why, points that are due could not be dropped.
    pub(crate) not_dropped: Option<(Timestamp, String)>,
    /// When the schedule last began a boot proof.
    pub(crate) proof_tried: Option<Timestamp>,
    /// Since when, and why, no boot proof that was due could be made.
    pub(crate) no_proof: Option<(Timestamp, String)>,
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
            may_boot: AtomicBool::new(false),
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

    /// Something stands behind this job that waits until what the job made is cleaned up.
    pub(crate) fn clear_up(&self) {
        self.cancel();
        self.stop_retrying();
    }

    /// Something that cannot wait stands behind this job: also a call that is under way is not waited for.
    pub(crate) fn give_way(&self) {
        self.cancel();
        self.yields.store(true, Ordering::SeqCst);
        self.stop_retrying();
    }

    /// Whether what stands behind this job does not wait for its clean-up either.
    pub(crate) fn yields(&self) -> bool {
        self.yields.load(Ordering::SeqCst)
    }

    /// Whether nothing shall be tried again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn let_boot(&self) {
        self.may_boot.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) async fn may_boot(&self) {
        self.until(&self.may_boot).await;
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

    /// Whether a job is under way in this engine. One that lends its turn is, too.
    pub(crate) fn is_driven(&self) -> bool {
        self.control.lock().expect("no panic under this lock").is_some()
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

    /// The point that replication sealed last, as far as this engine has seen.
    pub(crate) fn newest(&self, machine: &MachineId) -> Option<Point> {
        let pulses = self.pulse.lock().expect("no panic under this lock");
        pulses.get(machine).and_then(|pulse| pulse.newest.clone())
    }

    pub(crate) fn pulse(&self, machine: &MachineId) -> Pulse {
        let pulses = self.pulse.lock().expect("no panic under this lock");
        pulses.get(machine).map_or_else(Pulse::default, |pulse| (**pulse).clone())
    }
}

pub(crate) fn unit_subject(unit: &UnitId) -> String {
    format!("unit/{unit}")
}

pub(crate) fn audit_subject(unit: &UnitId) -> String {
    format!("audit/{unit}")
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

    /// These and no others: cheaper than one by one.
    pub(crate) fn fill(&self, slots: Vec<Arc<Slot>>) {
        let machines = |slot: &Arc<Slot>| {
            let unit = slot.unit();
            unit.members.iter().map(|item| (item.id().clone(), slot.id.clone())).collect::<Vec<_>>()
        };
        *self.homes.write().expect("no panic under this lock") = slots.iter().flat_map(machines).collect();
        let by_id = slots.into_iter().map(|slot| (slot.id.clone(), slot));
        *self.slots.write().expect("no panic under this lock") = by_id.collect();
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

    pub(crate) fn leg(&self, name: &str) -> Result<&Leg> {
        self.legs.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.legs.keys().map(String::as_str).collect();
            Error::invalid("leg", name, &format!("this vault has {}", known.join(", ")), "name one of them")
        })
    }

    /// The leg that an item replicates over, or replicated over last.
    pub(crate) fn leg_of(&self, item: &Item) -> Result<&Leg> {
        self.leg(item.leg())
    }

    /// The leg of the other direction.
    pub(crate) fn far_leg_of(&self, item: &Item) -> Result<&Leg> {
        self.leg(match item.state.direction {
            crate::state::Direction::PrimaryToRecovery => &item.back,
            crate::state::Direction::RecoveryToPrimary => &item.out,
        })
    }

    /// The leg of the other direction, where a request names other legs for it.
    pub(crate) fn far_leg(&self, item: &Item, named: Option<&(String, String)>) -> Result<&Leg> {
        match (named, item.state.direction) {
            (Some((_, back)), crate::state::Direction::PrimaryToRecovery) => self.leg(back),
            (Some((out, _)), crate::state::Direction::RecoveryToPrimary) => self.leg(out),
            (None, _) => self.far_leg_of(item),
        }
    }

    /// The leg of this direction in the next round, where a request names other legs for it: it reads where the far one lands.
    pub(crate) fn near_leg(&self, item: &Item, named: Option<&(String, String)>) -> Result<&Leg> {
        match (named, item.state.direction) {
            (Some((out, _)), crate::state::Direction::PrimaryToRecovery) => self.leg(out),
            (Some((_, back)), crate::state::Direction::RecoveryToPrimary) => self.leg(back),
            (None, _) => self.leg_of(item),
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
