//! Control state from a replica alone: when the journal, or the site that had it, is lost.

use super::events::NoticeKind;
use super::shared::{Cause, Slot, Turn};
use super::vault::Vault;
use crate::state::{Divergence, Trigger};
use crate::{
    Control, Error, ErrorKind, Event, Finding, Item, MachineId, PhaseRecord, Result, Severity, Unit, UnitId,
};
use std::collections::BTreeMap;

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
    /// phase record and sealed manifests. A phase in flight becomes its failed one, from which a person chooses; machines
    /// that run against the record are told.
    ///
    /// # Errors
    /// Those of replica and journal; `Conflict` for a unit that this vault has already.
    pub async fn adopt(&self, leg: &str) -> Result<Adopted> {
        let replica = self.shared.leg(leg)?.replica;
        let mut units: BTreeMap<UnitId, Vec<Control>> = BTreeMap::new();
        for machine in replica.machines().await? {
            if self.shared.slot_of(&machine).is_ok() {
                continue;
            }
            let record: Option<Control> = replica.recall(&machine).await?.map(PhaseRecord::into);
            let newest = match replica.points(&machine).await?.last() {
                Some(point) => Some(replica.manifest(&machine, point.id).await?.control),
                None => None,
            };
            let order = |c: &Control| (c.item.epoch.number, c.item.revision);
            if let Some(control) = record.into_iter().chain(newest).max_by_key(order) {
                units.entry(control.unit.clone()).or_default().push(control);
            }
        }
        let mut adopted = Adopted::default();
        for (id, controls) in units {
            let is_group = controls[0].members.len() > 1 || controls[0].members[0].as_str() != id.as_str();
            let missing: Vec<&MachineId> =
                controls[0].members.iter().filter(|m| !controls.iter().any(|c| c.item.id() == *m)).collect();
            for machine in missing {
                let cause = format!("{machine} of {id} is not known to {}", replica.name());
                adopted.questions.push(Finding::new(
                    "adopt.member-missing",
                    Severity::Critical,
                    cause,
                    "adopt its replica too",
                ));
            }
            let members: Vec<Item> = controls.into_iter().map(|c| c.item).collect();
            let unit = Unit::new(id, is_group, members);
            let name = unit.id.clone();
            if let Err(error) = self.take_over(unit, &mut adopted).await {
                // One unit that another engine holds does not keep the others from being adopted.
                let cause = format!("{name} was not adopted: {error}");
                let remedy = "see who holds it, and adopt again";
                adopted.questions.push(Finding::new("adopt.failed", Severity::Critical, cause, remedy));
            }
        }
        Ok(adopted)
    }

    async fn take_over(&self, unit: Unit, adopted: &mut Adopted) -> Result<()> {
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
            leg.replica.claim(&op, item.id()).await?;
            leg.recovery_site.claim(&op, item.id()).await?;
            events
                .push((item.id().clone(), Event::Began { trigger: Trigger::Adopted, epoch: epoch.clone() }));
            for finding in self.contradictions(item).await {
                if item.state.divergence != Divergence::Possible && finding.blocks() {
                    events.push((item.id().clone(), Event::Moved(Trigger::FoundPossible)));
                }
                adopted.questions.push(finding);
            }
            adopted.machines.push(item.id().clone());
        }
        let slot = Slot::new(unit, (0, 0));
        let turn = Turn::take(shared, &slot).await;
        turn.record(&Cause::engine("adopted"), &events, |_| {}).await?;
        shared.insert(&slot);
        for finding in &adopted.questions {
            shared.bus.publish(shared.clock.now(), &slot.id, None, NoticeKind::Alert(finding.clone()));
        }
        Ok(())
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
                        "start it, or go on from its state",
                    ));
                }
                _ => {}
            }
        }
        found
    }
}
