//! The site as a target: settings, materialise, boot, set aside, destroy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use std::collections::BTreeMap;
use std::fs;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;
use support::*;

fn point() -> BTreeMap<DiskId, Vec<u8>> {
    let mut rng = Rng(77);
    let mut root = vec![0; ROOT as usize];
    root[5000..90_000].copy_from_slice(&rng.bytes(85_000));
    let mut data = vec![0; 20 << 20];
    data[(12 << 20) + 7..(13 << 20)].copy_from_slice(&rng.bytes((1 << 20) - 7));
    let end = data.len();
    data[end - 3..].copy_from_slice(b"end");
    [("root".into(), root), ("data".into(), data)].into()
}

fn captured() -> Machine {
    let disk =
        |id: &str, size: usize, role, included| DiskSpec { id: id.into(), size: size as u64, role, included };
    let sizes: Vec<usize> = point().values().map(Vec::len).collect();
    Machine {
        instance: Instance {
            machine: "m".into(),
            site: "there".into(),
            name: "Web 1".into(),
            generation: Generation(0),
        },
        title: None,
        disks: vec![
            disk("root", sizes[1], DiskRole::System, true),
            disk("data", sizes[0], DiskRole::Data, true),
            disk("swap", 4096, DiskRole::Data, false),
        ],
        nics: vec![Nic {
            id: "n0".into(),
            mac: None,
            network: Some("lan".into()),
            addresses: vec!["10.0.0.7".into()],
        }],
        cpus: 2,
        memory: 1 << 30,
        firmware: Firmware::Uefi { secure_boot: true },
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}

fn recovery(purpose: Purpose, generation: u64) -> Recovery {
    Recovery {
        machine: captured(),
        sidecars: vec![Sidecar { name: "uefi-vars".into(), bytes: b"boot order".to_vec() }],
        point: PointId(4),
        taken: Timestamp(9),
        consistency: Consistency::Crash,
        generation: Generation(generation),
        purpose,
        settings: Settings::default(),
    }
}

fn store() -> Arc<dyn Replica> {
    OnePoint::of(point())
}

fn disk_bytes(world: &World, name: &str, disk: &str) -> Vec<u8> {
    world.bytes(format!("{name}/disk-{disk}.raw"))
}

fn holds_the_point(world: &World, name: &str) {
    for (id, bytes) in point() {
        assert!(disk_bytes(world, name, id.as_str()) == bytes, "disk {id} of {name}");
    }
}

#[tokio::test]
async fn what_people_call_a_machine_becomes_a_name_that_a_directory_takes() {
    let world = World::new();
    for (title, name) in [("../운영/Web (2)", "Web--2"), ("운영 웹 서버", "Web-1"), ("///", "Web-1")] {
        let machine = Machine { title: Some(title.into()), ..captured() };
        let proposed = world.site.propose(&machine).await.unwrap();
        assert_eq!(proposed.name.as_deref(), Some(name), "{title}");
        let found = world.site.check(&machine, &proposed).await.unwrap();
        assert!(!found.iter().any(Finding::blocks), "{title}: {found:?}");
        // As it is made without settings.
        let what = Recovery { machine, ..recovery(Purpose::Drill, 1) };
        let (op, name) = (op(title), format!("{name}-test"));
        let armed = world.site.materialise(&op, &what, &store()).await.unwrap();
        assert_eq!(armed.instance.name, name, "{title}");
        holds_the_point(&world, &name);
        world.site.destroy(&op, &armed.instance).await.unwrap();
        assert!(!world.path(&name).exists(), "{title}");
    }
    assert!(world.site.discover().await.unwrap().is_empty());
}

#[tokio::test]
async fn tgt1_sit1_what_is_proposed_passes_and_what_fails_is_named() {
    let world = World::new();
    world.machine("Web-1");
    let machine = captured();
    let proposed = world.site.propose(&machine).await.unwrap();
    assert_eq!(proposed.name.as_deref(), Some("Web-1-2"), "the name itself is taken");
    let found = world.site.check(&machine, &proposed).await.unwrap();
    assert!(!found.iter().any(Finding::blocks), "{found:?}");
    type Spoil = Box<dyn Fn(&mut Settings)>;
    let wrong: Vec<(&str, Spoil)> = vec![
        ("setting.settings.name", Box::new(|s| s.name = Some("a/b".into()))),
        ("setting.name", Box::new(|s| s.name = Some("x".repeat(63)))),
        ("setting.name", Box::new(|s| s.name = Some("Web-1".into()))),
        ("setting.settings.test_network", Box::new(|s| s.test_network = s.network.clone())),
        ("setting.site.colour", Box::new(|s| drop(s.site.insert("colour".into(), "red".into())))),
        ("setting.datastore", Box::new(|s| s.datastore = Some("ds1".into()))),
        ("setting.nics", Box::new(|s| drop(s.nics.insert("n9".into(), NicSettings::default())))),
        ("setting.disks.id", Box::new(|s| drop(s.disks.insert("d9".into(), DiskSettings::default())))),
        (
            "setting.disks.kind",
            Box::new(|s| {
                drop(s.disks.insert("root".into(), DiskSettings { kind: Some("qcow2".into()), name: None }))
            }),
        ),
        (
            "setting.disks.name",
            Box::new(|s| {
                drop(s.disks.insert("root".into(), DiskSettings { name: Some("../x".into()), kind: None }))
            }),
        ),
        (
            "setting.disks.name",
            Box::new(|s| {
                drop(
                    s.disks
                        .insert("root".into(), DiskSettings { name: Some("disk-data".into()), kind: None }),
                )
            }),
        ),
    ];
    for (code, spoil) in wrong {
        let mut settings = proposed.clone();
        spoil(&mut settings);
        let found = world.site.check(&machine, &settings).await.unwrap();
        let critical: Vec<_> = found.iter().filter(|f| f.blocks()).map(|f| f.code.as_str()).collect();
        assert!(critical.contains(&code), "{code} in {critical:?}");
        let what = Recovery { settings, ..recovery(Purpose::Failover, 1) };
        let drill = Recovery { purpose: Purpose::Drill, ..what.clone() };
        let failed = world.site.materialise(&op("bad"), &what, &store()).await.is_err()
            || world.site.materialise(&op("bad-drill"), &drill, &store()).await.is_err();
        assert!(failed, "{code}");
    }
    let names: Vec<_> = world.site.discover().await.unwrap().into_iter().map(|m| m.instance.name).collect();
    assert!(names.iter().all(|n| n == "Web-1" || n.starts_with('x')), "{names:?}");
}

#[tokio::test]
async fn sit2_sit3_d5_materialise_makes_exactly_the_point_and_arms() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 7);
    let armed = world.site.materialise(&op("f"), &what, &store()).await.unwrap();
    assert_eq!((armed.instance.name.as_str(), armed.instance.generation), ("Web-1", Generation(7)));
    assert_eq!((armed.instance.site.as_str(), armed.point), ("here", PointId(4)));
    holds_the_point(&world, "Web-1");
    let blocks =
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(world.path("Web-1/disk-data.raw")).unwrap());
    assert!(blocks * 512 < 4 << 20, "what is zero takes no space: {blocks} blocks");
    let power = world.site.power(&armed.instance).await.unwrap();
    assert_eq!(power, Power::Off { start: StartGuard::Blocked { until: None } });
    let found = world.found("Web-1").await;
    assert_eq!(found.instance, armed.instance);
    assert_eq!(found.disks, captured().disks[..2]);
    assert_eq!(
        (found.cpus, found.firmware, found.os),
        (2, Firmware::Uefi { secure_boot: true }, OsFamily::Linux)
    );
    assert_eq!(found.nics, captured().nics);
    // Everything from the first boot on is in the changes since the cursor.
    let op_b = op("b");
    let permit = permit(&op_b, &armed.instance).await;
    assert!(world.site.boot(&op_b, &what, &armed, permit).await.unwrap().running);
    world
        .site
        .write_disk("Web-1", &"data".into(), 12_345, bytes::Bytes::from_static(b"first"))
        .await
        .unwrap();
    let back = capture(&world, "back", from_ref(&armed.instance)).await;
    let set = known(world.site.changes(&back, &"m".into(), armed.cursor.as_ref().unwrap()).await.unwrap());
    assert!(set.contains(&"data".into(), Run::new(12_345, 5)));
    assert!(set.bytes() <= HASH_BLOCK, "and nothing else: {set:?}");
    assert_eq!(back.members[0].sidecars, what.sidecars);
    let stale = Cursor { generation: Generation(6), ..armed.cursor.unwrap() };
    assert!(matches!(world.site.changes(&back, &"m".into(), &stale).await.unwrap(), Changes::Lost { .. }));
}

