//! Proofs that a machine may be started.
//!
//! A [`BootPermit`] is needed wherever something is started. [`Fenced`] is made only here, by fencing every other
//! instance of the item and reading back that it is off and kept off: nobody passes a list that could be too short.
//! Proofs are neither `Clone` nor serialisable. Across a network travels [`Evidence`].

use crate::{
    EngineId, Epoch, Error, ErrorKind, Instance, Item, MachineId, Op, OpKey, Power, Purpose, Result, Sources,
    Stamp, StartGuard, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What was read of one instance that is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Which.
    pub instance: Instance,
    /// What keeps it off.
    pub guard: StartGuard,
}

/// Every other instance of the machine is off and stays off, or a start of it would tell.
#[derive(Debug)]
pub struct Fenced {
    op: OpKey,
    machine: MachineId,
    epoch: Epoch,
    may_run: Option<Instance>,
    observed: Vec<Observed>,
}

/// Somebody answers by name for exactly the instances that nobody could prove off; every other one was proven.
#[derive(Debug)]
pub struct Forced {
    rest: Fenced,
    unproven: Vec<Instance>,
    operator: String,
    reason: String,
}

/// Leave to start a machine.
#[derive(Debug)]
pub enum BootPermit {
    /// Everything else is off.
    Fenced(Fenced),
    /// A drill, in a network that reaches nothing else.
    Isolated {
        /// That network.
        network: String,
    },
    /// Somebody answers for it.
    Forced(Forced),
}

impl Fenced {
    /// Fences every instance of the item but `may_run`, gives guests `grace` to shut down, and reads each one back.
    ///
    /// # Errors
    /// `NotFound` when an instance's site is not known to this vault, or the instance is not there (a lost right looks the
    /// same, so it proves nothing); `Refused` when one reads back as running, unknown, or free to be started;
    /// whatever `fence` and `power` say.
    pub async fn prove(
        op: &Op,
        item: &Item,
        may_run: Option<&Instance>,
        sources: &Sources,
        grace: Duration,
    ) -> Result<Fenced> {
        Self::read_back(op, item, may_run, sources, grace, &[]).await
    }

    async fn read_back(
        op: &Op,
        item: &Item,
        may_run: Option<&Instance>,
        sources: &Sources,
        grace: Duration,
        except: &[Instance],
    ) -> Result<Fenced> {
        let mut observed = vec![];
        let spared = |i: &Instance| may_run.is_some_and(|r| r.is(i)) || except.iter().any(|e| e.is(i));
        for instance in item.instances.iter().filter(|i| !spared(i)) {
            let source = sources.get(&instance.site).ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("no source named {} can fence {}", instance.site, instance.name),
                )
            })?;
            source.fence(&op.part(&format!("fence/{}", instance.name)), instance, grace).await?;
            match source.power(instance).await? {
                Power::Off { start: StartGuard::Free } => {
                    let message = format!("{} is off, but anybody could start it unseen", instance.name);
                    return Err(Error::new(ErrorKind::Refused, message).at(&instance.site, "fence"));
                }
                Power::Off { start } => observed.push(Observed { instance: instance.clone(), guard: start }),
                power => {
                    let message = format!("{} reads back as {power:?} after it was fenced", instance.name);
                    return Err(Error::new(ErrorKind::Refused, message).at(&instance.site, "fence"));
                }
            }
        }
        Ok(Fenced {
            op: op.key.clone(),
            machine: item.id().clone(),
            epoch: op.epoch.clone(),
            may_run: may_run.cloned(),
            observed,
        })
    }

    /// Whether nothing ran between `earlier` and this: the same instances, each blocked or with an unchanged stamp.
    pub fn unbroken(&self, earlier: &Fenced) -> bool {
        let same =
            |(now, then): (&Observed, &Observed)| now.instance.is(&then.instance) && now.guard == then.guard;
        self.observed.len() == earlier.observed.len() && self.observed.iter().zip(&earlier.observed).all(same)
    }

    /// Whose.
    pub fn machine(&self) -> &MachineId {
        &self.machine
    }

    /// What was read.
    pub fn observed(&self) -> &[Observed] {
        &self.observed
    }

    fn admits(&self, instance: &Instance) -> bool {
        self.machine == instance.machine && self.may_run.as_ref().is_none_or(|r| r.is(instance))
    }
}

