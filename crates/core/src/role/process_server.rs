use super::{Replica, Role, Source};
use crate::{Capture, Control, CutId, DiskId, Finding, MachineId, Op, Point, Result, RoleName};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How the runs to ship are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// By the source's changes since the head.
    Delta,
    /// By comparing hashes of both sides; for first contact, resync and doubt.
    Compare,
}

/// One member of a capture, on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// The capture.
    pub capture: Capture,
    /// Which member.
    pub machine: MachineId,
    /// How to find what to ship.
    pub basis: Basis,
    /// What goes into the manifest.
    pub control: Control,
}

/// What became of a shipment.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shipped {
    /// It is a point now.
    Sealed {
        /// The point.
        point: Point,
        /// Bytes that were read as changed.
        changed: u64,
        /// Bytes that crossed, records as they came.
        shipped: u64,
        /// Of the changed bytes, those that no codec made smaller; 0 where nothing was compressed.
        #[serde(default)]
        incompressible: u64,
    },
    /// The replica is away; everything of the capture's delta is durable in the spool. Only deltas need spooling: with
    /// [`Basis::Compare`], or no cursor, a replica that is away is `Unavailable`.
    Spooled {
        /// Bytes in it.
        bytes: u64,
    },
    /// The changes are unknown: ship again with [`Basis::Compare`]. Nothing was shipped.
    NeedsCompare {
        /// Why.
        reason: String,
    },
}

/// How far behind one machine is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lag {
    /// Bytes still to ship in the transfer under way.
    pub backlog: u64,
    /// Bytes of that transfer in all; zero when none is under way.
    pub transfer: u64,
    /// Bytes shipped since start.
    pub shipped: u64,
    /// Cuts in the spool, oldest first.
    pub spooled: Vec<CutId>,
    /// The transfer under way, per disk.
    #[serde(default)]
    pub disks: BTreeMap<DiskId, DiskLag>,
    /// How long the backlog takes at the rate of the last minutes: zero without a backlog, [`Duration::MAX`] where nothing
    /// has moved for minutes, `None` as long as no rate was measured.
    #[serde(default)]
    pub drain_time: Option<Duration>,
}

/// How far one disk is in the transfer under way; the three together are its part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskLag {
    /// Bytes at the source still to read.
    pub to_read: u64,
    /// Bytes that were read and are not settled yet.
    pub in_flight: u64,
    /// Bytes at the destination: acknowledged, or found equal there.
    pub landed: u64,
}

/// Moves the bytes of a capture to a replica, as records, and seals the point.
///
/// # For adapter authors
/// Roles that are handed in are called by name across a network: a stub sends their names and the service resolves
/// them in its own table. Read, skip zeros, checksum, compress and seal each block once; memory comes from one
/// [`Pool`](crate::Pool).
#[async_trait]
pub trait ProcessServer: Role {
    /// Ships one member: asks the head, asks what changed, widens that by what the replica has touched, writes, seals.
    ///
    /// # Contract
    /// - PRS-1 The point holds exactly the bytes of the capture.
    /// - PRS-2 The set is widened by [`Head::Unsettled`](crate::Head::Unsettled)'s `touched`; without a cursor, or with
    ///   `Compare`, every run is compared by hash and only what differs is sent.
    /// - PRS-3 Nothing is called sealed that the replica has not acknowledged; until then the spool keeps what it took. A
    ///   record is counted only when it is durable there.
    /// - PRS-4 The same op goes on where it broke: what has landed is not sent again.
    /// - PRS-5 Memory in flight is bounded by the pool.
    ///
    /// # Errors
    /// `Unavailable` when a side is away and nothing was spooled, also where the spool has no room: the fact `not_spooled`
    /// says why. `Busy` when something landed, or was sealed, while this began: ship again, it is planned anew. `Conflict`
    /// when the capture's disks have other sizes than it says, or as of [`drain`](Self::drain), which comes first.
    /// `Corrupt` when a record did not survive the way. `OutOfSpace` when the replica has no room, or the volume of the
    /// spool none for what is noted there.
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped>;

    /// Ships and seals what the spool holds, oldest first.
    ///
    /// # Contract
    /// - PRS-6 Afterwards the spool holds nothing that the replica has sealed; each is one of the points returned.
    ///
    /// # Errors
    /// `Busy` as of [`ship`](Self::ship): drain again. `Conflict` when the timeline has moved on without a capture of the
    /// spool, and `Corrupt` when one is damaged: it is set aside, under the name in the fact `set_aside_as`, and the next
    /// call goes on without it. `Unavailable` when the replica is away; `OutOfSpace` as of `ship`.
    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>>;

    /// How far behind it is, as of now.
    async fn lag(&self, machine: &MachineId) -> Result<Lag>;

    /// Whether it can reach the roles of these names itself; a finding per name that it cannot. Asked at protect time.
    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>>;
}