#[tokio::test]
async fn rol1_o1_a_broken_materialise_goes_on_under_its_key_and_a_repeat_gives_the_same() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 1);
    let broken = OnePoint::of(point());
    for limit in [0, 20_000, 13 << 20] {
        *broken.breaks_at.lock().unwrap() = Some(limit);
        let from: Arc<dyn Replica> = broken.clone();
        let error = world.site.materialise(&op("f"), &what, &from).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(world.again().discover().await.unwrap().is_empty(), "nothing half-made is seen");
    }
    let armed = world.again().materialise(&op("f"), &what, &store()).await.unwrap();
    holds_the_point(&world, "Web-1");
    world.put_raw("Web-1/disk-root.raw", 0, b"it runs");
    *broken.breaks_at.lock().unwrap() = Some(0);
    let from: Arc<dyn Replica> = broken.clone();
    assert_eq!(world.again().materialise(&op("f"), &what, &from).await.unwrap(), armed);
    assert_eq!(&disk_bytes(&world, "Web-1", "root")[..7], b"it runs");
    // Crash after the rename, before the note.
    let note = world.path(".site-recovery/made/f.json");
    fs::write(&note, r#"{"key": "f", "became": {"Begun": {"attempt": 1}}}"#).unwrap();
    assert_eq!(world.again().materialise(&op("f"), &what, &from).await.unwrap(), armed);
    // The user's own machine of that name is never touched.
    world.machine("db");
    let named = Recovery { settings: Settings { name: Some("db".into()), ..Settings::default() }, ..what };
    assert_eq!(
        world.site.materialise(&op("g"), &named, &store()).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

#[tokio::test]
async fn rol3_a_point_that_is_not_as_its_manifest_says_is_refused() {
    let world = World::new();
    let mut disks = point();
    disks.get_mut(&"data".into()).unwrap().pop();
    let from: Arc<dyn Replica> = OnePoint::of(disks);
    let error = world.site.materialise(&op("f"), &recovery(Purpose::Failover, 1), &from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(world.site.discover().await.unwrap().is_empty());
}

#[tokio::test]
async fn sit5_withdraw_leaves_nothing_and_a_late_materialise_makes_nothing() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 1);
    let broken = OnePoint::of(point());
    *broken.breaks_at.lock().unwrap() = Some(13 << 20);
    let from: Arc<dyn Replica> = broken;
    world.site.materialise(&op("half"), &what, &from).await.unwrap_err();
    world.site.materialise(&op("whole"), &what, &store()).await.unwrap();
    for key in ["never", "half", "whole", "whole"] {
        world.again().withdraw(&op("w"), &key.into(), &what).await.unwrap();
        let late = world.again().materialise(&op(key), &what, &store()).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Refused, "{key}");
    }
    assert!(world.leftovers(".raw").is_empty(), "{:?}", world.leftovers(".raw"));
    assert!(world.site.discover().await.unwrap().is_empty());
    // What was booted is not taken back.
    let armed = world.site.materialise(&op("f"), &what, &store()).await.unwrap();
    let op_b = op("b");
    world.site.boot(&op_b, &what, &armed, permit(&op_b, &armed.instance).await).await.unwrap();
    let error = world.site.withdraw(&op("w2"), &"f".into(), &what).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(world.is_on("Web-1"));
}

