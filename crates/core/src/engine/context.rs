//! What a step works with.

use super::shared::Shared;
use crate::{
    BootPermit, Error, Event, Fenced, Force, Forced, Instance, Item, JobRun, Leg, MachineId, Observed, Op,
    Power, Progress, Result, StartGuard, Step, Unit,
};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A step of a run, about to be taken.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) unit: Arc<Unit>,
    pub(crate) run: JobRun,
    pub(crate) step: Step,
    /// The leg that the unit replicates over, or did before the failover.
    pub(crate) leg: Leg,
    /// The leg of the other direction.
    pub(crate) far: Leg,
    /// The leg of this direction in the next round: it reads where `far` lands.
    pub(crate) near: Leg,
}

/// One member in a step.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) item: Item,
    pub(crate) progress: Progress,
    /// Key and authority of this step for this member.
    pub(crate) op: Op,
}

/// What a step has come to for one member.
#[derive(Debug, Default)]
pub(crate) struct Effect {
    pub(crate) progress: Progress,
    pub(crate) events: Vec<Event>,
    /// Somebody ran in between: ship and prepare again.
    pub(crate) again: bool,
}

pub(crate) type Effects = BTreeMap<MachineId, Effect>;

impl From<Progress> for Effect {
    fn from(progress: Progress) -> Self {
        Self { progress, events: vec![], again: false }
    }
}

impl Effect {
    pub(crate) fn and(progress: Progress, events: Vec<Event>) -> Self {
        Self { progress, events, again: false }
    }
}

impl Context {
    pub(crate) fn new(shared: &Arc<Shared>, unit: Arc<Unit>, run: JobRun, step: Step) -> Result<Self> {
        let first = unit
            .members
            .first()
            .ok_or_else(|| Error::new(crate::ErrorKind::NotFound, "the unit has no member"))?;
        let leg = shared.leg_of(first)?.clone();
        let named = match &run.request {
            crate::Request::Reprotect(request) => request.legs.as_ref(),
            _ => None,
        };
        let far = shared.far_leg(first, named)?.clone();
        let near = shared.near_leg(first, named)?.clone();
        Ok(Self { shared: Arc::clone(shared), unit, run, step, leg, far, near })
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        let member = |item: &Item| Member {
            item: item.clone(),
            progress: self.run.members.get(item.id()).map(|p| (**p).clone()).unwrap_or_default(),
            op: item.op(self.run.key(item.id(), self.step, self.run.round)),
        };
        self.unit.members.iter().map(member).collect()
    }

    /// Takes the step for every member at once, and waits for all of them.
    pub(crate) async fn each<F>(&self, take: impl Fn(Member) -> F) -> Result<Effects>
    where
        F: Future<Output = Result<Effect>>,
    {
        let members = self.members();
        let taken = join_all(members.iter().cloned().map(take)).await;
        members
            .into_iter()
            .map(|m| m.item.id().clone())
            .zip(taken)
            .map(|(id, effect)| Ok((id, effect?)))
            .collect()
    }

    /// The key of an earlier step of this run.
    pub(crate) fn key_of(&self, item: &Item, step: Step) -> crate::OpKey {
        self.run.key(item.id(), step, self.run.round)
    }

    pub(crate) fn force(&self) -> Option<&Force> {
        self.run.request.force()
    }
}

/// Clearance to start one instance, with what was read on the way.
pub(crate) struct Clearance {
    pub(crate) permit: BootPermit,
    pub(crate) unproven: Vec<Instance>,
    pub(crate) observed: Vec<Observed>,
}

