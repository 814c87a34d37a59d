//! Two calls under one key: the later one builds, the earlier one is told, and no byte of it reaches the machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use std::fs;
use std::sync::Arc;
use support::*;
use tokio::sync::Semaphore;

const SIZE: u64 = 20 << 20;

/// A disk of one byte's value, whose reads wait for permits.
#[derive(Debug)]
struct Gated {
    value: u8,
    asked: Semaphore,
    let_go: Semaphore,
}

#[async_trait]
impl Disk for Gated {
    fn size(&self) -> u64 {
        SIZE
    }
    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        Ok(vec![Extent { run: range, fill: Fill::Data }])
    }
    async fn read(&self, run: Run, _: &Pool) -> Result<Bytes> {
        self.asked.add_permits(1);
        self.let_go.acquire().await.unwrap().forget();
        Ok(vec![self.value; run.len as usize].into())
    }
}

fn holding(value: u8, reads: usize) -> (Arc<Gated>, Arc<dyn Replica>) {
    let disk = Arc::new(Gated { value, asked: Semaphore::new(0), let_go: Semaphore::new(reads) });
    let mut point = OnePoint::of([("root".into(), vec![])].into());
    let instead = [("root".into(), Arc::clone(&disk) as Arc<dyn Disk>)].into();
    Arc::get_mut(&mut point).unwrap().instead = instead;
    (disk, point)
}

fn recovery() -> Recovery {
    let instance =
        Instance { machine: "m".into(), site: "there".into(), name: "web".into(), generation: Generation(0) };
    let root = DiskSpec { id: "root".into(), size: SIZE, role: DiskRole::System, included: true };
    Recovery {
        machine: Machine { disks: vec![root], ..machine_of(instance) },
        sidecars: vec![],
        point: PointId(4),
        taken: Timestamp(9),
        consistency: Consistency::Crash,
        generation: Generation(1),
        purpose: Purpose::Failover,
        settings: Settings::default(),
    }
}

fn machine_of(instance: Instance) -> Machine {
    Machine {
        instance,
        title: None,
        disks: vec![],
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}

#[tokio::test]
async fn rol_4_a_later_call_of_the_same_key_takes_over() {
    let world = World::new();
    let (op, what) = (op("make"), recovery());
    // The earlier call has written a batch, and hangs in the next.
    let (disk, slow) = holding(1, 9);
    let site = world.site.clone();
    let earlier = spawn({
        let (op, what) = (op.clone(), what.clone());
        async move { site.materialise(&op, &what, &slow).await }
    });
    disk.asked.acquire_many(10).await.unwrap().forget();

    let (_, whole) = holding(2, 20);
    let armed = world.site.materialise(&op, &what, &whole).await.unwrap();
    disk.let_go.add_permits(20);
    let told = earlier.await.unwrap().unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Busy, "{told}");
    let (_, unused) = holding(3, 0);
    assert_eq!(
        world.site.materialise(&op, &what, &unused).await.unwrap(),
        armed,
        "a repeat finds what stands"
    );

    let bytes = fs::read(world.path(&armed.instance.name).join("disk-root.raw")).unwrap();
    assert!(bytes.len() as u64 == SIZE && bytes.iter().all(|b| *b == 2), "bytes of the earlier call");
    let drafts = fs::read_dir(world.dir.path().join(".site-recovery/making")).unwrap();
    assert_eq!(drafts.count(), 0, "drafts are left behind");
}

/// A fence that was dropped while it waited for its turn stops nothing when the turn comes.
#[tokio::test]
async fn rol_4_a_call_dropped_before_its_turn_begins_nothing() {
    let world = World::new();
    world.machine_with(
        "web",
        r#""freeze": {"run": ["sh", "-c", "read line < go"]}, "thaw": {"run": ["true"]}"#,
    );
    let web = world.enrol("web").await;
    world.site.switch_on("web").await.unwrap();
    let go = world.path("web/go");
    assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
    // A capture has the turn, and waits for its freeze.
    let site = world.again();
    let first = spawn({
        let (site, web) = (site.clone(), web.clone());
        async move { site.capture(&op("first"), &[web], Consistency::FileSystem).await }
    });
    let opened = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(go).unwrap());
    let mut opened = opened.await.unwrap(); // the command reads
    // A fence is dropped behind it.
    let late = op("late");
    let mut fence = Box::pin(site.fence(&late, &web, std::time::Duration::ZERO));
    assert!(futures_util::poll!(fence.as_mut()).is_pending());
    drop(fence);
    std::io::Write::write_all(&mut opened, b"\n").unwrap();
    drop(opened);
    first.await.unwrap().unwrap();
    // Time enough for the fence to get its turn: it stands among these, under the same authority.
    for _ in 0..200 {
        site.claim(&op("claim"), &web.machine).await.unwrap();
    }
    assert!(world.is_on("web"), "the late fence stopped it");
}