#[tokio::test]
async fn sit5_withdraw_ends_a_materialise_that_is_under_way() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 1);
    #[derive(Debug)]
    struct Meddling(Arc<dyn Disk>, site_recovery_local::LocalSite, Recovery);
    #[async_trait::async_trait]
    impl Disk for Meddling {
        fn size(&self) -> u64 {
            self.0.size()
        }
        async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
            self.0.extents(range).await
        }
        async fn read(&self, run: Run, pool: &Pool) -> Result<bytes::Bytes> {
            self.1.withdraw(&op("w"), &"f".into(), &self.2).await.unwrap();
            let withdrawn = self.1.materialise(&op("f"), &self.2, &store()).await.unwrap_err();
            assert_eq!(withdrawn.kind(), ErrorKind::Refused, "{withdrawn}");
            self.0.read(run, pool).await
        }
    }
    let once = OnePoint::of(point()).open(&"m".into(), PointId(4)).await.unwrap();
    let disk = Meddling(once[&"root".into()].clone(), world.again(), what.clone());
    let instead: Disks = [("root".into(), Arc::new(disk) as Arc<dyn Disk>)].into();
    let from: Arc<dyn Replica> = Arc::new(OnePoint { disks: point(), breaks_at: Arc::default(), instead });
    let error = world.site.materialise(&op("f"), &what, &from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(world.leftovers(".raw").is_empty());
}