impl Shared {
    /// Proves every instance of the item off but `may_run`. Those in `silent` are not asked: they were not proven before,
    /// and `force` answers for them. Where the proof fails and `force` is given, it answers for those that fail now, too.
    pub(crate) async fn clear(
        &self,
        op: &Op,
        item: &Item,
        may_run: Option<&Instance>,
        silent: &[Instance],
        force: Option<&Force>,
        grace: Duration,
    ) -> Result<Clearance> {
        let limit = grace + self.deadlines.source;
        if silent.is_empty() || force.is_none() {
            let proof =
                self.within(limit, "fence", Fenced::prove(op, item, may_run, &self.sources, grace)).await;
            match (proof, force) {
                (Ok(proof), _) => {
                    let observed = proof.observed().to_vec();
                    return Ok(Clearance { permit: BootPermit::Fenced(proof), unproven: vec![], observed });
                }
                (Err(error), None) => return Err(error),
                // Nobody can answer for an authority that is gone.
                (Err(error), Some(_)) if error.kind() == crate::ErrorKind::StaleEpoch => return Err(error),
                (Err(_), Some(_)) => {}
            }
        }
        let Some(force) = force else {
            return Err(Error::new(
                crate::ErrorKind::Refused,
                "an instance is not proven off, and nobody answers for it",
            ));
        };
        let mut unproven = silent.to_vec();
        for instance in &item.instances {
            let spared = may_run.is_some_and(|r| r.is(instance)) || unproven.iter().any(|u| u.is(instance));
            // It has had its time to shut down.
            if !spared && !self.is_off(op, instance).await? {
                unproven.push(instance.clone());
            }
        }
        let proof =
            Forced::prove(op, item, may_run, &self.sources, grace, &unproven, &force.operator, &force.reason);
        let proof = self.within(limit, "fence", proof).await?;
        Ok(Clearance { permit: BootPermit::Forced(proof), unproven, observed: vec![] })
    }

    /// Whether one instance can be fenced and reads back as off and guarded. Only a stale authority is an error.
    async fn is_off(&self, op: &Op, instance: &Instance) -> Result<bool> {
        let Some(source) = self.sources.get(&instance.site) else { return Ok(false) };
        let op = op.part(&format!("alone/{}", instance.name));
        let fence = source.fence(&op, instance, Duration::ZERO);
        match self.within(self.deadlines.source, "fence", fence).await {
            Err(error) if error.kind() == crate::ErrorKind::StaleEpoch => return Err(error),
            Err(_) => return Ok(false),
            Ok(()) => {}
        }
        let power = self.within(self.deadlines.source, "power", source.power(instance)).await;
        Ok(!matches!(power, Err(_) | Ok(Power::On | Power::Unknown | Power::Off { start: StartGuard::Free })))
    }

    /// That no other engine is in charge, by the replica's word: asked before an epoch is raised, since an engine that raises in
    /// vain, refused or cut off, would in the end climb over the one that took its place.
    ///
    /// # Errors
    /// `StaleEpoch`; `Unavailable` where nobody says so. Nothing was raised.
    pub(crate) async fn in_charge(&self, unit: &Unit) -> Result<()> {
        for item in &unit.members {
            let op = item.op(format!("{}/holds-{}", item.id(), item.epoch.number));
            let claimed = &self.leg_of(item)?.replica;
            let claimed = self.within(self.deadlines.replica, "claim", claimed.claim(&op, item.id())).await;
            match claimed {
                Err(error)
                    if matches!(
                        error.kind(),
                        crate::ErrorKind::StaleEpoch | crate::ErrorKind::Unavailable
                    ) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it runs, or somebody may have started it since it read like this.
    pub(crate) async fn ran_since(&self, instance: &Instance, seen: &[Observed]) -> Result<bool> {
        if self.runs(instance).await? {
            return Ok(true);
        }
        let Some(source) = self.sources.get(&instance.site) else { return Ok(true) };
        let power = self.within(self.deadlines.source, "power", source.power(instance)).await?;
        let as_seen = |guard: &StartGuard| seen.iter().any(|o| o.instance.is(instance) && o.guard == *guard);
        Ok(!matches!(&power, Power::Off { start } if *start != StartGuard::Free && as_seen(start)))
    }

    /// Whether the instance runs, by its own source. Silence is an error.
    pub(crate) async fn runs(&self, instance: &Instance) -> Result<bool> {
        let source = self.sources.get(&instance.site).ok_or_else(|| {
            Error::new(crate::ErrorKind::NotFound, format!("no source named {} is known here", instance.site))
        })?;
        match self.within(self.deadlines.source, "power", source.power(instance)).await? {
            Power::On => Ok(true),
            Power::Off { .. } => Ok(false),
            Power::Unknown => Err(Error::new(
                crate::ErrorKind::Unavailable,
                format!("{} does not say whether it runs", instance.name),
            )),
        }
    }
}
