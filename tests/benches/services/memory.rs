//! S4: what an agent takes of its server's memory.

use crate::Outcome;
use crate::fleet::{Fleet, Records, Store};
use crate::hosts::{Disk, Ground};
use crate::programs::need;
use crate::report::Report;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 4 << 40;
/// Pieces of 1 MiB with data, in equal distances.
const PIECES: u64 = 1024;
const LOOK: Duration = Duration::from_millis(2);
/// After a copy, until memory is looked at as it is at rest.
const REST: Duration = Duration::from_secs(2);
const AT_REST: f64 = 64.0;
const AT_WORK: f64 = 256.0;

pub(crate) async fn of_the_agent(report: &Report, rounds: usize) -> Outcome<()> {
    need(&["mkfs.xfs"])?;
    let ground = Ground::new("bench-S4");
    let room = ground.store(8 << 30);
    let image = room.dir().join("sparse.raw");
    spread(&image)?;
    let disk = Disk::over(&ground, &image, SIZE);
    let fleet = Fleet::start(&ground, &disk, Store::Apart, Records::CompressedAndSealed).await?;
    let agent = fleet.agent.process.id();
    let (mut rest, mut work) = (vec![(memory(agent)?, AT_REST)], vec![]);
    for number in 0..rounds {
        let watch = Watch::of(agent);
        let round = fleet.first_copy(number, None).await?;
        work.push((watch.most()?, AT_WORK));
        if round.crossed < PIECES * MIB {
            return Err(
                format!("{} bytes crossed, and {} MiB of noise are there", round.crossed, PIECES).into()
            );
        }
        tokio::time::sleep(REST).await;
        rest.push((memory(agent)?, AT_REST));
    }
    fleet.stop().await;
    report.figures("S4", "MiB, agent at rest, against the goal", &rest[..1], Some(1.0))?;
    report.figures("S4", "MiB, agent at rest after a copy, against the goal", &rest[1..], Some(1.0))?;
    report.figures("S4", "MiB at most, agent in a first copy of 4 TiB, against the goal", &work, Some(1.0))
}

/// A file with noise here and there, and holes.
fn spread(image: &Path) -> Outcome<()> {
    let (file, mut noise) = (File::create(image)?, File::open("/dev/urandom")?);
    file.set_len(SIZE)?;
    let mut piece = vec![0; MIB as usize];
    for number in 0..PIECES {
        noise.read_exact(&mut piece)?;
        file.write_all_at(&piece, number * (SIZE / PIECES))?;
    }
    Ok(file.sync_all()?)
}

/// MiB of a process's memory that are no file's.
fn memory(process: u32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("status has no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Looks at a process's memory again and again.
struct Watch {
    thread: std::thread::JoinHandle<()>,
    seen: std::sync::Arc<(AtomicBool, AtomicU64)>,
}

impl Watch {
    fn of(process: u32) -> Self {
        let seen = std::sync::Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
        let shared = std::sync::Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            while !shared.0.load(Ordering::Relaxed) {
                let now = memory(process).unwrap_or(f64::INFINITY);
                shared.1.fetch_max((now * 1024.0) as u64, Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Self { thread, seen }
    }

    fn most(self) -> Outcome<f64> {
        self.seen.0.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watcher panicked")?;
        Ok(self.seen.1.load(Ordering::Relaxed) as f64 / 1024.0)
    }
}