#[tokio::test]
async fn sit6_sit7_boot_needs_its_own_permit_and_starts_once() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 1);
    let armed = world.site.materialise(&op("f"), &what, &store()).await.unwrap();
    let other = Instance { machine: "n".into(), ..armed.instance.clone() };
    let elsewhere = Instance { name: "elsewhere".into(), ..armed.instance.clone() };
    let op_b = op("b");
    for wrong in [other, elsewhere] {
        let permit = permit(&op_b, &wrong).await;
        let error = world.site.boot(&op_b, &what, &armed, permit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(!world.is_on("Web-1"));
    }
    let boot = async |key: &str| {
        let op = op(key);
        world.again().boot(&op, &what, &armed, permit(&op, &armed.instance).await).await.unwrap()
    };
    let booted = boot("b").await;
    assert!(booted.running && world.is_on("Web-1"));
    assert!(booted.reach.contains(&"10.0.0.7".to_owned()));
    assert_eq!(boot("b").await, booted);
    world.site.switch_off("Web-1").await.unwrap();
    assert!(!boot("b").await.running, "it ran under that key");
    assert!(!world.is_on("Web-1"));
    assert!(boot("b2").await.running && world.is_on("Web-1"));
    world.site.switch_off("Web-1").await.unwrap();
    let drill = || BootPermit::Isolated { network: "bubble".into() };
    let booted = world.site.boot(&op("b3"), &what, &armed, drill()).await.unwrap_err();
    let lifted = world.site.unfence(&op("b4"), &armed.instance, drill(), Start::Run).await.unwrap_err();
    assert_eq!((booted.kind(), lifted.kind()), (ErrorKind::Refused, ErrorKind::Refused));
    assert!(!world.is_on("Web-1"), "a permit for drills starts nothing else");
}

#[tokio::test]
async fn o5_a_drill_is_isolated_and_goes_without_a_trace() {
    let world = World::new();
    let what = recovery(Purpose::Drill, 3);
    let armed = world.site.materialise(&op("d"), &what, &store()).await.unwrap();
    assert_eq!(armed.instance.name, "Web-1-test");
    let isolated = |network: &str| BootPermit::Isolated { network: network.into() };
    assert!(world.site.boot(&op("b"), &what, &armed, isolated("bubble")).await.unwrap().running);
    let nics = world.found("Web-1-test").await.nics;
    assert!(nics.iter().all(|n| n.network.as_deref() == Some("bubble")), "{nics:?}");
    let elsewhere = world.site.boot(&op("b2"), &what, &armed, isolated("lan")).await.unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::Refused);
    // A drill does not stand in the way of the real thing.
    let found = world.site.check(&captured(), &Settings::default()).await.unwrap();
    assert!(!found.iter().any(Finding::blocks), "{found:?}");
    for _ in 0..2 {
        world.again().destroy(&op("x"), &armed.instance).await.unwrap();
        assert!(!world.path("Web-1-test").exists());
    }
    assert!(world.leftovers(".raw").is_empty());
    let late = world.site.materialise(&op("d"), &what, &store()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Refused, "what this key made is gone");
}

