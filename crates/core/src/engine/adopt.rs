//! Control state from a replica alone: when the journal, or the site that had it, is lost.

use super::events::NoticeKind;
use super::shared::Slot;
use super::steps::PIN;
use super::turn::{Cause, Turn};
use super::vault::Vault;
use crate::state::{Divergence, Phase, Trigger};
use crate::{
    Control, Error, ErrorKind, Event, Finding, Item, MachineId, Owed, PhaseRecord, PointId, Prepared,
    Replica, Result, RoleName, Severity, Unit, UnitId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

/// What was adopted, and where the facts contradict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Machines that are in this vault's care now.
    pub machines: Vec<MachineId>,
    /// What an operator must decide.
    pub questions: Vec<Finding>,
}

impl Vault {
    /// Takes over every item that the replica of a leg knows, under a higher epoch: from the newest of each timeline's
    /// phase record and sealed manifests, there and beside the other legs' replicas that answer. A phase in flight becomes its failed one, from which a person chooses; machines
    /// that run against the record are told.
    ///
    /// # Errors
    /// Those of replica and journal; `Conflict` for a unit that this vault has already.
    pub async fn adopt(&self, leg: &str) -> Result<Adopted> {
        let (shared, replica) = (&self.shared, &self.shared.leg(leg)?.replica);
        let mut adopted = Adopted::default();
        let mut others: Vec<_> =
            shared.legs.values().filter(|l| l.replica.name() != replica.name()).collect();
        let mut units: BTreeMap<UnitId, Vec<PhaseRecord>> = BTreeMap::new();
        for machine in replica.machines().await? {
            if shared.slot_of(&machine).is_ok() {
                continue;
            }
            let mut known = beside(replica, &machine).await?;
            let mut answer = vec![];
            for other in others {
                let asked = beside(&other.replica, &machine);
                match shared.within(shared.deadlines.replica, "adopt", asked).await {
                    Ok(more) => {
                        known.extend(more);
                        answer.push(other);
                    }
                    // The side that is lost says nothing: it is not waited for again, and that is no consent.
                    Err(error) => {
                        let cause = format!("{} does not say what it knows: {error}", other.replica.name());
                        let remedy =
                            "something newer may stand there: look at its machines before anything starts";
                        let unheard = Finding::new("adopt.unheard", Severity::Critical, cause, remedy);
                        adopted.questions.push(unheard);
                        if error.kind() != ErrorKind::Unavailable {
                            answer.push(other);
                        }
                    }
                }
            }
            others = answer;
            let newest = known.into_iter().max_by_key(PhaseRecord::order);
            if let Some(record) = newest.filter(|r| r.control.item.state.phase != Phase::Unprotected) {
                units.entry(record.unit().clone()).or_default().push(record);
            }
        }
        for (id, records) in units {
            let first = &records[0].control;
            let is_group = first.members.len() > 1 || first.members[0].as_str() != id.as_str();
            let found = |m: &MachineId| records.iter().any(|r| r.control.item.id() == m);
            let missing: Vec<&MachineId> = first.members.iter().filter(|m| !found(m)).collect();
            for machine in missing {
                let cause = format!("{machine} of {id} is not known to {}", replica.name());
                adopted.questions.push(Finding::new(
                    "adopt.member-missing",
                    Severity::Critical,
                    cause,
                    "adopt its replica too",
                ));
            }
            let prepared =
                records.iter().filter_map(|r| Some((r.control.item.id().clone(), r.prepared.clone()?)));
            let prepared: BTreeMap<MachineId, Prepared> = prepared.collect();
            let members: Vec<Item> = records.into_iter().map(|r| r.control.item).collect();
            let unit = Unit::new(id, is_group, members);
            let name = unit.id.clone();
            if let Err(error) = self.take_over(unit, prepared, &mut adopted).await {
                // One unit that another engine holds does not keep the others from being adopted.
                let cause = format!("{name} was not adopted: {error}");
                let remedy = "see who holds it, and adopt again";
                adopted.questions.push(Finding::new("adopt.failed", Severity::Critical, cause, remedy));
            }
        }
        Ok(adopted)
    }

