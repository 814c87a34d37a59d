//! An agent on a server with mounted file systems: what its captures hold, and what stands in its way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{Ext4, GROUND, Ground, Looped, Mount, Probe, peers, run, within};
use site_recovery::*;
use site_recovery_physical::agent::{Agent, Settings};
use site_recovery_physical::freeze::Hook;
use site_recovery_physical::inventory::ServerDisk;
use site_recovery_physical::snapshot::{Handle, Means, Prepared, Reflink};
use site_recovery_testkit::suite::op;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PROGRAMS: [&str; 7] = ["mkfs.xfs", "mke2fs", "e2fsck", "losetup", "mount", "blockdev", "fsfreeze"];
const MIB: u64 = 1 << 20;

/// A server with two disks, an ext4 on each.
struct World {
    file_systems: Vec<Ext4>,
    server: Arc<Looped>,
    ground: Ground,
}

impl World {
    fn new() -> Self {
        let ground = Ground::new();
        let disks = ["root", "data"].map(|name| ground.disk("web", name, 32 * MIB));
        let server =
            Looped::new("web", &[("wwn-1", Arc::clone(&disks[0])), ("wwn-2", Arc::clone(&disks[1]))]);
        let file_systems = disks.iter().zip(["root", "data"]).map(|(disk, name)| {
            let mounted = Ext4::on(disk, &ground.mounts(name));
            server.mounted(&disk.device, &mounted.at, "ext4");
            mounted
        });
        Self { file_systems: file_systems.collect(), server, ground }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::new("hall".into(), "web");
        settings.state = self.ground.state("web");
        settings.board = self.ground.state("no-board");
        settings
    }

    fn agent(&self, settings: Settings) -> Agent {
        Agent::open(settings, Arc::clone(&self.server) as _, Arc::new(SystemClock)).unwrap()
    }
}

async fn enrolled(agent: &Agent) -> Machine {
    let mut machine = agent.discover().await.unwrap().remove(0);
    machine.instance.machine = "m-web".into();
    agent.enrol(&op("enrol"), &machine).await.unwrap();
    agent.discover().await.unwrap().remove(0)
}

async fn capture(agent: &Agent, machine: &Machine, key: &str, want: Consistency) -> Capture {
    agent.capture(&op(key), std::slice::from_ref(&machine.instance), want).await.unwrap()
}

/// The captured disks, as files.
async fn copies(agent: &Agent, machine: &Machine, capture: &Capture, dir: &Path) -> Vec<PathBuf> {
    let disks = agent.disks(&op("read"), capture, machine.id()).await.unwrap();
    let pool = Pool::new(1 << 20);
    let mut all = vec![];
    for spec in &machine.disks {
        let path = dir.join(format!("{}.copy", spec.id));
        let disk = &disks[&spec.id];
        let mut out = fs::File::create(&path).unwrap();
        for run in Run::new(0, disk.size()).pieces(1 << 20) {
            out.write_all(&disk.read(run, &pool).await.unwrap()).unwrap();
        }
        all.push(path);
    }
    all
}

/// The file of tokens in a copy of a disk, read by a mount that changes nothing.
fn tokens(copy: &Path, at: &Path) -> Vec<u64> {
    let _mount = Mount::of(copy, at, &["-o", "loop,ro,noload"]);
    let bytes = fs::read(at.join("tokens")).unwrap_or_default();
    assert_eq!(bytes.len() % 8, 0, "half a token");
    bytes.as_chunks::<8>().0.iter().map(|t| u64::from_le_bytes(*t)).collect()
}

