//! The machines that a call names, wherever it does; as in the data plane's calls, field by field.

use super::call::{Call, LandingSiteCall, ProcessServerCall, RecoverySiteCall, SourceCall};
use crate::named::of_control;
use site_recovery::{Armed, Capture, Evidence, MachineId, Recovery, Shipment};

type Named<'a> = Vec<&'a MachineId>;

impl Call {
    /// All of them: to be looked at before it is done.
    pub(crate) fn machines(&self) -> Named<'_> {
        match self {
            // Of a standing only the server itself is told; that is looked at where it is done.
            Self::Vitals | Self::Standing { .. } => vec![],
            Self::Claim { machine, .. } => vec![machine],
            Self::Source(call) => of_source(call),
            Self::ProcessServer(call) => of_process_server(call),
            Self::RecoverySite(call) => of_recovery_site(call),
            Self::LandingSite(call) => of_landing_site(call),
        }
    }
}

fn of_source(call: &SourceCall) -> Named<'_> {
    match call {
        SourceCall::Discover => vec![],
        SourceCall::Enrol { machine, .. } => vec![machine.id()],
        SourceCall::Capture { of, .. } => of.iter().map(|instance| &instance.machine).collect(),
        SourceCall::Changes { capture, machine, .. } | SourceCall::Release { capture, machine, .. } => {
            captured(capture).chain([machine]).collect()
        }
        SourceCall::Unfence { instance, evidence, .. } => {
            proven(evidence).into_iter().chain([&instance.machine]).collect()
        }
        SourceCall::Dismiss { instance, .. }
        | SourceCall::Sweep { instance, .. }
        | SourceCall::Consolidate { instance, .. }
        | SourceCall::Power { instance }
        | SourceCall::Fence { instance, .. } => vec![&instance.machine],
    }
}

fn of_process_server(call: &ProcessServerCall) -> Named<'_> {
    match call {
        ProcessServerCall::Ship { what, .. } => {
            let Shipment { capture, machine, basis: _, control } = what;
            captured(capture).chain(of_control(control)).chain([machine]).collect()
        }
        ProcessServerCall::Drain { machine, .. } | ProcessServerCall::Lag { machine } => vec![machine],
        ProcessServerCall::Knows { .. } => vec![],
    }
}

fn of_recovery_site(call: &RecoverySiteCall) -> Named<'_> {
    match call {
        RecoverySiteCall::Offers => vec![],
        RecoverySiteCall::Check { machine, .. } | RecoverySiteCall::Propose { machine } => vec![machine.id()],
        RecoverySiteCall::Materialise { what, .. } | RecoverySiteCall::Withdraw { what, .. } => {
            vec![recovered(what)]
        }
        RecoverySiteCall::Boot { what, armed, evidence, .. } => {
            proven(evidence).into_iter().chain([recovered(what), landed(armed)]).collect()
        }
        RecoverySiteCall::Tend { armed, .. } | RecoverySiteCall::Settle { armed, .. } => vec![landed(armed)],
        RecoverySiteCall::SetAside { instance, .. } | RecoverySiteCall::Destroy { instance, .. } => {
            vec![&instance.machine]
        }
    }
}

fn of_landing_site(call: &LandingSiteCall) -> Named<'_> {
    match call {
        LandingSiteCall::Survey { machine, .. } => vec![machine.id()],
        LandingSiteCall::Attach { machine, existing, .. } => {
            existing.iter().map(|instance| &instance.machine).chain([machine.id()]).collect()
        }
        LandingSiteCall::Start { instance, what, evidence, .. } => {
            proven(evidence).into_iter().chain([recovered(what), &instance.machine]).collect()
        }
        LandingSiteCall::Stamp { instance }
        | LandingSiteCall::Branch { instance, .. }
        | LandingSiteCall::Part { instance, .. }
        | LandingSiteCall::Merge { instance, .. }
        | LandingSiteCall::Arm { instance, .. }
        | LandingSiteCall::Detach { instance, .. }
        | LandingSiteCall::Stop { instance, .. }
        | LandingSiteCall::Remove { instance, .. } => vec![&instance.machine],
    }
}

fn captured(capture: &Capture) -> impl Iterator<Item = &MachineId> {
    capture.members.iter().map(|member| member.machine.id())
}

fn recovered(recovery: &Recovery) -> &MachineId {
    recovery.machine.id()
}

fn landed(armed: &Armed) -> &MachineId {
    &armed.instance.machine
}

fn proven(evidence: &Evidence) -> Named<'_> {
    match evidence {
        Evidence::Isolated { network: _ } => vec![],
        Evidence::Proof { machine, may_run, observed, force, op: _, epoch: _, when: _, observer: _ } => {
            let unproven = force.iter().flat_map(|(unproven, _, _)| unproven);
            let seen = observed.iter().map(|observed| &observed.instance);
            let instances = seen.chain(may_run).chain(unproven);
            instances.map(|instance| &instance.machine).chain([machine]).collect()
        }
    }
}
