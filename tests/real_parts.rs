//! An engine over real parts dies at every journal write of an operation; the next one over the same directories goes on,
//! and what it ships then is what changed.
//!
//! Sites are directories, with a store of points, a process server with a spool, and a master target between them. Every
//! engine lives in a runtime of its own: with that ends all that it had begun, as in a process that is killed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use site_recovery::state::{Direction, Kind, Phase, Resync};
use site_recovery::{
    CommitRequest, Deadlines, Delivery, FailoverRequest, HASH_BLOCK, Head, ItemHandle, Job, Leg, MachineId,
    NoticeKind, Policy, Pool, ProtectRequest, Replica, ReprotectRequest, Result, Run, SystemClock, Vault,
};
use site_recovery_journal::SqliteJournal;
use site_recovery_local::LocalSite;
use site_recovery_master_target::MasterTarget;
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer;
use site_recovery_testkit::crash::{Crash, CrashingJournal};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const OUT: Direction = Direction::PrimaryToRecovery;
const BACK: Direction = Direction::RecoveryToPrimary;
const PAGE: u64 = 4096;
const DISKS: [(&str, u64); 2] = [("boot", 512 * 1024), ("data", 256 * 1024 + 512)];

type Content = BTreeMap<String, Vec<u8>>;

/// What outlives an engine.
struct Ground(TempDir);

/// An engine and its parts.
struct Life {
    dir: PathBuf,
    here: LocalSite,
    cloud: LocalSite,
    points: Arc<Points>,
    master_target: Arc<MasterTarget>,
    journal: CrashingJournal,
    vault: Vault,
}

impl Ground {
    /// A machine `web` that runs here, with bytes on both disks.
    fn new() -> Self {
        // In memory where that can be: these engines are killed, and the power stays on.
        let memory = Path::new("/dev/shm");
        let below = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let ground = Self(tempfile::tempdir_in(below).unwrap());
        let web = ground.0.path().join("here/web");
        fs::create_dir_all(&web).unwrap();
        let mut described = vec![];
        for (id, size) in DISKS {
            let mut bytes = vec![0; size as usize];
            for page in (0..size / PAGE).step_by(3) {
                bytes[(page * PAGE) as usize..][..PAGE as usize].copy_from_slice(&pattern(page + size));
            }
            fs::write(web.join(format!("disk-{id}.raw")), bytes).unwrap();
            described.push(format!(r#"{{ "id": "{id}", "file": "disk-{id}.raw" }}"#));
        }
        let text = format!(r#"{{ "os": "linux", "disks": [{}] }}"#, described.join(", "));
        fs::write(web.join("machine.json"), text).unwrap();
        ground.live(Crash::Never, async |life| life.here.switch_on("web").await.unwrap());
        ground
    }

    /// The whole life of an engine that dies at `crash`.
    fn live<T>(&self, crash: Crash, what: impl AsyncFnOnce(&Life) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let life = Life::open(self.0.path(), crash).await.unwrap();
            what(&life).await
        })
    }
}

impl Life {
    async fn open(dir: &Path, crash: Crash) -> Result<Self> {
        let (dir, clock) = (dir.to_owned(), Arc::new(SystemClock));
        let here = LocalSite::open("here".into(), dir.join("here"), clock.clone())?;
        let cloud = LocalSite::open("cloud".into(), dir.join("cloud"), clock.clone())?;
        let process_server = Arc::new(
            ProcessServer::builder("process-server")
                .spool(dir.join("spool"))
                .spool_limit(1 << 30)
                .build()
                .await?,
        );
        let points = Arc::new(Points::directory("points".into(), dir.join("points"), clock.clone())?);
        let landing = Arc::new(here.clone());
        let retention = dir.join("retention");
        let master_target = Arc::new(MasterTarget::open("master-target", landing, retention, clock).await?);
        let journal = Arc::new(SqliteJournal::open(dir.join("journal.db")).await?);
        let journal = CrashingJournal::new(journal, crash);
        let (source, target) = (Arc::new(here.clone()), Arc::new(cloud.clone()));
        let deadlines = Deadlines { retry_after: Duration::ZERO, tries: 2, ..Deadlines::default() };
        let vault = Vault::builder()
            .out(Leg::out(source, process_server.clone(), points.clone(), target.clone()))
            .back(Leg::back(target, process_server, master_target.clone()))
            .journal(Arc::new(journal.clone()))
            .deadlines(deadlines)
            .build()
            .await?;
        Ok(Self { dir, here, cloud, points, master_target, journal, vault })
    }

