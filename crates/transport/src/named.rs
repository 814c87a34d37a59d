//! The machines that a call names, wherever it does: control state is believed by whoever adopts it.
//!
//! What has machines in it is taken apart field by field, so that a new field is not forgotten here.

use crate::message::{Call, Openable};
use site_recovery::{
    Control, Drill, Instance, Item, MachineId, Manifest, Owed, PhaseRecord, Promotion, Recovery, Seed,
};

impl Call {
    /// All of them: to be looked at before it is done.
    pub(crate) fn machines(&self) -> Vec<&MachineId> {
        match self {
            // What a handle stands for was looked at when it was opened.
            Self::Machines | Self::Zero { .. } | Self::Flush { .. } => vec![],
            Self::Open { what, .. } => match what {
                Openable::Point { machine, .. } => vec![machine],
                Openable::Captured { capture, machine, op: _ } => {
                    capture.members.iter().map(|member| member.machine.id()).chain([machine]).collect()
                }
                Openable::Landing { instance, .. } => vec![&instance.machine],
            },
            Self::Prepare { machine, seed, .. } => {
                let landing = landing(seed).map(|instance| &instance.machine);
                landing.into_iter().chain([machine.id()]).collect()
            }
            Self::Begin { machine, .. } => vec![machine.id()],
            Self::Seal { ingest, manifest, .. } => {
                let Manifest {
                    machine,
                    members,
                    control,
                    cut: _,
                    taken: _,
                    consistency: _,
                    cursor: _,
                    sidecars: _,
                } = manifest;
                let outer = [&ingest.machine, machine.id()];
                outer.into_iter().chain(members).chain(of_control(control)).collect()
            }
            Self::Remember { machine, record, .. } => {
                let PhaseRecord { written: _, run: _, prepared, control } = record;
                let prepared = prepared.iter().map(|p| p.recovery.machine.id());
                prepared.chain([machine]).chain(of_control(control)).collect()
            }
            Self::Claim { machine, .. }
            | Self::Head { machine }
            | Self::Points { machine }
            | Self::Manifest { machine, .. }
            | Self::Hashes { machine, .. }
            | Self::Changed { machine, .. }
            | Self::Pin { machine, .. }
            | Self::Unpin { machine, .. }
            | Self::Prune { machine, .. }
            | Self::Delete { machine, .. }
            | Self::Recall { machine }
            | Self::Lock { machine, .. }
            | Self::Scrub { machine, .. } => vec![machine],
        }
    }
}

fn landing(seed: &Seed) -> Option<&Instance> {
    match seed {
        Seed::Fresh => None,
        Seed::Known { landing, .. } | Seed::Unknown { landing } => landing.as_ref(),
    }
}

/// The name of a unit is none of a machine.
pub(crate) fn of_control(control: &Control) -> impl Iterator<Item = &MachineId> {
    let Control { unit: _, members, item } = control;
    members.iter().chain(instances(item).into_iter().map(|instance| &instance.machine))
}

fn instances(item: &Item) -> Vec<&Instance> {
    let Item {
        machine,
        instances,
        unproven,
        promotion,
        kept,
        drill,
        owed,
        revision: _,
        state: _,
        epoch: _,
        lineage: _,
        traced: _,
        excluded: _,
        written_outside: _,
        boot_proofs: _,
        settings: _,
        policy: _,
        out: _,
        back: _,
    } = item;
    let mut all = vec![&machine.instance];
    all.extend(instances.iter().chain(unproven).chain(kept));
    if let Some(promotion) = promotion {
        let Promotion {
            armed,
            recovery,
            previous,
            observed,
            made_by: _,
            booted: _,
            verdict: _,
            loss: _,
            committed: _,
        } = &**promotion;
        all.extend([&armed.instance, previous]);
        all.extend(recovery.iter().map(recovered).chain(observed.iter().map(|o| &o.instance)));
    }
    if let Some(drill) = drill {
        let Drill { recovery, armed, made_by: _, booted: _, network: _, expires: _, proof: _ } = &**drill;
        all.extend(armed.iter().map(|armed| &armed.instance).chain([recovered(recovery)]));
    }
    for owed in owed {
        match owed {
            Owed::Withdraw { recovery, .. } => all.push(recovered(recovery)),
            Owed::Fence(instance) | Owed::Lift(instance) => all.push(instance),
            Owed::Remove { instance, seen, .. } => {
                all.extend(seen.iter().map(|o| &o.instance).chain([instance]));
            }
            Owed::Unpin { .. } => {}
        }
    }
    all
}

fn recovered(recovery: &Recovery) -> &Instance {
    &recovery.machine.instance
}
