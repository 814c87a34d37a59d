//! One protected machine as the engine knows it, and what changes it.

use crate::state::{self, Refusal, State, Trigger};
use crate::{
    Armed, Booted, DataLoss, Epoch, Generation, Instance, JobId, Machine, MachineId, Op, OpKey, Policy,
    Recovery, RoleName, Settings, Timestamp, UnitId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Promotions of a machine: the path that counts, and the branches that were undone.
///
/// A delta starts only from a cursor of a generation on the live path; a dead one's cursors are never used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Oldest first; never empty.
    pub live: Vec<Generation>,
    /// Undone, withdrawn, or drills.
    pub dead: Vec<Generation>,
}

impl Default for Lineage {
    fn default() -> Self {
        Self { live: vec![Generation(0)], dead: vec![] }
    }
}

impl Lineage {
    /// The one that counts now.
    pub fn current(&self) -> Generation {
        self.live.last().copied().unwrap_or_default()
    }

    /// A number that was never used.
    pub fn unused(&self) -> Generation {
        let highest = self.live.iter().chain(&self.dead).max().copied().unwrap_or_default();
        Generation(highest.0 + 1)
    }
}

/// A machine that runs, or is about to run, from a point, and what it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// What was prepared.
    pub armed: Armed,
    /// From what; none where the side that was left was started as it stood.
    pub recovery: Option<Recovery>,
    /// The key under which it was prepared.
    pub made_by: OpKey,
    /// What ran before.
    pub previous: Instance,
    /// How to reach it, once it runs.
    pub booted: Option<Booted>,
    /// What the user's validation said.
    pub verdict: Option<Verdict>,
    /// What was lost.
    pub loss: Option<DataLoss>,
    /// Whether the failover is final: after commit, until the reprotect.
    pub committed: bool,
}

/// What the user's validation said of a booted machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is as it should be.
    Good,
    /// It is not.
    Bad {
        /// Why.
        reason: String,
    },
}

/// A drill that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// From what.
    pub recovery: Recovery,
    /// The key under which it was prepared.
    pub made_by: OpKey,
    /// What was prepared, once it was.
    pub armed: Option<Armed>,
    /// How to reach it, once it runs.
    pub booted: Option<Booted>,
    /// Its network.
    pub network: String,
    /// When it cleans itself up.
    pub expires: Timestamp,
}

/// Work that could not be done yet, because somebody does not answer, or because its time has not come.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owed {
    /// Take back what a failover prepared and never booted.
    Withdraw {
        /// At which recovery site.
        site: RoleName,
        /// Under which key.
        made_by: OpKey,
        /// What.
        recovery: Recovery,
    },
    /// Fence an instance that could not be proven off, then settle what it held.
    Fence(Instance),
    /// Remove a machine of the other side once the next point of the new leg is sealed.
    Remove {
        /// At which recovery site.
        site: RoleName,
        /// What.
        instance: Instance,
    },
}

/// One protected machine. Where its timeline stands is asked of the replica, never kept here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Counts changes; the higher one is the newer one.
    pub revision: u64,
    /// Where it stands.
    pub state: State,
    /// The authority of the last operation.
    pub epoch: Epoch,
    /// Its promotions.
    pub lineage: Lineage,
    /// The machine, standing as the instance that has write authority.
    pub machine: Machine,
    /// All instances that may run anywhere, drills apart.
    pub instances: Vec<Instance>,
    /// Instances that could not be proven off when another was started.
    pub unproven: Vec<Instance>,
    /// What has been booted and not replicated back yet.
    pub promotion: Option<Promotion>,
    /// Instances that were set aside: off, and openable.
    pub kept: Vec<Instance>,
    /// The drill, if there is one.
    pub drill: Option<Drill>,
    /// What is still to be done.
    pub owed: Vec<Owed>,
    /// What the machine shall be, per recovery site.
    pub settings: BTreeMap<RoleName, Settings>,
    /// Policy of the way out; that of the way back is [`Policy::failback`].
    pub policy: Policy,
    /// Name of the leg out.
    pub out: String,
    /// Name of the leg back.
    pub back: String,
}