    async fn take_over(
        &self,
        unit: Unit,
        mut prepared: BTreeMap<MachineId, Prepared>,
        adopted: &mut Adopted,
    ) -> Result<()> {
        let shared = &self.shared;
        if shared.slots.read().expect("no panic under this lock").contains_key(&unit.id) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("this vault has a unit named {} already", unit.id),
            ));
        }
        let highest = unit.members.iter().map(|i| &i.epoch).max_by_key(|e| e.number).cloned();
        let highest = highest.ok_or_else(|| Error::new(ErrorKind::NotFound, "the unit has no member"))?;
        let epoch = highest.raised(&shared.id);
        let mut events = vec![];
        for item in &unit.members {
            let op = crate::Op {
                key: format!("{}/adopt-{}", item.id(), epoch.number).into(),
                epoch: epoch.clone(),
            };
            let leg = shared.leg_of(item)?;
            let far = shared.far_leg_of(item)?;
            let mut asked = BTreeSet::new();
            for leg in [&leg, &far] {
                let (replica, site) = (&leg.replica, &leg.recovery_site);
                if asked.insert(replica.name()) {
                    self.claim(replica.name(), replica.claim(&op, item.id()), adopted).await?;
                }
                if asked.insert(site.name()) {
                    self.claim(site.name(), site.claim(&op, item.id()), adopted).await?;
                }
            }
            events
                .push((item.id().clone(), Event::Began { trigger: Trigger::Adopted, epoch: epoch.clone() }));
            if let Some(Prepared { made_by, recovery }) = prepared.remove(item.id()) {
                let (point, why) = (recovery.point, PIN.to_owned());
                let site = leg.recovery_site.name();
                for owed in [
                    Owed::Withdraw { site, made_by, recovery },
                    Owed::Unpin { replica: leg.replica.name(), point, why },
                ] {
                    events.push((item.id().clone(), Event::Owes(owed)));
                }
            }
            for finding in self.contradictions(item).await {
                let watched = item.state.phase != Phase::MigrationCompleted;
                if watched && item.state.divergence != Divergence::Possible && finding.blocks() {
                    events.push((item.id().clone(), Event::Moved(Trigger::FoundPossible)));
                }
                adopted.questions.push(finding);
            }
        }
        let machines = unit.machines();
        let slot = Slot::new(unit, (0, 0));
        let turn = Turn::take(shared, &slot).await;
        turn.record(&Cause::engine("adopted"), &events, |_| {}).await?;
        shared.insert(&slot);
        adopted.machines.extend(machines);
        for finding in &adopted.questions {
            shared.bus.publish(shared.clock.now(), &slot.id, None, NoticeKind::Alert(finding.clone()));
        }
        Ok(())
    }

    /// Shuts out whoever was in charge there; who does not answer is told.
    async fn claim(
        &self,
        name: RoleName,
        claim: impl Future<Output = Result<()>>,
        adopted: &mut Adopted,
    ) -> Result<()> {
        match self.shared.within(self.shared.deadlines.replica, "claim", claim).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let cause = format!("{name} does not answer and knows nothing of this engine: {error}");
                let remedy = "whoever acted there before may still do so until it answers";
                adopted.questions.push(Finding::new("adopt.silent", Severity::Warning, cause, remedy));
                Ok(())
            }
            other => other,
        }
    }

    /// Machines that run against the record. Silence says nothing.
    async fn contradictions(&self, item: &Item) -> Vec<Finding> {
        let mut found = vec![];
        for instance in &item.instances {
            let runs = self.shared.runs(instance).await;
            let active = instance.is(item.active());
            match (active, runs) {
                (false, Ok(true)) => {
                    let cause = format!(
                        "{} runs at {}, though {} has write authority",
                        instance.name,
                        instance.site,
                        item.active().name
                    );
                    let remedy = "it is fenced by the next watch; say which side's writes count";
                    found.push(Finding::new("adopt.outsider", Severity::Critical, cause, remedy));
                }
                (true, Ok(false)) => {
                    let cause = format!("{} has write authority and does not run", instance.name);
                    found.push(Finding::new(
                        "adopt.active-off",
                        Severity::Warning,
                        cause,
                        "see that no other side runs, then start it, or go on from its state",
                    ));
                }
                _ => {}
            }
        }
        found
    }
}

/// What stands beside a replica of this machine: the phase record, and the newest point's manifest.
async fn beside(replica: &Arc<dyn Replica>, machine: &MachineId) -> Result<Vec<PhaseRecord>> {
    let mut known: Vec<PhaseRecord> = replica.recall(machine).await?.into_iter().collect();
    // Point zero was never sealed, and says nothing.
    if let Some(point) = replica.points(machine).await?.last().filter(|p| p.id != PointId(0)) {
        let control = replica.manifest(machine, point.id).await?.control;
        known.push(PhaseRecord { written: point.taken, run: None, prepared: None, control });
    }
    known.retain(|record| match record.speaks_of(machine) {
        Ok(()) => true,
        Err(why) => {
            tracing::warn!(replica = %replica.name(), %machine, why, "a record does not count for this machine");
            false
        }
    });
    Ok(known)
}

impl PhaseRecord {
    /// Whether it can be of this machine, which it stands beside.
    fn speaks_of(&self, machine: &MachineId) -> std::result::Result<(), String> {
        let Control { unit, members, item } = &self.control;
        if item.id() != machine {
            return Err(format!("it is of {}", item.id()));
        }
        if !members.contains(machine) {
            return Err(format!("it is of the unit {unit}, of which it names {members:?} as the members"));
        }
        if item.epoch.number == u64::MAX {
            return Err("its epoch is the last one: nothing can be raised above it".into());
        }
        Ok(())
    }
}
