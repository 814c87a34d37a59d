//! The site as a source: discovery, captures, changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use site_recovery::*;
use std::fs;
use std::slice::from_ref;
use support::*;

#[tokio::test]
async fn src2_discover_tells_the_ids_of_the_mark() {
    let world = World::new();
    world.machine("web");
    fs::create_dir(world.path("lost+found")).unwrap();
    let mut machine = world.found("web").await;
    assert_eq!(machine.disks.iter().map(|d| d.size).collect::<Vec<_>>(), [ROOT, DATA]);
    machine.instance.machine = "timeline-7".into();
    machine.instance.generation = Generation(3);
    machine.disks[0].id = "disk-a".into();
    machine.disks[1].id = "disk-b".into();
    machine.nics[0].id = "nic-a".into();
    world.site.enrol(&op("e"), &machine).await.unwrap();
    assert_eq!(world.again().discover().await.unwrap(), [machine.clone()]);
    let mut other = machine.clone();
    other.instance.machine = "timeline-8".into();
    assert_eq!(world.site.enrol(&op("e2"), &other).await.unwrap_err().kind(), ErrorKind::Conflict);
    let mut wrong = machine.clone();
    wrong.disks[1].size += 1;
    assert_eq!(world.site.enrol(&op("e3"), &wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut gone = machine.clone();
    gone.disks.push(DiskSpec { id: "more".into(), ..gone.disks[1].clone() });
    assert_eq!(world.site.enrol(&op("e4"), &gone).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(world.site.discover().await.unwrap(), [machine.clone()]);
    world.site.dismiss(&op("d"), &machine.instance).await.unwrap();
    assert_eq!(world.found("web").await.instance.machine, "web".into());
}

#[tokio::test]
async fn src3_src4_dsk5_a_capture_is_one_instant_and_stays() {
    let world = World::new();
    let (web, db) = (world.enrolled("web").await, world.enrolled("db").await);
    world.site.switch_on("web").await.unwrap();
    let both = [web.clone(), db.clone()];
    let before = (world.bytes("web/data.raw"), world.bytes("db/root.raw"));
    let capture = capture(&world, "c", &both).await;
    for (name, disk) in [("web", "data"), ("db", "root")] {
        world.put(name, disk, 0, &[9; 4096]);
        let grown =
            fs::OpenOptions::new().write(true).open(world.path(name).join(format!("{disk}.raw"))).unwrap();
        grown.set_len(DATA * 2).unwrap();
    }
    for site in [world.site.clone(), world.again()] {
        assert!(image(&site, &capture, &web).await[&"data".into()] == before.0);
        assert!(image(&site, &capture, &db).await[&"root".into()] == before.1);
    }
    let gone = Instance { name: "gone".into(), machine: "m-gone".into(), ..web.clone() };
    let error = world.site.capture(&op("c2"), &[web.clone(), gone], Consistency::Crash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fs::remove_file(world.path("db/data.raw")).unwrap();
    world.site.capture(&op("c3"), &both, Consistency::Crash).await.expect_err("a member fails");
    assert!(world.leftovers("c3").is_empty(), "{:?}", world.leftovers("c3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_group_capture_is_a_prefix_of_ordered_writes() {
    let world = World::new();
    world.machine("web");
    // Much to copy between the first token and the last, so that a capture that is no instant shows.
    let much = [b"token room ".repeat(1500), Rng(3).bytes(1 << 20).repeat(48)].concat();
    fs::write(world.path("web/data.raw"), much).unwrap();
    let (web, db) = (world.enrol("web").await, world.enrolled("db").await);
    world.site.switch_on("web").await.unwrap();
    world.site.switch_on("db").await.unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Token n is written to web's data disk, then to db's root disk, then to web's root disk.
    let order = [("web", "data"), ("db", "root"), ("web", "root")];
    let writer = {
        let (site, stop) = (world.site.clone(), stop.clone());
        spawn(async move {
            let mut n = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                n += 1;
                for (name, disk) in order {
                    let token = Bytes::from(n.to_le_bytes().repeat(1024));
                    site.write_disk(name, &disk.into(), 8192, token).await.unwrap();
                }
            }
            n
        })
    };
    // Before the first round is over, the disks hold what they were made with.
    while world.bytes("web/root.raw")[8192] == 0 {
        tokio::task::yield_now().await;
    }
    let mut seen = vec![];
    for key in ["a", "b", "c", "d"] {
        let capture = capture(&world, key, &[web.clone(), db.clone()]).await;
        let mut tokens = vec![];
        for (name, disk) in order {
            let of = if name == "db" { &db } else { &web };
            let disks = world.site.disks(&op("read"), &capture, &of.machine).await.unwrap();
            let bytes = disks[&disk.into()].read(Run::new(8192, 8192), &pool()).await.unwrap();
            let words: Vec<u64> =
                bytes.chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
            assert!(words.iter().all(|w| *w == words[0]), "a write was caught in the middle");
            tokens.push(words[0]);
        }
        assert!(tokens.windows(2).all(|t| t[0] >= t[1]) && tokens[0] - tokens[2] <= 1, "{tokens:?}");
        seen.push(tokens[0]);
        world.site.release(&op("release"), &capture, &web.machine, Fate::Abandoned).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(writer.await.unwrap() >= *seen.last().unwrap());
}

fn freezer(world: &World, freeze: &str, thaw: &str, applications: bool) {
    let run = |script: &str| format!(r#"{{"run": ["/bin/sh", "-c", "{script}"], "seconds": 5}}"#);
    let commands = format!(
        r#""freeze": {}, "thaw": {}, "freezes_applications": {applications}"#,
        run(freeze),
        run(thaw)
    );
    world.machine_with("web", &commands);
}

#[tokio::test]
async fn src5_freezing_is_told_and_undone() {
    use Consistency::*;
    let cases = [
        // freeze, thaw, applications, wanted, reached, reason
        ("touch frozen", "rm frozen", false, FileSystem, FileSystem, None),
        (
            "touch frozen",
            "rm frozen",
            false,
            Application,
            FileSystem,
            Some("does not speak for applications"),
        ),
        ("touch frozen", "rm frozen", true, Application, Application, None),
        ("touch frozen; exit 3", "rm frozen", true, Application, Crash, Some("ended with 3")),
        ("exit 3", "exit 4", true, FileSystem, Crash, Some("ended with 3")),
    ];
    for (freeze, thaw, applications, want, reached, reason) in cases {
        let world = World::new();
        freezer(&world, freeze, thaw, applications);
        let web = world.enrol("web").await;
        world.site.switch_on("web").await.unwrap();
        let capture = world.site.capture(&op("c"), from_ref(&web), want).await.unwrap();
        assert_eq!(capture.consistency, reached, "{freeze}");
        let told = capture.quiesce_failed.clone();
        assert_eq!(told.is_some(), reason.is_some(), "{told:?}");
        assert!(told.unwrap_or_default().contains(reason.unwrap_or_default()), "{freeze}");
        assert!(!world.path("web/frozen").exists(), "left frozen after {freeze}");
        assert!(image(&world.site, &capture, &web).await[&"root".into()] == world.bytes("web/root.raw"));
    }
}

#[tokio::test]
async fn src5_a_freeze_never_outlasts_its_limit() {
    // The machine may be frozen for five seconds, and every look at this clock takes four.
    let world = World::with_clock(StepClock::of(std::time::Duration::from_secs(4)));
    freezer(&world, "touch frozen", "rm frozen", false);
    let web = world.enrol("web").await;
    world.site.switch_on("web").await.unwrap();
    let capture = world.site.capture(&op("c"), from_ref(&web), Consistency::FileSystem).await.unwrap();
    assert_eq!(capture.consistency, Consistency::Crash);
    let reason = capture.quiesce_failed.clone().unwrap();
    assert!(reason.contains("took longer"), "{reason}");
    assert!(!world.path("web/frozen").exists());
    assert!(image(&world.site, &capture, &web).await[&"root".into()] == world.bytes("web/root.raw"));
}

#[tokio::test]
async fn src5_sweep_thaws_what_a_crash_left_frozen() {
    let world = World::new();
    freezer(&world, "touch frozen", "rm frozen", false);
    let web = world.enrol("web").await;
    world.site.switch_on("web").await.unwrap();
    fs::write(world.path("web/frozen"), "").unwrap();
    fs::write(world.path("web/.site-recovery/frozen.json"), r#"{"by": "c", "since": 1}"#).unwrap();
    world.again().sweep(&op("s"), &web, &[]).await.unwrap();
    assert!(!world.path("web/frozen").exists());
}

#[tokio::test]
async fn src6_a_repeat_returns_the_same_capture_while_it_lives() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let first = capture(&world, "c", from_ref(&web)).await;
    world.put("web", "root", 0, b"later");
    let again = world.again().capture(&op("c"), from_ref(&web), Consistency::Crash).await.unwrap();
    assert_eq!(again, first);
    assert!(image(&world.site, &again, &web).await[&"root".into()] != world.bytes("web/root.raw"));
    let db = world.enrolled("db").await;
    let other = world.site.capture(&op("c"), from_ref(&db), Consistency::Crash).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    world.site.release(&op("r"), &first, &web.machine, Fate::Abandoned).await.unwrap();
    let anew = world.site.capture(&op("c"), from_ref(&web), Consistency::Crash).await.unwrap();
    assert!(image(&world.site, &anew, &web).await[&"root".into()] == world.bytes("web/root.raw"));
}

#[tokio::test]
async fn src6_a_capture_broken_off_before_its_record_is_taken_anew() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let first = capture(&world, "c", from_ref(&web)).await;
    fs::remove_file(world.path(".site-recovery/captures/c.json")).unwrap();
    let gone = world.site.disks(&op("d"), &first, &web.machine).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    world.put("web", "root", 0, b"later");
    let anew = world.again().capture(&op("c"), from_ref(&web), Consistency::Crash).await.unwrap();
    assert!(image(&world.site, &anew, &web).await[&"root".into()] == world.bytes("web/root.raw"));
}

#[tokio::test]
async fn src7_lost_when_in_doubt() {
    let world = World::new();
    let (web, db) = (world.enrolled("web").await, world.enrolled("db").await);
    let a = capture(&world, "a", from_ref(&web)).await;
    let b = capture(&world, "b", from_ref(&web)).await;
    let other = capture(&world, "o", from_ref(&db)).await;
    let cursor = |c: &Capture| c.members[0].cursor.clone().unwrap();
    let changes = async |since: Cursor| world.again().changes(&b, &web.machine, &since).await.unwrap();
    assert!(known(changes(cursor(&a)).await).is_empty());
    assert!(known(changes(cursor(&b)).await).is_empty());
    let is_lost = |c: Changes| matches!(c, Changes::Lost { .. });
    assert!(is_lost(changes(Cursor { generation: Generation(1), ..cursor(&a) }).await));
    assert!(is_lost(changes(cursor(&other)).await));
    assert!(is_lost(changes(Cursor { token: b"junk".to_vec(), ..cursor(&a) }).await));
    // One flipped bit in the older table, then the table gone.
    let hashes = world.leftovers("data.hashes");
    let of_a = hashes
        .iter()
        .find(|p| p.starts_with(world.path("web")) && p.to_string_lossy().contains("/a-0"))
        .unwrap();
    let mut bytes = fs::read(of_a).unwrap();
    bytes[0] ^= 1;
    fs::write(of_a, &bytes).unwrap();
    assert!(is_lost(changes(cursor(&a)).await));
    fs::remove_dir_all(of_a.parent().unwrap()).unwrap();
    assert!(is_lost(changes(cursor(&a)).await));
    let file = fs::OpenOptions::new().write(true).open(world.path("web/data.raw")).unwrap();
    file.set_len(DATA + 4096).unwrap();
    let grown = capture(&world, "g", from_ref(&web)).await;
    assert_eq!(grown.members[0].machine.disks[1].size, DATA + 4096);
    assert!(is_lost(world.site.changes(&grown, &web.machine, &cursor(&b)).await.unwrap()));
}

#[tokio::test]
async fn src8_what_became_of_a_capture_decides_which_delta_is_possible() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let sealed = capture(&world, "1", from_ref(&web)).await;
    world.site.release(&op("r1"), &sealed, &web.machine, Fate::Sealed).await.unwrap();
    world.put("web", "data", 100, b"one");
    let spooled = capture(&world, "2", from_ref(&web)).await;
    world.site.release(&op("r2"), &spooled, &web.machine, Fate::Spooled).await.unwrap();
    world.put("web", "root", 70_000, b"two");
    let abandoned = capture(&world, "3", from_ref(&web)).await;
    for _ in 0..2 {
        world.site.release(&op("r3"), &abandoned, &web.machine, Fate::Abandoned).await.unwrap();
    }
    assert!(world.site.disks(&op("x"), &abandoned, &web.machine).await.is_err());
    let now = capture(&world, "4", from_ref(&web)).await;
    let since = async |c: &Capture| {
        let cursor = c.members[0].cursor.clone().unwrap();
        world.site.changes(&now, &web.machine, &cursor).await.unwrap()
    };
    let from_sealed = known(since(&sealed).await);
    assert!(from_sealed.contains(&"data".into(), Run::new(100, 3)));
    assert!(from_sealed.contains(&"root".into(), Run::new(70_000, 3)));
    let from_spooled = known(since(&spooled).await);
    assert!(from_spooled.runs(&"data".into()).is_empty());
    assert!(from_spooled.contains(&"root".into(), Run::new(70_000, 3)));
    // The spool was drained: the second is a point now, and nothing before it is needed.
    world.site.release(&op("r4"), &spooled, &web.machine, Fate::Sealed).await.unwrap();
    assert_eq!(known(since(&spooled).await), from_spooled);
    assert!(matches!(since(&sealed).await, Changes::Lost { .. }));
    assert_eq!(world.leftovers("table.json").len(), 3, "sealed, abandoned, living");
}

#[tokio::test]
async fn src9_sweep_removes_what_nobody_holds_and_nothing_else() {
    let world = World::new();
    let (web, db) = (world.enrolled("web").await, world.enrolled("db").await);
    let kept = capture(&world, "keep", &[web.clone(), db.clone()]).await;
    let cursor = kept.members[0].cursor.clone().unwrap();
    capture(&world, "gone/with a long name", from_ref(&web)).await;
    fs::create_dir_all(world.path("web/.site-recovery/captures/half")).unwrap();
    let swept = world.again().sweep(&op("s"), &web, &["keep".into()]).await.unwrap();
    assert_eq!(swept, ["gone/with a long name".into()]);
    assert!(world.leftovers("gone-with").iter().all(|p| p.to_string_lossy().contains("/tracking/")));
    assert!(!world.path("web/.site-recovery/captures/half").exists());
    image(&world.site, &kept, &web).await;
    // The other member's share lives on when one is swept.
    assert_eq!(world.site.sweep(&op("s2"), &web, &[]).await.unwrap(), ["keep".into()]);
    assert!(world.site.disks(&op("d"), &kept, &web.machine).await.is_err());
    image(&world.site, &kept, &db).await;
    assert_eq!(world.site.sweep(&op("s3"), &db, &[]).await.unwrap(), ["keep".into()]);
    assert!(world.leftovers("keep").iter().all(|p| p.to_string_lossy().contains("/tracking/")));
    let next = capture(&world, "next", from_ref(&web)).await;
    known(world.site.changes(&next, &web.machine, &cursor).await.unwrap());
}

#[tokio::test]
async fn dsk_rules_of_a_captured_disk() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let capture = capture(&world, "c", from_ref(&web)).await;
    let disks = world.site.disks(&op("d"), &capture, &web.machine).await.unwrap();
    let disk = &disks[&"data".into()];
    assert_eq!(disk.size(), DATA);
    let bytes = world.bytes("web/data.raw");
    for (start, len) in
        [(0, DATA), (0, 2 * DATA), (1, 4096), (DATA - 10, 10), (DATA - 10, 50), (70_000, 1), (DATA, 5)]
    {
        let extents = disk.extents(Run::new(start, len)).await.unwrap();
        let mut at = start;
        for extent in &extents {
            assert_eq!(extent.run.start, at, "no gap, no overlap");
            assert!(extent.run.len > 0);
            at = extent.run.end();
            let held = &bytes[extent.run.start as usize..extent.run.end() as usize];
            assert!(extent.fill == Fill::Data || held.iter().all(|b| *b == 0), "DSK-3");
        }
        assert_eq!(at, (start + len).min(DATA), "DSK-2 from {start}, {len}");
    }
    let holes = disk.extents(Run::new(0, DATA)).await.unwrap();
    assert!(holes.iter().any(|e| e.fill == Fill::Zero), "the copy is as sparse as the disk");
    let read = disk.read(Run::new(DATA - 7, 7), &pool()).await.unwrap();
    assert_eq!(&read[..], b"the end");
    for run in [Run::new(DATA - 7, 8), Run::new(u64::MAX, 2)] {
        assert_eq!(disk.read(run, &pool()).await.unwrap_err().kind(), ErrorKind::Invalid, "DSK-4");
    }
    // An open handle outlives the release.
    world.site.release(&op("r"), &capture, &web.machine, Fate::Sealed).await.unwrap();
    assert!(read_all(disk.as_ref()).await == bytes);
}

#[tokio::test]
async fn sidecars_travel_with_the_instant() {
    let world = World::new();
    world.machine("web");
    fs::write(world.path("web/vars.bin"), b"boot order").unwrap();
    let text = r#"{"disks": [{"id": "root", "file": "root.raw"}], "sidecars": [{"name": "uefi-vars", "file": "vars.bin"}]}"#;
    fs::write(world.path("web/machine.json"), text).unwrap();
    let web = world.enrol("web").await;
    let capture = capture(&world, "c", from_ref(&web)).await;
    assert_eq!(
        capture.members[0].sidecars,
        [Sidecar { name: "uefi-vars".into(), bytes: b"boot order".to_vec() }]
    );
}

#[tokio::test]
async fn src2_a_disk_added_later_waits_for_enrol() {
    let world = World::new();
    world.machine("web");
    let one = r#"{"disks": [{"id": "root", "file": "root.raw"}]}"#;
    fs::write(world.path("web/machine.json"), one).unwrap();
    let web = world.enrol("web").await;
    let two = r#"{"disks": [{"id": "root", "file": "root.raw"}, {"id": "data", "file": "data.raw"}]}"#;
    fs::write(world.path("web/machine.json"), two).unwrap();
    let told = world.found("web").await;
    let included = |m: &site_recovery::Machine| m.disks.iter().map(|d| d.included).collect::<Vec<_>>();
    assert_eq!(included(&told), [true, false]);
    let before = capture(&world, "before", from_ref(&web)).await;
    let disks = world.site.disks(&op("d1"), &before, &web.machine).await.unwrap();
    assert_eq!(disks.len(), 1, "nobody asked for the new disk");
    let mut all = told;
    all.disks[1].included = true;
    world.site.enrol(&op("again"), &all).await.unwrap();
    let after = capture(&world, "after", from_ref(&web)).await;
    assert_eq!(included(&after.members[0].machine), [true, true]);
    assert_eq!(world.site.disks(&op("d2"), &after, &web.machine).await.unwrap().len(), 2);
}
