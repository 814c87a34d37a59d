//! A machine in care, and what a test compares: bytes of captures with those that the guest had, and what is told as changed with
//! what differs.

use super::world::World;
use crate::{MODE, open};
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite;
use std::collections::BTreeMap;

/// The bytes of every disk, in the machine's order.
pub(crate) type Image = Vec<Vec<u8>>;

pub(crate) const GRAIN: u64 = 64 << 10;

pub(crate) struct Kept {
    pub(crate) world: World,
    pub(crate) machine: Machine,
    pub(crate) name: String,
}

impl Kept {
    /// One that runs, with disks of 1 MiB and 128 KiB, of which a part is written before it is enrolled.
    pub(crate) async fn new() -> Option<Self> {
        let world = World::start(MODE, open).await?;
        let name = world.machine("web", &[1024, 128]).await;
        world.write(&name, 0, 0, &suite::pattern(1, 4096)).await;
        world.write(&name, 0, 9 * GRAIN, &suite::pattern(2, 4096)).await;
        let machine = world.enrol(&name, "m-web").await;
        Some(Self { world, machine, name })
    }

    pub(crate) fn site(&self) -> &site_recovery_vmware::Site {
        &self.world.site
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.machine.instance
    }

    /// The guest writes a page in the middle of this grain.
    pub(crate) async fn write(&self, disk: usize, grain: u64) {
        let bytes = suite::pattern(grain + 77 * disk as u64, 4096);
        self.world.write(&self.name, disk, grain * GRAIN + 8192, &bytes).await;
    }

    pub(crate) async fn truth(&self) -> Image {
        let mut image = vec![];
        for disk in 0..self.world.disk_files(&self.name).await.len() {
            image.push(self.world.content(&self.name, disk).await);
        }
        image
    }

    pub(crate) async fn try_capture(&self, key: &str) -> Result<Capture> {
        self.site().capture(&suite::op(key), std::slice::from_ref(self.instance()), Consistency::Crash).await
    }

    pub(crate) async fn capture(&self, key: &str) -> Capture {
        self.try_capture(key).await.unwrap()
    }

    pub(crate) fn cursor(&self, capture: &Capture) -> Cursor {
        self.member(capture).cursor.clone().expect("its changes are tracked")
    }

    pub(crate) fn member<'a>(&self, capture: &'a Capture) -> &'a Member {
        capture.member(self.machine.id()).unwrap()
    }

    pub(crate) async fn release(&self, capture: &Capture) {
        let op = suite::op(&format!("release/{}", capture.cut));
        self.site().release(&op, capture, self.machine.id(), Fate::Sealed).await.unwrap();
    }

    pub(crate) async fn disks(&self, capture: &Capture) -> Result<Disks> {
        self.site().disks(&suite::op("read"), capture, self.machine.id()).await
    }

    /// All bytes of a capture; what it calls zero is taken for zeros, as a first copy takes it.
    pub(crate) async fn read(&self, capture: &Capture) -> Image {
        let disks = self.disks(capture).await.unwrap();
        let mut image = vec![];
        for spec in self.member(capture).machine.included() {
            image.push(bytes_of(&disks[&spec.id], Run::new(0, spec.size)).await.unwrap());
        }
        image
    }

    pub(crate) async fn changes(&self, capture: &Capture, since: &Cursor) -> Changes {
        self.site().changes(capture, self.machine.id(), since).await.unwrap()
    }

    /// Asserts that a delta is known and holds all that differs; what it holds, in grains, by disk.
    pub(crate) async fn delta(&self, capture: &Capture, since: &Cursor, before: &Image) -> Vec<Vec<u64>> {
        let changes = self.changes(capture, since).await;
        let Changes::Known(told) = changes else { panic!("no delta: {changes:?}") };
        let after = self.read(capture).await;
        let mut grains = vec![];
        for (n, spec) in self.member(capture).machine.included().enumerate() {
            let mut patched = before[n].clone();
            for run in told.runs(&spec.id) {
                let (start, end) = (run.start as usize, run.end() as usize);
                patched[start..end].copy_from_slice(&after[n][start..end]);
            }
            assert!(patched == after[n], "disk {n}: what was told as changed leaves other bytes: {told:?}");
            let runs = told.runs(&spec.id).iter();
            grains.push(runs.flat_map(|run| run.start / GRAIN..run.end().div_ceil(GRAIN)).collect());
        }
        grains
    }

    /// Asserts that no delta is possible, and says why.
    pub(crate) async fn lost(&self, capture: &Capture, since: &Cursor) -> String {
        match self.changes(capture, since).await {
            Changes::Lost { reason } => reason,
            known => panic!("{known:?}, and there is no knowing"),
        }
    }

    /// Asserts that a whole read is right, as it has to be after a `Lost`.
    pub(crate) async fn reads_right(&self, capture: &Capture, truth: &Image) {
        assert!(self.read(capture).await == *truth, "the capture holds other bytes than the guest had");
    }

    pub(crate) async fn settings(&self, change: serde_json::Value) {
        self.world.sim.tell("settings", change).await;
    }

    /// Somebody's snapshot.
    pub(crate) async fn snapshot(&self, name: &str) {
        self.world.told("snapshot", &self.name, json!({ "name": name })).await;
    }

    /// Somebody goes back to one, and starts the machine again.
    pub(crate) async fn revert(&self, name: &str) {
        let moref = self.world.moref(&self.name).await;
        let tree = self.world.eyes.snapshots(&moref).await.unwrap();
        let all = tree.iter().flat_map(site_recovery_vim::Snapshot::all);
        let to = all.into_iter().find(|s| s.name == name).expect("it is there").moref.clone();
        self.world.done(self.world.eyes.revert(&to).await).await;
        assert!(self.world.power(&self.name, "on").await);
    }

    /// What is at the appliance, by mode and file.
    pub(crate) async fn attached(&self) -> BTreeMap<String, String> {
        let moref = self.world.moref(&self.world.appliance).await;
        let details = self.world.eyes.machine(&moref).await.unwrap().details.unwrap();
        let disks = details.devices.disks.into_iter();
        disks.map(|d| (d.backing.file.unwrap().to_string(), format!("{:?}", d.backing.mode))).collect()
    }
}

/// The bytes of a run, by its extents.
pub(crate) async fn bytes_of(disk: &std::sync::Arc<dyn Disk>, run: Run) -> Result<Vec<u8>> {
    let (pool, mut bytes) = (Pool::new(8 << 20), vec![0; run.len as usize]);
    for extent in disk.extents(run).await? {
        if extent.fill == Fill::Data {
            for piece in extent.run.pieces(256 << 10) {
                let at = (piece.start - run.start) as usize;
                bytes[at..at + piece.len as usize].copy_from_slice(&disk.read(piece, &pool).await?);
            }
        }
    }
    Ok(bytes)
}