/// What happened to an item. [`apply`] is the only place that changes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The state moved, and nothing else did.
    Moved(Trigger),
    /// An operation began, under this authority.
    Began {
        /// What began.
        trigger: Trigger,
        /// Under which authority.
        epoch: Epoch,
    },
    /// Another engine, or this one started anew, goes on under its own authority.
    Claimed(Epoch),
    /// A generation was chosen for a promotion to come; it counts as dead until the intent to boot is recorded.
    Minted(Generation),
    /// The machine was found with other disks, NICs or facts.
    Described(Machine),
    /// The intent to boot: the pivot of a failover, of a change of point, of a promotion of the other side.
    Intended {
        /// Moves the state.
        trigger: Trigger,
        /// What will be booted.
        promotion: Promotion,
        /// Who could not be proven off.
        unproven: Vec<Instance>,
    },
    /// The machine runs.
    Booted(Booted),
    /// What the user's validation said.
    Judged(Verdict),
    /// An instance was taken out of the way.
    SetAside {
        /// What it was.
        was: Instance,
        /// What it is now.
        kept: Instance,
    },
    /// An instance is gone, read back.
    Removed(Instance),
    /// The intent to start the source again: the pivot of an undo.
    SourceIntended {
        /// Who could not be proven off.
        unproven: Vec<Instance>,
    },
    /// An instance is proven off after all.
    Proven(Instance),
    /// A drill began.
    DrillBegan(Drill),
    /// The drill's disks stand, or it runs.
    DrillMoved {
        /// What was prepared.
        armed: Armed,
        /// How to reach it, once it runs.
        booted: Option<Booted>,
    },
    /// Nothing of the drill is left.
    DrillGone,
    /// Something is to be done later.
    Owes(Owed),
    /// It was done.
    Paid(Owed),
    /// Settings were edited.
    Set {
        /// For which recovery site.
        site: RoleName,
        /// What.
        settings: Settings,
    },
    /// The policy was edited.
    PolicySet(Policy),
    /// The next round uses other legs.
    Routed {
        /// Leg out.
        out: String,
        /// Leg back.
        back: String,
    },
}

/// Applies an event. Pure.
///
/// # Errors
/// [`Refusal`] when the state does not allow it; then nothing changed.
pub fn apply(item: &Item, event: &Event) -> Result<Item, Refusal> {
    let mut next = item.clone();
    next.revision += 1;
    match event {
        Event::Moved(trigger) => {
            next.state = state::next(&item.state, *trigger)?;
            match trigger {
                Trigger::Turned => {
                    next.promotion = None;
                    next.unproven.clear();
                }
                Trigger::Committed | Trigger::Migrated => {
                    if let Some(promotion) = &mut next.promotion {
                        promotion.committed = true;
                    }
                }
                _ => {}
            }
        }
        Event::Began { trigger, epoch } => {
            next.state = state::next(&item.state, *trigger)?;
            next.epoch = epoch.clone();
        }
        Event::Claimed(epoch) => next.epoch = epoch.clone(),
        Event::Minted(generation) => next.lineage.dead.push(*generation),
        Event::Described(machine) => next.machine = machine.clone(),
        Event::Intended { trigger, promotion, unproven } => {
            next.state = state::next(&item.state, *trigger)?;
            if !unproven.is_empty() {
                next.state = state::next(&next.state, Trigger::FoundPossible)?;
            }
            if let Some(earlier) = &item.promotion
                && !earlier.committed
            {
                next.bury(earlier.armed.instance.generation);
            }
            let generation = promotion.armed.instance.generation;
            next.lineage.dead.retain(|g| *g != generation);
            next.lineage.live.push(generation);
            next.stand(&promotion.armed.instance);
            next.unproven = unproven.clone();
            next.promotion = Some(promotion.clone());
        }
        Event::Booted(booted) => {
            if let Some(promotion) = &mut next.promotion {
                promotion.booted = Some(booted.clone());
            }
        }
        Event::Judged(verdict) => {
            if let Some(promotion) = &mut next.promotion {
                promotion.verdict = Some(verdict.clone());
            }
        }
        Event::SetAside { was, kept } => {
            if !next.instances.iter().any(|i| i.is(kept)) {
                next.instances.push(kept.clone());
            }
            if !kept.is(was) {
                // In place: the machine stands again as before the promotion, off and fenced.
                next.machine.instance.generation = item.machine.instance.generation;
            }
            next.kept.retain(|k| !k.is(kept));
            next.kept.push(kept.clone());
        }
        Event::Removed(gone) => {
            next.instances.retain(|i| !i.is(gone));
            next.kept.retain(|i| !i.is(gone));
            next.unproven.retain(|i| !i.is(gone));
        }
        Event::SourceIntended { unproven } => {
            if let Some(promotion) = next.promotion.take() {
                next.bury(promotion.armed.instance.generation);
                next.machine.instance = promotion.previous;
            }
            next.unproven = unproven.clone();
        }
        Event::Proven(instance) => next.unproven.retain(|i| !i.is(instance)),
        Event::DrillBegan(drill) => {
            next.lineage.dead.push(drill.recovery.generation);
            next.drill = Some(drill.clone());
        }
        Event::DrillMoved { armed, booted } => {
            if let Some(drill) = &mut next.drill {
                drill.armed = Some(armed.clone());
                drill.booted = booted.clone();
            }
        }
        Event::DrillGone => {
            next.drill = None;
            if next.state.drill != state::DrillState::None {
                next.state = state::next(&next.state, Trigger::DrillCleaned)?;
            }
        }
        Event::Owes(owed) => {
            if !next.owed.contains(owed) {
                next.owed.push(owed.clone());
            }
        }
        Event::Paid(owed) => next.owed.retain(|o| o != owed),
        Event::Set { site, settings } => {
            next.settings.insert(site.clone(), settings.clone());
        }
        Event::PolicySet(policy) => next.policy = policy.clone(),
        Event::Routed { out, back } => (next.out, next.back) = (out.clone(), back.clone()),
    }
    Ok(next)
}