    fn web(&self) -> Result<ItemHandle> {
        self.vault.find("web")
    }

    fn phase(&self) -> Phase {
        self.web().unwrap().state().unwrap().phase
    }

    async fn protect(&self) -> Result<()> {
        let policy = Policy::every(Duration::from_secs(300));
        let web = self.vault.protect(ProtectRequest::machine("web").policy(policy)).await?;
        web.until_done().await
    }

    /// Goes on with what an engine before this one had begun, to its end.
    async fn resume(&self) {
        for job in self.vault.resume().await.into_values() {
            job.unwrap().wait().await.unwrap();
        }
    }

    /// The bytes of the machine at a site, past the adapters.
    fn bytes(&self, site: &str) -> Content {
        let read = |(id, _): (&str, u64)| {
            let file = self.dir.join(site).join("web").join(format!("disk-{id}.raw"));
            (id.to_owned(), fs::read(file).unwrap())
        };
        DISKS.into_iter().map(read).collect()
    }

    fn both_sides_are_the_same(&self, when: &str) {
        assert!(self.bytes("here") == self.bytes("cloud"), "{when}: the sides differ");
    }

    /// One page is written at the side that runs, and one cycle ships the blocks of that and of what was written since the
    /// last point, and no more. The head has a cursor, so the cycle asks the source for the changes since: where they are
    /// unknown it fails, and both sides are compared later.
    async fn a_cycle_is_a_delta(&self, direction: Direction, when: &str) {
        let web = self.web().unwrap();
        let state = web.state().unwrap();
        assert_eq!((state.phase, state.direction), (Phase::Protected, direction), "{when}");
        let (site, name, replica): (_, _, Arc<dyn Replica>) = match direction {
            OUT => (&self.here, "here", self.points.clone()),
            BACK => (&self.cloud, "cloud", self.master_target.clone()),
        };
        let head = replica.head(web.id()).await.unwrap();
        assert!(matches!(head, Head::Sealed { cursor: Some(_), .. }), "{when}: no delta from {head:?}");
        write(site, "data", 30).await.unwrap();
        let mut events = self.vault.events();
        let cycle = self.vault.replicate_now(web.id()).await;
        assert!(cycle.is_ok(), "{when}: the cycle is no delta: {}", cycle.unwrap_err());
        assert_eq!(web.state().unwrap().resync, Resync::None, "{when}");
        let mut sealed = vec![];
        while let Some(Delivery::Notice(notice)) = events.try_next() {
            if let NoticeKind::Sealed { changed, .. } = notice.kind {
                sealed.push(changed);
            }
        }
        let [changed] = sealed[..] else { panic!("{when}: one point, not {sealed:?}") };
        let few = 1..=3 * HASH_BLOCK;
        assert!(few.contains(&changed), "{when}: {changed} bytes, where three pages were written at most");
        assert!(
            newest(&replica, web.id()).await == self.bytes(name),
            "{when}: the newest point is not what runs"
        );
    }
}

/// Writes as the guest of `web` does, at a page that is like no other.
async fn write(site: &LocalSite, disk: &str, page: u64) -> Result<()> {
    site.write_disk("web", &disk.into(), page * PAGE, pattern(page + 7777).into()).await
}

/// A page that is like no other.
fn pattern(seed: u64) -> Vec<u8> {
    (0..PAGE / 8)
        .flat_map(|i| ((seed << 16 | i) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

async fn newest(replica: &Arc<dyn Replica>, machine: &MachineId) -> Content {
    let (pool, mut all) = (Pool::new(8 << 20), Content::new());
    let newest = replica.points(machine).await.unwrap().pop().unwrap();
    for (id, disk) in replica.open(machine, newest.id).await.unwrap() {
        let bytes = disk.read(Run::new(0, disk.size()), &pool).await.unwrap();
        all.insert(id.0, bytes.to_vec());
    }
    all
}

/// Runs `act` on a ground made by `stage`, once to its end, and to its death at every journal write; then `then` in the
/// engine that comes after, which has resumed. Between the two the guest at `site` writes, if it runs.
fn sweep(
    stage: fn(&Ground),
    act: impl AsyncFn(&Life) -> Result<()>,
    site: fn(&Life) -> &LocalSite,
    then: impl AsyncFn(&Life, &str),
) {
    let ground = Ground::new();
    stage(&ground);
    let writes = ground.live(Crash::Never, async |life| {
        act(life).await.unwrap();
        life.journal.writes()
    });
    println!("{writes} journal writes");
    assert!(writes > 3, "only {writes} journal writes");
    for crash in Crash::sweep(writes) {
        let ground = Ground::new();
        stage(&ground);
        ground.live(crash, async |life| {
            let _ = act(life).await;
            assert!(life.journal.is_dead(), "{crash:?} was not reached");
        });
        ground.live(Crash::Never, async |life| {
            let _ = write(site(life), "boot", 50).await;
            life.resume().await;
            then(life, &format!("{crash:?}")).await;
        });
    }
}

#[test]
fn enabling_survives_a_crash_at_every_write_and_the_next_cycle_is_a_delta() {
    let then = async |life: &Life, when: &str| {
        match life.web() {
            Err(_) => life.protect().await.unwrap(),
            Ok(web) if life.phase() != Phase::Protected => done(web.enable().await).await,
            Ok(_) => {}
        }
        life.a_cycle_is_a_delta(OUT, when).await;
    };
    sweep(|_| (), Life::protect, |life| &life.here, then);
}

#[test]
fn a_planned_failover_survives_a_crash_at_every_write_and_loses_nothing() {
    let fail_over =
        async |life: &Life| life.web()?.failover(FailoverRequest::planned(OUT)).await?.done().await.map(drop);
    let then = async |life: &Life, when: &str| {
        if life.phase() == Phase::Protected {
            life.a_cycle_is_a_delta(OUT, when).await;
            fail_over(life).await.unwrap();
        }
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
        assert!(life.here.switch_on("web").await.is_err(), "{when}: both sides can run");
        life.both_sides_are_the_same(when);
    };
    sweep(protected, fail_over, |life| &life.here, then);
}

#[test]
fn a_reprotect_survives_a_crash_at_every_write_and_the_next_cycle_is_a_delta() {
    let reprotect =
        async |life: &Life| life.web()?.reprotect(ReprotectRequest::default()).await?.done().await.map(drop);
    let then = async |life: &Life, when: &str| {
        if life.phase() != Phase::Protected {
            reprotect(life).await.unwrap();
        }
        life.a_cycle_is_a_delta(BACK, when).await;
        done(life.web().unwrap().failover(FailoverRequest::planned(BACK)).await).await;
        life.both_sides_are_the_same(when);
    };
    sweep(committed, reprotect, |life| &life.cloud, then);
}

fn protected(ground: &Ground) {
    ground.live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        write(&life.here, "boot", 7).await.unwrap();
    });
}

/// It runs in the cloud for good, and has written there.
fn committed(ground: &Ground) {
    protected(ground);
    ground.live(Crash::Never, async |life| {
        let web = life.web().unwrap();
        done(web.failover(FailoverRequest::planned(OUT)).await).await;
        done(web.commit(CommitRequest::default()).await).await;
        write(&life.cloud, "data", 9).await.unwrap();
    });
}

async fn done(job: Result<Job>) {
    job.unwrap().done().await.unwrap();
}