impl Forced {
    /// As [`Fenced::prove`], but for the instances in `unproven`, for whom `operator` answers.
    ///
    /// # Errors
    /// As [`Fenced::prove`], for all the others; `Invalid` without an operator or a reason.
    #[allow(clippy::too_many_arguments, reason = "a force is long-winded on purpose")]
    pub async fn prove(
        op: &Op,
        item: &Item,
        may_run: Option<&Instance>,
        sources: &Sources,
        grace: Duration,
        unproven: &[Instance],
        operator: &str,
        reason: &str,
    ) -> Result<Forced> {
        if operator.is_empty() || reason.is_empty() {
            let rule = "a force has a name and a reason";
            return Err(Error::invalid("force.operator", format!("{operator:?}"), rule, "give both"));
        }
        let rest = Fenced::read_back(op, item, may_run, sources, grace, unproven).await?;
        let (operator, reason) = (operator.to_owned(), reason.to_owned());
        Ok(Forced { rest, unproven: unproven.to_vec(), operator, reason })
    }

    /// Those who were not proven off.
    pub fn unproven(&self) -> &[Instance] {
        &self.unproven
    }

    /// Who answers.
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl BootPermit {
    /// Checks that the permit speaks of this instance, and is for this purpose. Every `boot`, `start` and `unfence` does so
    /// first; what `unfence` starts is for [`Purpose::Failover`].
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) when it was made for another machine, another instance or an older authority; and
    /// for production when it is for an isolated network alone.
    pub fn admits(&self, op: &Op, instance: &Instance, purpose: Purpose) -> Result<()> {
        let proof = match self {
            BootPermit::Isolated { .. } if purpose == Purpose::Drill => return Ok(()),
            BootPermit::Isolated { network } => {
                let message =
                    format!("leave to run {} in {network} is no leave to run in production", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            _ if purpose == Purpose::Drill => {
                let message = format!("{} is a drill: it starts in an isolated network alone", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            BootPermit::Fenced(proof) => proof,
            BootPermit::Forced(forced) => &forced.rest,
        };
        if proof.admits(instance) && proof.epoch == op.epoch {
            return Ok(());
        }
        let message = format!("the permit of {} does not speak of {}", proof.machine, instance.name);
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// The permit as plain data, to travel.
    pub fn evidence(&self, observer: &str, when: Timestamp) -> Evidence {
        let (proof, force) = match self {
            BootPermit::Isolated { network } => {
                return Evidence::Isolated { network: network.clone() };
            }
            BootPermit::Fenced(proof) => (proof, None),
            BootPermit::Forced(f) => {
                (&f.rest, Some((f.unproven.clone(), f.operator.clone(), f.reason.clone())))
            }
        };
        Evidence::Proof {
            op: proof.op.clone(),
            machine: proof.machine.clone(),
            epoch: proof.epoch.clone(),
            may_run: proof.may_run.clone(),
            observed: proof.observed.clone(),
            force,
            when,
            observer: observer.to_owned(),
        }
    }
}

/// A permit as it travels. It proves nothing until the transport has admitted it.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// For a drill.
    Isolated {
        /// The network.
        network: String,
    },
    /// For a start in production.
    Proof {
        /// The operation that proved it.
        op: OpKey,
        /// Whose.
        machine: MachineId,
        /// Under which authority.
        epoch: Epoch,
        /// Who may run.
        may_run: Option<Instance>,
        /// What was read.
        observed: Vec<Observed>,
        /// Who answers for what nobody could prove.
        force: Option<(Vec<Instance>, String, String)>,
        /// When it was read.
        when: Timestamp,
        /// By whom.
        observer: String,
    },
}

/// Who sent evidence, as the transport has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The engine that its certificate names.
    pub engine: EngineId,
}

impl Evidence {
    /// Makes a permit of it again. For the transport alone; a lint forbids it everywhere else.
    ///
    /// # Errors
    /// [`StaleEpoch`](ErrorKind::StaleEpoch) when the peer is not the one whose authority it claims, or that authority does
    /// not pass the machine's register.
    pub fn admit(self, peer: &Peer, register: Option<&Epoch>) -> Result<BootPermit> {
        let Evidence::Proof { op, machine, epoch, may_run, observed, force, .. } = self else {
            let Evidence::Isolated { network } = self else { unreachable!("two variants") };
            return Ok(BootPermit::Isolated { network });
        };
        if epoch.owner != peer.engine || !epoch.passes(register) {
            let message = format!(
                "evidence of {} from {} under an authority that does not pass",
                epoch.owner, peer.engine
            );
            return Err(Error::new(ErrorKind::StaleEpoch, message));
        }
        let proof = Fenced { op, machine, epoch, may_run, observed };
        Ok(match force {
            None => BootPermit::Fenced(proof),
            Some((unproven, operator, reason)) => {
                BootPermit::Forced(Forced { rest: proof, unproven, operator, reason })
            }
        })
    }
}

/// A stamp that a start would change, where a guard has one.
impl StartGuard {
    /// The stamp, where it is one.
    pub fn stamp(&self) -> Option<&Stamp> {
        match self {
            StartGuard::Tells(stamp) => Some(stamp),
            _ => None,
        }
    }
}
