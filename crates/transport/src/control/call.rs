//! Calls of roles as they cross: the arguments of their methods as plain data. Roles among them are names, permits are
//! evidence. What has bytes crosses by the data plane instead.

#![allow(clippy::large_enum_variant, reason = "one per call, and never many of them in one place")]

use serde::{Deserialize, Serialize};
use site_recovery::{
    Armed, Capture, Consistency, Cursor, Evidence, Fate, Generation, Instance, Machine, MachineId, Op, OpKey,
    Recovery, RoleName, Settings, Shipment, Start,
};
use std::time::Duration;

/// One call of a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Of the service, whatever its role.
    Vitals,
    /// What is recorded of a machine: asked by a server that wants to take part in the network again.
    Standing {
        machine: MachineId,
    },
    Claim {
        op: Op,
        machine: MachineId,
    },
    Source(SourceCall),
    ProcessServer(ProcessServerCall),
    RecoverySite(RecoverySiteCall),
    LandingSite(LandingSiteCall),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum SourceCall {
    Discover,
    Enrol { op: Op, machine: Machine },
    Dismiss { op: Op, instance: Instance },
    Capture { op: Op, of: Vec<Instance>, want: Consistency },
    Changes { capture: Capture, machine: MachineId, since: Cursor },
    Release { op: Op, capture: Capture, machine: MachineId, fate: Fate },
    Sweep { op: Op, instance: Instance, keep: Vec<OpKey> },
    Consolidate { op: Op, instance: Instance },
    Power { instance: Instance },
    Fence { op: Op, instance: Instance, grace: Duration },
    Unfence { op: Op, instance: Instance, evidence: Evidence, start: Start },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ProcessServerCall {
    Ship { op: Op, what: Shipment, source: RoleName, replica: RoleName },
    Drain { op: Op, machine: MachineId, replica: RoleName },
    Lag { machine: MachineId },
    Knows { roles: Vec<RoleName> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum RecoverySiteCall {
    Check {
        machine: Machine,
        settings: Settings,
    },
    Materialise {
        op: Op,
        what: Recovery,
        from: RoleName,
    },
    Withdraw {
        op: Op,
        made_by: OpKey,
        what: Recovery,
    },
    Boot {
        op: Op,
        what: Recovery,
        armed: Armed,
        evidence: Evidence,
    },
    Tend {
        op: Op,
        armed: Armed,
        from: RoleName,
    },
    Settle {
        op: Op,
        armed: Armed,
    },
    SetAside {
        op: Op,
        instance: Instance,
    },
    Destroy {
        op: Op,
        instance: Instance,
    },
    /// Of a target.
    Propose {
        machine: Machine,
    },
    /// Of a master target.
    Offers,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum LandingSiteCall {
    Survey { machine: Machine, settings: Settings },
    Attach { op: Op, machine: Machine, existing: Option<Instance>, settings: Settings },
    Stamp { instance: Instance },
    Branch { op: Op, instance: Instance },
    Part { op: Op, instance: Instance },
    Merge { op: Op, instance: Instance },
    Arm { op: Op, instance: Instance, generation: Generation },
    Detach { op: Op, instance: Instance },
    Start { op: Op, instance: Instance, what: Recovery, evidence: Evidence },
    Stop { op: Op, instance: Instance, grace: Duration },
    Remove { op: Op, instance: Instance },
}
