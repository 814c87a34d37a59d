//! What single calls of a store cost behind a history of 288 points, in memory, so that no disk counts: a delta that is
//! landed and sealed, the newest point opened and read, a gigabyte hashed out of the maps, the changes of a day.
//!
//! `cargo bench -p site-recovery-points --bench parts [-- FILTER]`

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use object_store::memory::InMemory;
use object_store::path::Path;
use site_recovery::*;
use site_recovery_points::Points;
use site_recovery_record::{Codec, Keyring, Packer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::Runtime;

const HISTORY: u64 = 288;
const BLOCK: u64 = 64 << 10;
const BLOCKS: u64 = 16_384;
/// Blocks that each point writes.
const DELTA: u64 = 33;

struct History {
    store: Arc<InMemory>,
    points: Points,
    machine: Machine,
    next: AtomicU64,
}

impl History {
    fn open(store: &Arc<InMemory>) -> Points {
        Points::new("store".into(), Arc::clone(store) as _, Path::default(), Arc::new(SystemClock))
    }

    async fn new() -> Result<Self> {
        let store = Arc::new(InMemory::new());
        let (points, machine) = (Self::open(&store), machine());
        let settings = Settings::default();
        points.prepare(&op("prepare".into()), &machine, &Seed::Fresh, &settings).await?;
        let history = Self { store, points, machine, next: AtomicU64::new(0) };
        for _ in 0..HISTORY {
            history.point().await?;
        }
        Ok(history)
    }

    async fn point(&self) -> Result<Point> {
        let number = self.next.fetch_add(1, Relaxed);
        let (disk, cut) = (DiskId::from("disk"), CutId::from(format!("cut-{number}").as_str()));
        let runs = (0..DELTA).map(|at| Run::new((number * 7919 + at * 463) % BLOCKS * BLOCK, BLOCK));
        let plan: ChangeSet = runs.map(|run| (disk.clone(), run)).collect();
        let key = op(format!("point-{number}"));
        let ingest = self.points.begin(&key, &self.machine, &cut, &plan).await?;
        let (packer, mut tally) = (Packer::new(Codec::Zstd, Keyring::new()), Tally::new(&plan));
        let pack = |run: Run| packer.pack(self.machine.id(), &disk, run, content(number, run), Form::Sealed);
        let records: Vec<Record> =
            plan.disks().flat_map(|(_, runs)| runs).flat_map(|run| run.pieces(BLOCK)).map(pack).collect();
        records.iter().for_each(|record| tally.landed(record));
        self.points.write(&ingest, 0, records).await?;
        let (id, item) = (self.machine.id().clone(), Policy::default());
        let item = Item::new(self.machine.clone(), key.epoch, item, "out", "back");
        let manifest = Manifest {
            machine: self.machine.clone(),
            members: vec![id.clone()],
            cut,
            taken: Timestamp(number * 300_000),
            consistency: Consistency::Crash,
            cursor: None,
            sidecars: vec![],
            control: Control { unit: "web".into(), members: vec![id], item },
        };
        self.points.seal(&ingest, &manifest, tally.finish()?).await
    }
}

fn parts(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let history = runtime.block_on(History::new()).expect("nothing is in the way");
    let (id, disk) = (history.machine.id().clone(), DiskId::from("disk"));
    let newest = || PointId(history.next.load(Relaxed));
    let mut group = criterion.benchmark_group("behind 288 points");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(DELTA * BLOCK));
    group.bench_function("pack, land and seal 33 blocks", |bencher| {
        bencher.iter(|| runtime.block_on(history.point()).expect("sealed"));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("open the newest in a new store and read 4 KiB", |bencher| {
        bencher.iter(|| {
            let read = async {
                let disks = History::open(&history.store).open(&id, newest()).await?;
                disks[&disk].read(Run::new(7919 * BLOCK, 4096), &Pool::new(1 << 20)).await
            };
            runtime.block_on(read).expect("it reads")
        });
    });
    group.bench_function("changes since the first point", |bencher| {
        let changed = || history.points.changed(&id, Some(PointId(1)), newest());
        bencher.iter(|| runtime.block_on(changed()).expect("told"));
    });
    group.throughput(Throughput::Bytes(BLOCKS * BLOCK));
    group.bench_function("hashes of 1 GiB", |bencher| {
        let hashes = || history.points.hashes(&id, &disk, Run::new(0, BLOCKS * BLOCK));
        bencher.iter(|| runtime.block_on(hashes()).expect("told"));
    });
    group.finish();
}

fn op(key: String) -> Op {
    Op { key: OpKey::from(key.as_str()), epoch: Epoch { number: 1, owner: "bench".into() } }
}

fn machine() -> Machine {
    let disk = DiskSpec { id: "disk".into(), size: BLOCKS * BLOCK, role: DiskRole::System, included: true };
    let (machine, site) = ("web".into(), "here".into());
    Machine {
        instance: Instance { machine, site, name: "web-01".into(), generation: Generation(0) },
        title: None,
        disks: vec![disk],
        nics: vec![],
        cpus: 2,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}

/// Something that zstd makes a third of.
fn content(number: u64, run: Run) -> Bytes {
    let mut state = (number << 32) | (run.start / BLOCK) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state & 0x0f0f_00ff_0000_0f0f).to_le_bytes()
    });
    words.take(run.len as usize / 8).flatten().collect()
}

criterion_group!(benches, parts);
criterion_main!(benches);
