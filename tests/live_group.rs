//! A group of guests that tell each other what is durable: no point of theirs holds an effect without its cause.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod live;

use live::*;
use serde_json::json;
use site_recovery::state::Direction;
use site_recovery::{
    Consistency, Cutover, FailoverRequest, Force, ItemHandle, OnUnfenced, Point, PointChoice, Policy,
    ProtectRequest, Replica, Shutdown,
};
use site_recovery_examples::live::{Emulator, Guest, GuestOptions, LiveStage, copy_out, inspect, tool};
use site_recovery_guest::record::{self, Record};
use site_recovery_guest::{Lan, peers};
use site_recovery_qemu::Network;
use site_recovery_qmp::{Event, Limits, Monitor};
use std::fs;
use std::path::Path;

const MEMBERS: [&str; 2] = ["web", "db"];
const SITES: [&str; 2] = ["here", "cloud"];
/// Records that each writes between two points.
const SOME: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_no_point_of_a_group_holds_an_effect_without_its_cause() {
    if !peers("a group of two guests", &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut lan = Lan::new(dir.path());
    let (stage, mut watches) = start(dir.path(), &mut lan).await;
    let guests = MEMBERS.map(|name| stage.guest("here", name));
    let vault = stage.builder().await.unwrap().build().await.unwrap();
    let policy = Policy::every(INTERVAL);
    let shop = vault.protect_group(ProtectRequest::group("shop", &MEMBERS).policy(policy)).await.unwrap();
    let items: Vec<ItemHandle> = shop.items();
    for (item, name) in items.iter().zip(MEMBERS) {
        item.until_done().await.unwrap();
        item.set_settings(stage.settings(name)).await.unwrap();
    }
    one_pause(&mut watches);

    let mut acknowledged = vec![[0; 2]];
    for want in [Consistency::Crash, Consistency::Application, Consistency::Crash, Consistency::Crash] {
        write(&guests, SOME).await;
        acknowledged.push([guests[0].acknowledged(), guests[1].acknowledged()]);
        vault.take_point(items[0].id(), want).await.unwrap();
        one_pause(&mut watches);
        for item in &items {
            assert_eq!(item.points().await.unwrap().pop().unwrap().consistency, want);
        }
    }

    let points = [items[0].points().await.unwrap(), items[1].points().await.unwrap()];
    let cuts = points.each_ref().map(|all| all.iter().map(|p| &p.cut).collect::<Vec<_>>());
    assert_eq!(cuts[0], cuts[1], "each cut is a point of both");
    assert_eq!(cuts[0].len(), acknowledged.len());
    let mut newest = None;
    for (at, acknowledged) in acknowledged.iter().enumerate() {
        let mut both = vec![];
        for (item, points) in items.iter().zip(&points) {
            both.push(Disks::of_point(&stage, item, &points[at], dir.path()).await);
        }
        let both: [Disks; 2] = both.try_into().unwrap();
        assert_causal(&both);
        for (disks, acknowledged) in both.iter().zip(acknowledged) {
            assert!(disks.log.len() as u64 >= *acknowledged, "cut {at} lacks what was acknowledged");
        }
        newest = Some(both);
    }
    let newest = newest.unwrap();
    assert!(newest.iter().all(|disks| disks.cause() > 4 * SOME), "they have not heard of each other");

    for name in MEMBERS {
        stage.machines.kill("here", name).await.unwrap();
    }
    let gone = OnUnfenced::Continue(Force::by("the test", "both hosts are gone"));
    let cutover = Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced: gone };
    let planned = FailoverRequest::planned(Direction::PrimaryToRecovery).to(PointChoice::LatestProcessed);
    shop.failover(FailoverRequest { cutover, ..planned }).await.unwrap().done().await.unwrap();
    let guests = MEMBERS.map(|name| stage.guest("cloud", name));
    for (guest, disks) in guests.iter().zip(&newest) {
        assert_eq!(guest.resumed().await.unwrap(), disks.log.len() as u64, "it stands on the cut");
    }
    // Each speaks there, as often as it takes for the other one to have heard it.
    for _ in 0..20 {
        write(&guests, SOME).await;
        let heard = lan.heard();
        let speaks = |name: &str| heard.iter().filter(|h| h.port == format!("cloud-{name}")).count() > 10;
        if MEMBERS.into_iter().all(speaks) {
            break;
        }
    }
    write(&guests, SOME).await;
    let mut both = vec![];
    for name in MEMBERS {
        stage.machines.kill("cloud", name).await.unwrap();
        both.push(Disks::of_machine(dir.path(), name).await);
    }
    let both: [Disks; 2] = both.try_into().unwrap();
    assert_causal(&both);
    for (disks, before) in both.iter().zip(&newest) {
        assert_eq!(disks.log[..before.log.len()], before.log);
        assert!(disks.log[before.log.len()..].iter().all(|r| r.site == 'B'));
        assert!(disks.cause() > before.cause(), "they hear of each other there");
    }
}

