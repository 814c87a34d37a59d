//! A machine, a caller that ships it, and what its disks must hold.
#![allow(dead_code, reason = "each test file uses its part")]

#[cfg(feature = "azure")]
pub(crate) mod azurite;
pub(crate) mod faulty;
pub(crate) mod life;
pub(crate) mod worm;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use site_recovery::*;
use site_recovery_points::Points;
use site_recovery_record::{Codec, Keyring, Packer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const BLOCK: u64 = 4096;
/// The second disk ends in the middle of a block.
pub(crate) const SIZES: [(&str, u64); 2] = [("boot", 64 * BLOCK), ("data", 40 * BLOCK + 512)];

pub(crate) type Image = BTreeMap<DiskId, Vec<u8>>;

#[derive(Debug, Default)]
pub(crate) struct HandClock(pub(crate) AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// A xorshift generator: the same seed, the same run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

pub(crate) fn id() -> MachineId {
    "web".into()
}

pub(crate) fn machine() -> Machine {
    let disk = |(name, size): (&str, u64)| DiskSpec {
        id: name.into(),
        size,
        role: if name == "boot" { DiskRole::System } else { DiskRole::Data },
        included: true,
    };
    Machine {
        instance: Instance {
            machine: id(),
            site: "here".into(),
            name: "web-01".into(),
            generation: Generation(0),
        },
        title: None,
        disks: SIZES.map(disk).to_vec(),
        nics: vec![],
        cpus: 2,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}

pub(crate) fn blank() -> Image {
    machine().disks.iter().map(|d| (d.id.clone(), vec![0; d.size as usize])).collect()
}

pub(crate) fn op(key: &str, epoch: u64) -> Op {
    Op { key: key.into(), epoch: Epoch { number: epoch, owner: "engine".into() } }
}

pub(crate) fn control() -> Control {
    let epoch = Epoch { number: 1, owner: "engine".into() };
    let item = Item::new(machine(), epoch, Policy::default(), "out", "back");
    Control { unit: "web".into(), members: vec![id()], item }
}

/// A record of the machine `web`, sealed with no key.
pub(crate) fn pack(disk: &DiskId, run: Run, plain: Bytes, codec: Codec) -> Record {
    Packer::new(codec, Keyring::new()).pack(&"web".into(), disk, run, plain, Form::Sealed)
}

pub(crate) fn phase(epoch: u64, revision: u64) -> PhaseRecord {
    let mut control = control();
    control.item.epoch.number = epoch;
    control.item.revision = revision;
    PhaseRecord { written: Timestamp(1), run: None, prepared: None, control }
}

pub(crate) fn cursor(token: u8) -> Cursor {
    Cursor { generation: Generation(0), token: vec![token] }
}

pub(crate) fn manifest(cut: &str) -> Manifest {
    Manifest {
        machine: machine(),
        members: vec![id()],
        cut: cut.into(),
        taken: Timestamp(7),
        consistency: Consistency::Crash,
        cursor: Some(cursor(cut.len() as u8)),
        sidecars: vec![Sidecar { name: "uefi-vars".into(), bytes: vec![1, 2] }],
        control: control(),
    }
}

pub(crate) fn set(runs: &[(&str, u64, u64)]) -> ChangeSet {
    runs.iter().map(|(disk, start, len)| (DiskId::from(*disk), Run::new(*start, *len))).collect()
}

/// Records of `run`, at most `most` bytes each, with what `image` holds.
pub(crate) fn records(image: &Image, disk: &DiskId, run: Run, most: u64) -> Vec<Record> {
    let record = |part: Run| {
        let plain = &image[disk][part.start as usize..part.end() as usize];
        pack(disk, part, Bytes::copy_from_slice(plain), Codec::Zstd)
    };
    run.pieces(most).map(record).collect()
}

pub(crate) fn all_records(image: &Image, plan: &ChangeSet, most: u64) -> Vec<Record> {
    let of_disk = |(disk, runs): (&DiskId, &[Run])| {
        runs.iter().flat_map(|run| records(image, disk, *run, most)).collect::<Vec<_>>()
    };
    plan.disks().flat_map(of_disk).collect()
}

/// Ships `plan` of `image` as a caller does: widened by what the head says was touched, resumed where it may be.
pub(crate) async fn ship(
    points: &dyn Replica,
    op: &Op,
    cut: &str,
    image: &Image,
    plan: &ChangeSet,
) -> Result<Point> {
    let plan = match points.head(&id()).await? {
        Head::Unsettled { touched, .. } => plan.clone().union(&touched),
        _ => plan.clone(),
    }
    .aligned(BLOCK, &machine().disks);
    let ingest = points.begin(op, &machine(), &cut.into(), &plan).await?;
    let mut tally = Tally::new(&plan);
    let below = |r: &Record| ingest.resume.get(&r.disk).is_some_and(|end| r.run.end() <= *end);
    let (landed, rest): (Vec<_>, Vec<_>) = all_records(image, &plan, 4 * BLOCK).into_iter().partition(below);
    landed.iter().for_each(|r| tally.equal(&r.disk, r.run));
    for (batch, records) in rest.chunks(3).enumerate() {
        points.write(&ingest, batch as u64, records.to_vec()).await?;
        records.iter().for_each(|r| tally.landed(r));
    }
    points.seal(&ingest, &manifest(cut), tally.finish()?).await
}

pub(crate) async fn read(disks: &Disks) -> Result<Image> {
    let (pool, mut image) = (Pool::new(1 << 20), Image::new());
    for (id, disk) in disks {
        let mut bytes = vec![];
        for part in Run::new(0, disk.size()).pieces(10 * BLOCK) {
            bytes.extend_from_slice(&disk.read(part, &pool).await?);
        }
        image.insert(id.clone(), bytes);
    }
    Ok(image)
}

pub(crate) async fn image_at(points: &dyn Replica, point: PointId) -> Result<Image> {
    read(&points.open(&id(), point).await?).await
}

/// Changes some blocks, zeros some, and says where.
pub(crate) fn churn(image: &mut Image, dice: &mut Dice) -> ChangeSet {
    let mut set = ChangeSet::new();
    for _ in 0..1 + dice.below(5) {
        let (name, size) = SIZES[dice.below(2) as usize];
        let start = dice.below(size / BLOCK) * BLOCK;
        let end = (start + (1 + dice.below(6)) * BLOCK).min(size);
        let byte = if dice.below(4) == 0 { 0 } else { 1 + dice.below(255) as u8 };
        let bytes = &mut image.get_mut(&DiskId::from(name)).expect("a disk")[start as usize..end as usize];
        bytes.fill(byte);
        if byte != 0 {
            bytes[0] = dice.below(256) as u8;
        }
        set.add(&name.into(), Run::new(start, end - start));
    }
    set
}

pub(crate) fn whole() -> ChangeSet {
    ChangeSet::whole(&machine().disks)
}

pub(crate) async fn prepared(points: &dyn Replica) -> Result<()> {
    points.prepare(&op("prepare", 1), &machine(), &Seed::Fresh, &Settings::default()).await
}

/// A directory with one prepared machine.
pub(crate) async fn fresh() -> (tempfile::TempDir, Arc<Points>, Arc<HandClock>) {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), Arc::new(HandClock::default()));
    let points = reopened(&dir, &clock);
    prepared(&*points).await.expect("prepared");
    (dir, points, clock)
}

pub(crate) fn reopened(dir: &tempfile::TempDir, clock: &Arc<HandClock>) -> Arc<Points> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Arc::new(Points::directory("store".into(), dir.path(), clock).expect("a directory"))
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("it must be refused").kind()
}

/// A directory with two points, and what they hold.
pub(crate) async fn two_points() -> (tempfile::TempDir, Arc<Points>, Arc<HandClock>, [Image; 2]) {
    let (dir, points, clock) = fresh().await;
    let mut image = blank();
    image.get_mut(&DiskId::from("boot")).expect("a disk")[..10_000].fill(7);
    let first = image.clone();
    ship(&*points, &op("one", 1), "one", &image, &whole()).await.expect("sealed");
    image.get_mut(&DiskId::from("data")).expect("a disk")[4096..8192].fill(9);
    ship(&*points, &op("two", 1), "two", &image, &set(&[("data", 4096, 4096)])).await.expect("sealed");
    (dir, points, clock, [first, image])
}

/// Every file below.
pub(crate) fn walk(path: &std::path::Path) -> Box<dyn Iterator<Item = std::path::PathBuf>> {
    let entries = std::fs::read_dir(path).expect("a directory").map(|e| e.expect("an entry").path());
    Box::new(entries.flat_map(|p| if p.is_dir() { walk(&p) } else { Box::new(std::iter::once(p)) }))
}