#[tokio::test]
async fn sit8_sit9_d6_set_aside_keeps_every_byte_until_settled() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 1);
    let armed = world.site.materialise(&op("f"), &what, &store()).await.unwrap();
    let op_b = op("b");
    world.site.boot(&op_b, &what, &armed, permit(&op_b, &armed.instance).await).await.unwrap();
    world.put_raw("Web-1/disk-data.raw", 99, b"written by the guest");
    let running = world.site.set_aside(&op("s"), &armed.instance).await.unwrap_err();
    assert_eq!(running.kind(), ErrorKind::Refused);
    world.site.fence(&op("fence"), &armed.instance, Duration::ZERO).await.unwrap();
    let bytes = disk_bytes(&world, "Web-1", "data");
    let kept = world.site.set_aside(&op("s"), &armed.instance).await.unwrap();
    assert_eq!(world.again().set_aside(&op("s"), &armed.instance).await.unwrap(), kept);
    assert!(!world.path("Web-1").exists());
    let capture = capture(&world, "c", from_ref(&kept)).await;
    assert!(image(&world.site, &capture, &kept).await[&"data".into()] == bytes);
    assert!(world.site.switch_on(&kept.name).await.is_err());
    // Its place is free for another point; that one is settled, and is then no more to be set aside.
    let again = world.site.materialise(&op("f2"), &what, &store()).await.unwrap();
    holds_the_point(&world, "Web-1");
    let op_b2 = op("b2");
    world.site.boot(&op_b2, &what, &again, permit(&op_b2, &again.instance).await).await.unwrap();
    for _ in 0..2 {
        world.site.settle(&op("settle"), &again).await.unwrap();
        assert!(world.is_on("Web-1"));
    }
    world.site.fence(&op("fence2"), &again.instance, Duration::ZERO).await.unwrap();
    assert_eq!(
        world.site.set_aside(&op("s2"), &again.instance).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
    world.site.destroy(&op("x"), &kept).await.unwrap();
    assert!(!world.path(&kept.name).exists() && world.path("Web-1").exists());
}

#[tokio::test]
async fn o1_a_set_aside_that_broke_off_is_found() {
    let world = World::new();
    let what = recovery(Purpose::Failover, 1);
    let armed = world.site.materialise(&op("f"), &what, &store()).await.unwrap();
    let kept = world.site.set_aside(&op("s"), &armed.instance).await.unwrap();
    // As after a crash between the rename and the new mark.
    let path = world.path(&kept.name).join(".site-recovery/mark.json");
    let mark = fs::read_to_string(&path).unwrap();
    let mark = mark.replace(&format!("\"name\": \"{}\"", kept.name), "\"name\": \"Web-1\"");
    let mark = mark.replace("\"moving_to\": null", &format!("\"moving_to\": \"{}\"", kept.name));
    fs::write(&path, mark).unwrap();
    assert_eq!(world.again().set_aside(&op("s"), &armed.instance).await.unwrap(), kept);
    assert_eq!(world.found(&kept.name).await.instance, kept);
}

#[tokio::test]
async fn sit10_rol7_what_the_user_brought_is_never_removed() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let attached = world.site.attach(&op("a"), &captured(), None, &Settings::default()).await.unwrap();
    for instance in [&web, &attached] {
        let error = world.site.destroy(&op("x"), instance).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    assert_eq!(world.site.set_aside(&op("s"), &web).await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(world.path("web/root.raw").exists() && world.path(&attached.name).exists());
}