/// Appends 1, 2, 3 … to a file on the first and then on the second disk, each durable before the next.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn over(world: &World) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let open =
            |fs: &Ext4| OpenOptions::new().create(true).append(true).open(fs.at.join("tokens")).unwrap();
        let mut files: Vec<_> = world.file_systems.iter().map(open).collect();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            for token in 1_u64.. {
                for file in &mut files {
                    file.write_all(&token.to_le_bytes()).unwrap();
                    file.sync_data().unwrap();
                }
                count.store(token, Ordering::SeqCst);
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Self { stop, written, thread: Some(thread) }
    }

    fn comes_to(&self, token: u64) {
        within(agent_support::LONG, "the writer goes on", || self.written.load(Ordering::SeqCst) >= token);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ended = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Shared blocks, slowly: before each snapshot writers get time to write, if anything lets them.
#[derive(Debug)]
struct Slowly;

#[derive(Debug)]
struct SlowlyPrepared(Box<dyn Prepared>);

impl Means for Slowly {
    fn name(&self) -> &'static str {
        "slowly"
    }
    fn plan(&self, disk: &ServerDisk, name: &str) -> Result<Handle> {
        Ok(Handle { means: "slowly".into(), ..Reflink.plan(disk, name)? })
    }
    fn writes_to(&self, disk: &ServerDisk) -> Result<Vec<PathBuf>> {
        Reflink.writes_to(disk)
    }
    fn prepare(&self, disk: &ServerDisk, handle: &Handle) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(SlowlyPrepared(Reflink.prepare(disk, handle)?)))
    }
    fn open(&self, handle: &Handle) -> Result<PathBuf> {
        Reflink.open(handle)
    }
    fn remove(&self, handle: &Handle) -> Result<()> {
        Reflink.remove(handle)
    }
}