impl Item {
    /// A machine that is about to be protected.
    pub fn new(machine: Machine, epoch: Epoch, policy: Policy, out: &str, back: &str) -> Self {
        Self {
            revision: 0,
            state: State::unprotected(),
            epoch,
            lineage: Lineage { live: vec![machine.instance.generation], dead: vec![] },
            instances: vec![machine.instance.clone()],
            machine,
            unproven: vec![],
            promotion: None,
            kept: vec![],
            drill: None,
            owed: vec![],
            settings: BTreeMap::new(),
            policy,
            out: out.into(),
            back: back.into(),
        }
    }

    /// The machine's name all round the circle.
    pub fn id(&self) -> &MachineId {
        &self.machine.instance.machine
    }

    /// The instance that has write authority.
    pub fn active(&self) -> &Instance {
        &self.machine.instance
    }

    /// Instances that must not run now.
    pub fn must_not_run(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|i| !i.is(self.active()))
    }

    /// An operation's key and this item's authority.
    pub fn op(&self, key: impl Into<OpKey>) -> Op {
        Op { key: key.into(), epoch: self.epoch.clone() }
    }

    fn bury(&mut self, generation: Generation) {
        self.lineage.live.retain(|g| *g != generation);
        self.lineage.dead.push(generation);
    }

    fn stand(&mut self, instance: &Instance) {
        self.instances.retain(|i| !i.is(instance));
        self.instances.push(instance.clone());
        self.kept.retain(|i| !i.is(instance));
        self.machine.instance = instance.clone();
    }
}

/// What stands beside the replica so that `adopt` can go on without a journal: written before the effect of every phase
/// change from the fence on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// When it was written.
    pub written: Timestamp,
    /// The run under way, with the step it is about to take.
    pub run: Option<(JobId, String)>,
    /// The item, with its unit.
    pub control: crate::Control,
}

impl PhaseRecord {
    /// What orders phase records: the higher one counts.
    pub fn order(&self) -> (u64, u64) {
        (self.control.item.epoch.number, self.control.item.revision)
    }

    /// The unit it speaks of.
    pub fn unit(&self) -> &UnitId {
        &self.control.unit
    }
}