/// Two sites over one network, where each member has a port at each site; both members run and write.
async fn start(dir: &Path, lan: &mut Lan) -> (LiveStage, Vec<Monitor>) {
    let ports = SITES.map(|site| {
        MEMBERS.map(|name| (format!("lan-{name}"), lan.backend(&format!("{site}-{name}")).unwrap()))
    });
    let emulator = Emulator::default();
    let stage = LiveStage::open_with(dir, &emulator, |name, site| {
        let at = SITES.iter().position(|s| *s == name).unwrap();
        let networks = ports[at].iter();
        networks.fold(site, |site, (name, backend)| site.network(name, Network::production(backend)))
    });
    let stage = stage.await.unwrap();
    let mut sockets = vec![];
    for (at, name) in MEMBERS.iter().enumerate() {
        let socket = dir.join(format!("{name}.qmp"));
        let (one, other) = (at + 1, 2 - at);
        let described = json!({
            "nics": [{ "id": "n0", "network": format!("lan-{name}"), "mac": format!("52:54:00:00:00:0{one}") }],
            // The test's own look at the pauses.
            "arguments": ["-qmp", format!("unix:{},server=on,wait=off", socket.display())],
        });
        let options = GuestOptions {
            words: format!("delay=20 hook ip=10.77.0.{one} peer=10.77.0.{other}"),
            second: true,
            described: described.as_object().unwrap().clone(),
            ..GuestOptions::default()
        };
        stage.add_guest(name, &options).await.unwrap();
        sockets.push(socket);
    }
    write(&MEMBERS.map(|name| stage.guest("here", name)), SOME).await;
    let limits = Limits { greeting: PATIENCE, ..Limits::default() };
    (stage, sockets.iter().map(|socket| Monitor::connect(socket, limits).unwrap()).collect())
}

/// Until each has written so many more.
async fn write(guests: &[Guest; 2], more: u64) {
    let (one, two) = tokio::join!(guests[0].writes(more), guests[1].writes(more));
    one.and(two).unwrap();
}

/// The members were paused once since the last look, and for a moment both of them at a time.
fn one_pause(watches: &mut [Monitor]) {
    let mut pauses = vec![];
    for watch in watches {
        let events: Vec<Event> = watch.take_events();
        let seen: Vec<_> = events.iter().filter(|e| ["STOP", "RESUME"].contains(&e.name.as_str())).collect();
        let names: Vec<_> = seen.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["STOP", "RESUME"]);
        pauses.push((seen[0].at.unwrap(), seen[1].at.unwrap()));
    }
    let (stopped, resumed) =
        (pauses.iter().map(|p| p.0).max().unwrap(), pauses.iter().map(|p| p.1).min().unwrap());
    assert!(stopped < resumed, "one went on before the other stood still: {pauses:?}");
}

/// What both disks of a member hold.
#[derive(Debug)]
struct Disks {
    log: Vec<Record>,
    second: Vec<Record>,
}

impl Disks {
    async fn of_point(stage: &LiveStage, item: &ItemHandle, point: &Point, dir: &Path) -> Self {
        let disks = stage.points.open(item.id(), point.id).await.unwrap();
        let files = ["root", "second"].map(|disk| dir.join(format!("{disk}.raw")));
        for (disk, file) in disks.values().zip(&files) {
            copy_out(disk, file).await.unwrap();
        }
        Self::of_files(&files[0], &files[1]).await
    }

    /// Of a recovered machine that is off; its images may stand on the point still.
    async fn of_machine(dir: &Path, name: &str) -> Self {
        let files = [0, 1].map(|disk| {
            let (from, to) = (image(dir, "cloud", name, disk), dir.join(format!("{disk}.raw")));
            let convert = ["convert", "-O", "raw"].map(str::as_ref);
            tool("qemu-img", convert.into_iter().chain([from.as_os_str(), to.as_os_str()])).unwrap();
            to
        });
        Self::of_files(&files[0], &files[1]).await
    }

    async fn of_files(root: &Path, second: &Path) -> Self {
        let found = inspect(root).await.unwrap();
        let second = record::read_start(&fs::read(second).unwrap());
        Self { log: found.records, second }
    }

    /// How many records of the other it knows of.
    fn cause(&self) -> u64 {
        self.second.last().map_or(0, |r| r.cause)
    }
}

/// Each record stands on the second disk before it is in the log, and the peer hears of it after that.
fn assert_causal(both: &[Disks; 2]) {
    for (at, name) in MEMBERS.iter().enumerate() {
        let (one, other) = (&both[at], &both[1 - at]);
        let (log, second) = (one.log.len(), one.second.len());
        assert!((log..=log + 1).contains(&second), "{name}: {log} in the log, {second} on the other disk");
        assert_eq!(one.second[..log], one.log, "{name}");
        let known = one.cause();
        assert!(known <= other.log.len() as u64, "{name} knows {known} of {}", other.log.len());
    }
}