impl Prepared for SlowlyPrepared {
    fn take(&mut self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(150));
        self.0.take()
    }
    fn settle(&mut self) -> Result<()> {
        self.0.settle()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_a_capture_under_load_is_one_instant_over_both_disks() {
    if !peers("captures of a server under load", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let mut settings = world.settings();
    settings.snapshots = vec![Arc::new(Slowly)];
    let agent = world.agent(settings);
    let machine = enrolled(&agent).await;
    let writer = Writer::over(&world);
    for round in 0..5 {
        writer.comes_to(writer.written.load(Ordering::SeqCst) + 10);
        let before = writer.written.load(Ordering::SeqCst);
        let capture = capture(&agent, &machine, &format!("capture-{round}"), Consistency::FileSystem).await;
        let after = writer.written.load(Ordering::SeqCst) + 1;
        assert_eq!(capture.consistency, Consistency::FileSystem, "{:?}", capture.quiesce_failed);
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(&agent, &machine, &capture, dir.path()).await;
        let mut held = vec![];
        for copy in &copies {
            let (sound, said) = agent_support::try_run("e2fsck", &["-fn", copy.to_str().unwrap()]);
            assert!(sound, "round {round}: {said}");
            let tokens = tokens(copy, &dir.path().join("look"));
            assert!(
                tokens.iter().copied().eq(1..=tokens.len() as u64),
                "round {round}: not a prefix: {tokens:?}"
            );
            held.push(tokens.len() as u64);
        }
        let [root, data] = held[..] else { unreachable!("two disks") };
        assert!(
            root == data || root == data + 1,
            "round {round}: {root} and {data} were never there at once"
        );
        assert!(
            (before..=after).contains(&data),
            "round {round}: {data} is not between {before} and {after}"
        );
        agent.release(&op("release"), &capture, machine.id(), Fate::Sealed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn src_3_disks_that_somebody_writes_past_file_systems_are_no_one_instant_and_that_is_told() {
    if !peers("disks without a file system", &GROUND) {
        return;
    }
    let ground = Ground::new();
    let disks = ["root", "data"].map(|name| ground.disk("web", name, MIB));
    let server = Looped::new("web", &[("wwn-1", Arc::clone(&disks[0])), ("wwn-2", Arc::clone(&disks[1]))]);
    let mut settings = Settings::new("hall".into(), "web");
    settings.state = ground.state("web");
    settings.snapshots = vec![Arc::new(Slowly)];
    let agent = Agent::open(settings, Arc::clone(&server) as _, Arc::new(SystemClock)).unwrap();
    let machine = enrolled(&agent).await;
    let still = capture(&agent, &machine, "still", Consistency::FileSystem).await;
    assert_eq!(still.consistency, Consistency::Crash, "nobody writes, and nobody was frozen");
    assert!(still.quiesce_failed.unwrap().contains("no file system"));
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (stop, disk) = (Arc::clone(&stop), Arc::clone(&disks[1]));
        std::thread::spawn(move || {
            for count in 0_u64.. {
                disk.write(0, &count.to_le_bytes().repeat(512));
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
    };
    let taken = capture(&agent, &machine, "written", Consistency::Crash).await;
    stop.store(true, Ordering::SeqCst);
    writing.join().unwrap();
    assert_eq!(taken.consistency, Consistency::PerDisk);
    let why = taken.quiesce_failed.unwrap();
    assert!(why.contains("disk wwn-2 was written between the snapshots"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_5_the_agents_own_state_may_lie_on_what_it_freezes() {
    if !peers("an agent on the disk that it captures", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let mut settings = world.settings();
    settings.state = world.file_systems[0].at.join("var/lib/site-recovery");
    let agent = world.agent(settings);
    let machine = enrolled(&agent).await;
    let capture = capture(&agent, &machine, "capture", Consistency::FileSystem).await;
    assert_eq!(capture.consistency, Consistency::FileSystem, "{:?}", capture.quiesce_failed);
    Probe::of(&world.file_systems[0].at).ends();
    agent.release(&op("release"), &capture, machine.id(), Fate::Sealed).await.unwrap();
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn src_5_hooks_that_succeed_reach_applications_and_one_that_hangs_does_not() {
    if !peers("hooks", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let said = world.ground.path("said");
    let hook = |word: &str, then: &str, seconds| Hook {
        run: ["/bin/sh", "-c", &format!("echo {word} $SITE_RECOVERY_MACHINE >>{}; {then}", said.display())]
            .map(str::to_owned)
            .to_vec(),
        seconds,
    };
    let mut settings = world.settings();
    settings.hooks.before = vec![hook("quiet", "true", 30)];
    settings.hooks.after = vec![hook("go-on", "true", 30)];
    let agent = world.agent(settings.clone());
    let machine = enrolled(&agent).await;
    let capture_as = |agent: Agent, key: &'static str| {
        let machine = machine.clone();
        async move {
            let taken = capture(&agent, &machine, key, Consistency::Application).await;
            agent
                .release(&op(&format!("release-{key}")), &taken, machine.id(), Fate::Abandoned)
                .await
                .unwrap();
            (taken.consistency, taken.quiesce_failed.unwrap_or_default())
        }
    };
    assert_eq!(capture_as(agent, "one").await, (Consistency::Application, String::new()));
    assert_eq!(fs::read_to_string(&said).unwrap(), "quiet m-web\ngo-on m-web\n");
    settings.hooks.before.push(hook("hangs", "sleep 1000 & sleep 1000", 1));
    let (reached, why) = capture_as(world.agent(settings.clone()), "two").await;
    assert_eq!(reached, Consistency::FileSystem);
    assert!(why.contains("did not end in 1 seconds"), "{why}");
    assert!(fs::read_to_string(&said).unwrap().ends_with("hangs m-web\ngo-on m-web\n"));
    for file_system in &world.file_systems {
        Probe::of(&file_system.at).ends();
    }
    settings.hooks.before = vec![hook("fails", "exit 3", 30)];
    let (reached, why) = capture_as(world.agent(settings), "three").await;
    assert_eq!(reached, Consistency::FileSystem);
    assert!(why.contains("exit status: 3"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_4_a_snapshot_on_a_disk_that_is_captured_itself_is_refused() {
    if !peers("a disk inside a disk", &PROGRAMS) {
        return;
    }
    let ground = Ground::new();
    let outer = ground.disk("web", "outer", 400 * MIB);
    run("mkfs.xfs", &["-q", outer.device.to_str().unwrap()]);
    let mounted = Mount::of(&outer.device, &ground.mounts("outer"), &[]);
    let inner = Arc::new(agent_support::Loop::over(&mounted.0.join("inner.raw"), 8 * MIB));
    let server = Looped::new("web", &[("outer", Arc::clone(&outer)), ("inner", Arc::clone(&inner))]);
    server.mounted(&outer.device, &mounted.0, "xfs");
    let mut settings = Settings::new("hall".into(), "web");
    settings.state = ground.state("web");
    let agent = Agent::open(settings, Arc::clone(&server) as _, Arc::new(SystemClock)).unwrap();
    let machine = enrolled(&agent).await;
    let of = [machine.instance.clone()];
    let error = agent.capture(&op("capture"), &of, Consistency::FileSystem).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(error.fact("disk"), Some("inner"));
    Probe::of(&mounted.0).ends();
    assert!(fs::read_dir(mounted.0.join(".site-recovery")).unwrap().next().is_none(), "a snapshot is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_on_other_hardware_the_mark_is_void() {
    if !peers("a server on other hardware", &GROUND) {
        return;
    }
    let world = World::new();
    let mut settings = world.settings();
    settings.board = world.ground.path("board");
    fs::write(&settings.board, "4C4C4544-0001\n").unwrap();
    let agent = world.agent(settings.clone());
    let machine = enrolled(&agent).await;
    assert_eq!(agent.power(&machine.instance).await.unwrap(), Power::On);
    // The disks wake up on another board, with all that is on them.
    fs::write(&settings.board, "4C4C4544-0002\n").unwrap();
    let agent = world.agent(settings.clone());
    assert_eq!(agent.power(&machine.instance).await.unwrap(), Power::Unknown);
    let of = [machine.instance.clone()];
    let refused = agent.capture(&op("capture"), &of, Consistency::Crash).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let told = agent.discover().await.unwrap().remove(0);
    assert_eq!(told.id().as_str(), "web", "told with placeholders");
    assert_eq!(agent.check().await.unwrap()[0].code, "agent.hardware");
    let mut other = told;
    other.instance.machine = "m-other".into();
    agent.enrol(&op("enrol-other"), &other).await.unwrap();
    let told = agent.discover().await.unwrap().remove(0);
    assert_eq!(told.id().as_str(), "m-other");
    capture(&agent, &told, "capture-other", Consistency::Crash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn src_7_a_disk_that_is_gone_replaced_grown_or_added_is_told_by_name() {
    if !peers("a server whose disks change", &GROUND) {
        return;
    }
    let world = World::new();
    let agent = world.agent(world.settings());
    let mut machine = enrolled(&agent).await;
    let codes = |findings: Vec<Finding>| findings.into_iter().map(|f| f.code).collect::<Vec<_>>();
    assert_eq!(codes(agent.check().await.unwrap()), ["disk.means", "disk.means"]);
    let first = capture(&agent, &machine, "first", Consistency::Crash).await;
    let since = first.members[0].cursor.clone().unwrap();
    agent.release(&op("release"), &first, machine.id(), Fate::Sealed).await.unwrap();
    world.server.disk(1).grow(40 * MIB);
    assert!(codes(agent.check().await.unwrap()).contains(&"disk.size".to_owned()));
    let second = capture(&agent, &machine, "second", Consistency::Crash).await;
    assert_eq!(second.members[0].machine.disks[1].size, 40 * MIB);
    let changes = agent.changes(&second, machine.id(), &since).await.unwrap();
    assert!(matches!(changes, Changes::Lost { .. }), "{changes:?}");
    let third = world.ground.disk("web", "third", MIB);
    world.server.disks.lock().unwrap().push(("wwn-3".into(), third));
    assert!(codes(agent.check().await.unwrap()).contains(&"disk.added".to_owned()));
    machine = agent.discover().await.unwrap().remove(0);
    assert!(!machine.disks[2].included, "an added disk is left out until enrol comes again");
    world.server.disks.lock().unwrap()[1].0 = "wwn-9".into();
    let of = [machine.instance.clone()];
    let error = agent.capture(&op("gone"), &of, Consistency::Crash).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("disk")), (ErrorKind::Conflict, Some("wwn-2")), "{error}");
    assert!(codes(agent.check().await.unwrap()).contains(&"disk.gone".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn src_4_a_disk_that_nothing_can_capture_is_told_before_and_refused() {
    if !peers("a disk without a means", &["losetup", "blockdev"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(agent_support::Loop::over(&dir.path().join("d.raw"), MIB));
    let shares = {
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "x").unwrap();
        agent_support::try_run("cp", &["--reflink=always", a.to_str().unwrap(), b.to_str().unwrap()]).0
    };
    if shares {
        println!("SKIPPED a disk without a means: temporary files lie on a file system that shares blocks");
        return;
    }
    let server = Looped::new("web", &[("wwn-1", disk)]);
    let mut settings = Settings::new("hall".into(), "web");
    settings.state = dir.path().join("state");
    let agent = Agent::open(settings, server as _, Arc::new(SystemClock)).unwrap();
    let machine = enrolled(&agent).await;
    let findings = agent.check().await.unwrap();
    let finding = findings.iter().find(|f| f.code == "disk.snapshot").unwrap();
    assert!(finding.blocks() && finding.cause.contains("device-mapper"), "{finding:?}");
    let of = [machine.instance.clone()];
    let error = agent.capture(&op("capture"), &of, Consistency::Crash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// The blocks in which two files differ.
fn differing(before: &Path, after: &Path) -> Vec<Run> {
    let (before, after) = (fs::read(before).unwrap(), fs::read(after).unwrap());
    let pairs = before.chunks(HASH_BLOCK as usize).zip(after.chunks(HASH_BLOCK as usize)).enumerate();
    let differ = pairs.filter(|(_, (a, b))| a != b);
    differ.map(|(at, (a, _))| Run::new(at as u64 * HASH_BLOCK, a.len() as u64)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_changes_of_an_agent_are_never_less_over_fates_restarts_and_traces() {
    if !peers("changes of a server under load", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let mut settings = world.settings();
    let mut agent = world.agent(settings.clone());
    let machine = enrolled(&agent).await;
    let means: Vec<Finding> = agent.check().await.unwrap();
    let traced = means.iter().all(|f| f.cause.ends_with("tracked by trace"));
    if !traced {
        println!("SKIPPED short scans of an agent: the kernel does not trace here: {means:?}");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{means:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut sealed: Option<(Cursor, Vec<PathBuf>)> = None;
    for round in 0..12_u8 {
        for (at, file_system) in world.file_systems.iter().enumerate() {
            for file in 0..=round % 4 {
                let bytes = vec![round * 16 + file; 9000 * (usize::from(file) + at + 1)];
                fs::write(file_system.at.join(format!("f{}", (round + file) % 7)), bytes).unwrap();
            }
        }
        let want = if round % 5 == 3 { Consistency::Crash } else { Consistency::FileSystem };
        let taken = capture(&agent, &machine, &format!("capture-{round}"), want).await;
        let before = agent.scanned();
        let here = dir.path().join(round.to_string());
        fs::create_dir(&here).unwrap();
        let now = copies(&agent, &machine, &taken, &here).await;
        if let Some((since, then)) = &sealed {
            let Changes::Known(told) = agent.changes(&taken, machine.id(), since).await.unwrap() else {
                panic!("round {round}: lost")
            };
            for (spec, (then, now)) in machine.disks.iter().zip(then.iter().zip(&now)) {
                for run in differing(then, now) {
                    assert!(told.contains(&spec.id, run), "round {round}: {run:?} of {} is missing", spec.id);
                }
            }
            if traced && ![0, 6, 7].contains(&round) {
                let read = agent.scanned() - before;
                assert!(read < 16 * MIB, "round {round}: {read} bytes were read of 64 MiB, with a trace");
            }
        }
        let fate = [Fate::Sealed, Fate::Abandoned, Fate::Spooled][usize::from(round) % 3];
        agent.release(&op(&format!("release-{round}")), &taken, machine.id(), fate).await.unwrap();
        if fate == Fate::Sealed {
            sealed = Some((taken.members[0].cursor.clone().unwrap(), now));
        }
        if round == 5 {
            // The agent dies, and nobody traces what is written meanwhile.
            drop(agent);
            fs::write(world.file_systems[0].at.join("unseen"), vec![77; 300_000]).unwrap();
            settings.whole_every = 3;
            agent = world.agent(settings.clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn src_5_what_a_killed_agent_and_its_watch_left_frozen_goes_on_when_it_is_opened() {
    if !peers("a file system that was left frozen", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let [root, data] = [0, 1].map(|n| world.file_systems[n].at.clone());
    let settings = world.settings();
    fs::create_dir_all(&settings.state).unwrap();
    let held = serde_json::json!([{ "FileSystem": root }, { "FileSystem": data }]);
    let start = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let note = |start: &str, held| serde_json::json!({ "start": start, "held": held }).to_string();
    // A copy of the disk carries the note of the server where it was made, and what it names is not here.
    let gone = serde_json::json!([{ "Device": "no-such-device" }]);
    fs::write(settings.state.join("frozen.json"), note("another", gone)).unwrap();
    drop(world.agent(settings.clone()));
    fs::write(settings.state.join("frozen.json"), note(start.trim(), held)).unwrap();
    run("fsfreeze", &["-f", root.to_str().unwrap()]);
    let probe = Probe::of(&root);
    assert!(probe.waits());
    let agent = world.agent(settings.clone());
    probe.ends();
    Probe::of(&data).ends();
    let machine = enrolled(&agent).await;
    capture(&agent, &machine, "capture", Consistency::FileSystem).await;
    assert!(!settings.state.join("frozen.json").exists(), "a note of what is frozen is left");
}
