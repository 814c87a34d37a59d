//! A catalogue of 518,400 points, a month of one every five seconds, beside one of 288: opening the newest, listing a
//! page, dropping the oldest, and memory. Each point writes one run of zeros, so that there are maps and no data.
//!
//! `cargo bench -p site-recovery-points --bench catalogue [-- POINTS]`
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use site_recovery::*;
use site_recovery_points::Points;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SMALL: u64 = 288;
const MONTH: u64 = 30 * 24 * 3600 / 5;
const BLOCKS: u64 = 16_384;
const BLOCK: u64 = 65_536;
const ROUNDS: usize = 21;

fn machine() -> Machine {
    let disk = DiskSpec { id: "disk".into(), size: BLOCKS * BLOCK, role: DiskRole::System, included: true };
    let (machine, site) = ("web".into(), "here".into());
    let instance = Instance { machine, site, name: "web-01".into(), generation: Generation(0) };
    Machine {
        instance,
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

fn op(key: String) -> Op {
    Op { key: OpKey::from(key.as_str()), epoch: Epoch { number: 1, owner: "bench".into() } }
}

/// Nothing is synced: how fast a disk is does not matter here.
fn open(dir: &std::path::Path) -> Points {
    let store = LocalFileSystem::new_with_prefix(dir).expect("a directory");
    Points::new("store".into(), Arc::new(store), Path::default(), Arc::new(SystemClock))
}

async fn fill(points: &Points, count: u64) -> Result<()> {
    let machine = machine();
    let (id, disk) = (machine.id().clone(), DiskId::from("disk"));
    points.prepare(&op("prepare".into()), &machine, &Seed::Fresh, &Settings::default()).await?;
    let epoch = op(String::new()).epoch;
    let item = Item::new(machine.clone(), epoch, Policy::default(), "out", "back");
    for number in 0..count {
        let run = Run::new(number * 7919 % BLOCKS * BLOCK, BLOCK);
        let plan: ChangeSet = [(disk.clone(), run)].into_iter().collect();
        let (key, cut) = (op(format!("point-{number}")), CutId::from(format!("cut-{number}").as_str()));
        let ingest = points.begin(&key, &machine, &cut, &plan).await?;
        let record = Record { disk: disk.clone(), run, checksum: 0, payload: Payload::Zero };
        let mut tally = Tally::new(&plan);
        tally.landed(&record);
        points.write(&ingest, 0, vec![record]).await?;
        let manifest = Manifest {
            machine: machine.clone(),
            members: vec![id.clone()],
            cut,
            taken: Timestamp(number * 5000),
            consistency: Consistency::Crash,
            cursor: None,
            sidecars: vec![],
            control: Control { unit: "web".into(), members: vec![id.clone()], item: item.clone() },
        };
        points.seal(&ingest, &manifest, tally.finish()?).await?;
    }
    Ok(())
}

/// From a store that knows nothing yet to the first bytes of the newest point.
async fn first_bytes(dir: &std::path::Path, newest: u64) -> Result<Duration> {
    let (points, pool) = (open(dir), Pool::new(1 << 20));
    let start = Instant::now();
    let disks = points.open(&"web".into(), PointId(newest)).await?;
    disks[&DiskId::from("disk")].read(Run::new(0, 4096), &pool).await?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The most memory that this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

fn main() -> Result<()> {
    let count = std::env::args().filter_map(|word| word.parse().ok()).next_back().unwrap_or(MONTH);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    std::fs::create_dir_all(&target).expect("the target directory");
    let dirs = [SMALL, count].map(|count| {
        (count, tempfile::Builder::new().prefix("catalogue-").tempdir_in(&target).expect("a directory"))
    });
    runtime.block_on(async {
        let mut opened = vec![];
        for (count, dir) in &dirs {
            let start = Instant::now();
            fill(&open(dir.path()), *count).await?;
            println!("{count} points were made in {:.1?}", start.elapsed());
            let mut times = vec![];
            for _ in 0..ROUNDS {
                times.push(first_bytes(dir.path(), *count).await?);
            }
            opened.push(median(times));
            println!("  opening the newest, to its first bytes: {:.2?}", opened[opened.len() - 1]);
        }
        println!("  ratio: {:.2} (at most 2)", opened[1].as_secs_f64() / opened[0].as_secs_f64());
        let (points, id) = (open(dirs[1].1.path()), MachineId::from("web"));
        let mut times = vec![];
        for round in 0..ROUNDS as u64 {
            let start = Instant::now();
            let page = points.page(&id, Some(PointId(count * round / ROUNDS as u64)), 100).await?;
            times.push(start.elapsed());
            assert!(!page.is_empty());
        }
        println!("  a page of 100 points, anywhere: {:.2?} (at most 10 ms)", median(times));
        for many in [10_u64, 100, 256] {
            let first = points.page(&id, None, many as usize).await?;
            let drop: Vec<PointId> = first.iter().map(|point| point.id).collect();
            let start = Instant::now();
            let dropped = points.prune(&op(format!("prune-{many}")), &id, &drop).await?.len();
            println!("  dropping the {dropped} oldest: {:.2?} each", start.elapsed() / dropped as u32);
        }
        println!("  most memory: {} MiB (at most 128)", peak());
        Ok(())
    })
}
