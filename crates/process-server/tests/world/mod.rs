//! A machine and a replica in memory, byte exact, with the faults that a process server must stand.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test binary uses its part"
)]

mod replica;
mod site;

pub use replica::{Fault, MemoryReplica};
pub use site::Site;

use site_recovery::*;
use site_recovery_process_server::ProcessServer;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
/// The memory of every server here: no more is in flight.
pub const POOL: u64 = 4 * MIB;

/// One machine on its way.
pub struct World {
    pub site: Arc<Site>,
    pub replica: Arc<MemoryReplica>,
    pub server: ProcessServer,
}

impl World {
    pub async fn new(disks: &[(&str, u64)]) -> World {
        let server = ProcessServer::builder("ps").pool(POOL as usize).build().await.unwrap();
        World { site: Arc::new(Site::new(disks)), replica: Arc::default(), server }
    }

    pub async fn with_spool(disks: &[(&str, u64)], folder: &std::path::Path) -> World {
        let mut world = World::new(disks).await;
        world.server = spooling(folder).await;
        world
    }

    pub async fn ship(&self, key: &str, capture: &Capture, basis: Basis) -> Result<Shipped> {
        self.ship_as(&op(key), capture, basis).await
    }

    pub async fn ship_as(&self, op: &Op, capture: &Capture, basis: Basis) -> Result<Shipped> {
        self.ship_on(&self.server, op, capture, basis).await
    }

    pub async fn ship_on(
        &self,
        server: &ProcessServer,
        op: &Op,
        capture: &Capture,
        basis: Basis,
    ) -> Result<Shipped> {
        let what = self.shipment(capture, basis);
        let source: Arc<dyn Source> = self.site.clone();
        let replica: Arc<dyn Replica> = self.replica.clone();
        site_recovery::ProcessServer::ship(server, op, &what, &source, &replica).await
    }

    pub async fn drain(&self, key: &str) -> Result<Vec<Point>> {
        let replica: Arc<dyn Replica> = self.replica.clone();
        site_recovery::ProcessServer::drain(&self.server, &op(key), &machine_id(), &replica).await
    }

    pub async fn lag(&self) -> Lag {
        site_recovery::ProcessServer::lag(&self.server, &machine_id()).await.unwrap()
    }

    /// Captures and ships, and it must become a point.
    pub async fn cycle(&self, cut: &str) -> (Point, u64, u64) {
        let capture = self.site.take(cut);
        sealed(self.ship(cut, &capture, Basis::Delta).await.unwrap())
    }

    /// What was sealed is what was captured, for every point there is.
    pub fn assert_points_are_captures(&self) {
        for (cut, disks) in self.replica.sealed() {
            let captured = self.site.captured(&cut);
            assert_eq!(
                disks.keys().collect::<Vec<_>>(),
                captured.keys().collect::<Vec<_>>(),
                "disks of {cut}"
            );
            for (disk, bytes) in &disks {
                if bytes != captured[disk].as_ref() {
                    let differs = bytes.iter().zip(captured[disk].iter()).position(|(a, b)| a != b);
                    panic!("cut {cut}, disk {disk} of {} bytes: differs at {differs:?}", bytes.len());
                }
            }
        }
    }

    pub fn shipment(&self, capture: &Capture, basis: Basis) -> Shipment {
        let machine = capture.members[0].machine.clone();
        let id = if machine.id().0 == "stranger" { machine_id() } else { machine.id().clone() };
        let item = Item::new(machine, op("x").epoch, Policy::default(), "out", "back");
        let control = Control { unit: "u".into(), members: vec![id.clone()], item };
        Shipment { capture: capture.clone(), machine: id, basis, control }
    }
}

pub async fn spooling(folder: &std::path::Path) -> ProcessServer {
    let builder = ProcessServer::builder("ps").pool(POOL as usize);
    // A limit of its own: how full this machine's volume is, is not what is tested.
    builder.spool(folder).spool_limit(256 * MIB).build().await.unwrap()
}

pub fn machine_id() -> MachineId {
    "vm".into()
}

pub fn op(key: &str) -> Op {
    op_at(key, 1)
}

pub fn op_at(key: &str, number: u64) -> Op {
    Op { key: key.into(), epoch: Epoch { number, owner: "engine".into() } }
}

pub fn sealed(shipped: Shipped) -> (Point, u64, u64) {
    match shipped {
        Shipped::Sealed { point, changed, shipped, .. } => (point, changed, shipped),
        other => panic!("not sealed: {other:?}"),
    }
}

pub type Contents = BTreeMap<DiskId, Arc<Vec<u8>>>;

/// Splitmix64: the same numbers for the same seed, for ever.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| (self.roll() | 0x0101_0101_0101_0101).to_le_bytes());
        words.take(len as usize).collect()
    }
}
