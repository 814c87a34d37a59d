//! One protected machine as the engine knows it, and what changes it.

use crate::state::{Direction, State};
use crate::{
    Armed, BootProof, Booted, DataLoss, DiskId, Epoch, Generation, Instance, JobId, Machine, MachineId,
    Observed, Op, OpKey, PointId, Policy, Recovery, RoleName, Settings, Timestamp, UnitId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
    /// What was read of the other instances right before the intent to boot.
    pub observed: Vec<Observed>,
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
    /// Whether it is the engine's own, made to prove that its point boots: it goes as soon as nobody drives it any more.
    #[serde(default, skip_serializing_if = "is_operators")]
    pub proof: bool,
}

fn is_operators(proof: &bool) -> bool {
    !proof
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
    /// Lift the fence of an instance that did not answer when a failover was taken back, and start it if it ran.
    Lift(Instance),
    /// Take back the pin of a point that was chosen and not used.
    Unpin {
        /// At which replica.
        replica: RoleName,
        /// Which point.
        point: PointId,
        /// Which pin.
        why: String,
    },
    /// Remove a machine of the other side once the next point of the new leg is sealed.
    Remove {
        /// At which recovery site.
        site: RoleName,
        /// What.
        instance: Instance,
        /// How it read when it was fenced for the failback: a start since then keeps it.
        seen: Vec<Observed>,
    },
}

impl Owed {
    /// Whether it would stop or remove this instance.
    pub(crate) fn is_of(&self, instance: &Instance) -> bool {
        match self {
            Owed::Fence(owed) | Owed::Lift(owed) | Owed::Remove { instance: owed, .. } => owed.is(instance),
            Owed::Withdraw { .. } | Owed::Unpin { .. } => false,
        }
    }
}

/// What is to be done, for people.
impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owed::Withdraw { site, recovery, .. } => {
                write!(f, "remove at {site} what was prepared of point {} and never booted", recovery.point)
            }
            Owed::Fence(Instance { name, site, .. }) => {
                write!(f, "stop {name} at {site} as soon as it answers")
            }
            Owed::Lift(Instance { name, site, .. }) => {
                write!(f, "lift the fence of {name} at {site} when it answers, and start it if it ran")
            }
            Owed::Unpin { replica, point, why } => {
                write!(f, "take back the pin \"{why}\" of point {point} at {replica}")
            }
            Owed::Remove { instance: Instance { name, site, .. }, .. } => {
                write!(f, "remove {name} at {site} once the next point of the new direction is sealed")
            }
        }
    }
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
    pub promotion: Option<Box<Promotion>>,
    /// Instances that were set aside: off, and openable.
    pub kept: Vec<Instance>,
    /// The drill, if there is one.
    pub drill: Option<Box<Drill>>,
    /// Whether everything that the leg back wrote since it was opened is listed by its replica: then the next leg out can
    /// start by delta.
    pub traced: bool,
    /// Disks that were left out when protection was enabled.
    pub excluded: BTreeSet<DiskId>,
    /// Whether an instance that must not run was seen running since both sides were last made equal.
    pub written_outside: bool,
    /// What is still to be done.
    pub owed: Vec<Owed>,
    /// What boot proofs of its points came to, as long as the points exist; at most
    /// [`KEPT_BOOT_PROOFS`](crate::KEPT_BOOT_PROOFS).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boot_proofs: BTreeMap<PointId, BootProof>,
    /// What was asked for the machine, per recovery site; what its leg says comes [under](Settings::over) it.
    pub settings: BTreeMap<RoleName, Settings>,
    /// Policy of the way out; that of the way back is [`Policy::failback`].
    pub policy: Policy,
    /// Name of the leg out.
    pub out: String,
    /// Name of the leg back.
    pub back: String,
}

impl Item {
    /// A machine that is about to be protected.
    pub fn new(machine: Machine, epoch: Epoch, policy: Policy, out: &str, back: &str) -> Self {
        let left_out = machine.disks.iter().filter(|d| !d.included);
        let excluded = left_out.map(|d| d.id.clone()).collect();
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
            traced: false,
            excluded,
            written_outside: false,
            owed: vec![],
            boot_proofs: BTreeMap::new(),
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

    /// Name of the leg that it replicates over, or replicated over last.
    pub fn leg(&self) -> &str {
        match self.state.direction {
            Direction::PrimaryToRecovery => &self.out,
            Direction::RecoveryToPrimary => &self.back,
        }
    }

    /// Instances that must not run now.
    pub fn must_not_run(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|i| !i.is(self.active()))
    }

    /// An operation's key and this item's authority.
    pub fn op(&self, key: impl Into<OpKey>) -> Op {
        Op { key: key.into(), epoch: self.epoch.clone() }
    }

    pub(crate) fn bury(&mut self, generation: Generation) {
        self.lineage.live.retain(|g| *g != generation);
        self.lineage.dead.push(generation);
    }

    pub(crate) fn stand(&mut self, instance: &Instance) {
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
    /// Disks that the run prepares or has prepared, before its intent to boot is recorded.
    pub prepared: Option<Prepared>,
    /// The item, with its unit.
    pub control: crate::Control,
}

/// Disks of a point that nothing was booted from yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The key under which they are prepared.
    pub made_by: OpKey,
    /// From what.
    pub recovery: Recovery,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_reads_as_what_is_to_be_done_and_where() {
        let instance = Instance {
            machine: "m-1".into(),
            site: "here".into(),
            name: "web".into(),
            generation: Generation(3),
        };
        let told = |owed: Owed| owed.to_string();
        assert_eq!(told(Owed::Fence(instance.clone())), "stop web at here as soon as it answers");
        assert!(
            told(Owed::Lift(instance.clone())).starts_with("lift the fence of web at here when it answers")
        );
        let unpin = Owed::Unpin { replica: "store".into(), point: PointId(7), why: "failover".into() };
        assert_eq!(told(unpin), "take back the pin \"failover\" of point 7 at store");
        let remove = Owed::Remove { site: "cloud".into(), instance, seen: vec![] };
        assert!(told(remove).starts_with("remove web at here once the next point"));
    }
}
