//! The turn: who may change a unit, and how a change is written.

use super::events::NoticeKind;
use super::shared::{Shared, Slot, audit_subject, unit_subject};
use crate::audit::{AuditRecord, sha256_hex};
use crate::{Append, Error, ErrorKind, Event, MachineId, Result, Unit, apply};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedMutexGuard, oneshot};

/// The right to change one unit: one operation at a time. Held by a job for as long as it runs, by a cycle or a watch for
/// one round. A job lends it while it waits for something that changes nothing.
pub(crate) struct Turn {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
    guard: Mutex<Option<Arc<OwnedMutexGuard<()>>>>,
}

/// An operator's wish for the turn, for as long as somebody waits for it.
pub(crate) struct Wish<'a>(&'a Slot);

impl<'a> Wish<'a> {
    pub(crate) fn of(slot: &'a Slot) -> Self {
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
        Turn::with(shared, slot, Arc::clone(&slot.turn).lock_owned().await)
    }

    fn with(shared: &Arc<Shared>, slot: &Arc<Slot>, guard: OwnedMutexGuard<()>) -> Turn {
        let guard = Mutex::new(Some(Arc::new(guard)));
        Turn { shared: Arc::clone(shared), slot: Arc::clone(slot), guard }
    }

    /// Lends the turn to cycles and watches for as long as `meanwhile` takes, and takes it back.
    ///
    /// # Cancel safety
    /// Whoever drops the future has no turn any more, and must not change the unit.
    pub(crate) async fn lend<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        self.hold(None);
        let done = meanwhile.await;
        self.hold(Some(Arc::new(Arc::clone(&self.slot.turn).lock_owned().await)));
        done
    }

    fn hold(&self, guard: Option<Arc<OwnedMutexGuard<()>>>) {
        *self.guard.lock().expect("no panic under this lock") = guard;
    }

    /// The turn for an operator: a cycle that is under way gives way. What it landed stays landed.
    pub(crate) async fn demand(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Turn {
        let _wish = Wish::of(slot);
        Turn::take(shared, slot).await
    }

    /// The turn, unless somebody has it.
    pub(crate) fn try_take(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Option<Turn> {
        Some(Turn::with(shared, slot, Arc::clone(&slot.turn).try_lock_owned().ok()?))
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
        let (journal, slot) = (Arc::clone(&self.shared.journal), Arc::clone(&self.slot));
        let guard = self.guard.lock().expect("no panic under this lock").clone();
        let guard = guard.ok_or_else(|| Error::new(ErrorKind::Cancelled, "the turn is lent"))?;
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
