//! The site as a landing: attach, disks, branches, hand-over.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use site_recovery::*;
use std::fs;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;
use support::*;

fn what(machine: &Machine) -> Recovery {
    Recovery {
        machine: machine.clone(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: Settings::default(),
    }
}

async fn landed(world: &World) -> (Machine, Instance) {
    world.enrolled("web").await;
    let machine = world.found("web").await;
    let existing = Some(machine.instance.clone());
    let instance = world.site.attach(&op("a"), &machine, existing, &Settings::default()).await.unwrap();
    (machine, instance)
}

async fn put(disk: &Arc<dyn DiskMut>, at: u64, bytes: &'static [u8]) {
    disk.write(at, Bytes::from_static(bytes)).await.unwrap();
}

#[tokio::test]
async fn lnd3_attach_leaves_bytes_and_makes_what_is_missing() {
    let world = World::new();
    world.enrolled("web").await;
    let mut machine = world.found("web").await;
    world.site.switch_on("web").await.unwrap();
    let existing = Some(machine.instance.clone());
    let attach = async |key: &str, machine: &Machine| {
        world.again().attach(&op(key), machine, existing.clone(), &Settings::default()).await
    };
    assert_eq!(attach("a", &machine).await.unwrap_err().kind(), ErrorKind::Refused);
    world.site.switch_off("web").await.unwrap();
    let before = world.bytes("web/data.raw");
    machine.disks[1].size = DATA + 4096;
    machine.disks.push(DiskSpec { id: "new disk".into(), size: 8192, role: DiskRole::Data, included: true });
    for _ in 0..2 {
        let instance = attach("a", &machine).await.unwrap();
        assert_eq!(instance, machine.instance);
        let grown = world.bytes("web/data.raw");
        assert!(grown.len() as u64 == DATA + 4096 && grown[..before.len()] == before[..]);
        assert_eq!(world.found("web").await.disks, machine.disks);
    }
    let power = world.site.power(&machine.instance).await.unwrap();
    assert_eq!(power, Power::Off { start: StartGuard::Blocked { until: None } });
    let gone = Instance { name: "gone".into(), ..machine.instance.clone() };
    let error = world.site.attach(&op("g"), &machine, Some(gone), &Settings::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // A machine that carries no mark takes the ids by place.
    world.machine("bare");
    let bare = Some(Instance { name: "bare".into(), ..machine.instance.clone() });
    let mut two = machine.clone();
    two.disks.truncate(2);
    two.disks[0].id = "disk-a".into();
    let instance = world.site.attach(&op("b"), &two, bare, &Settings::default()).await.unwrap();
    let disk = world.site.disk(&instance, &"disk-a".into()).await.unwrap();
    assert!(read_all(&*disk).await == world.bytes("bare/root.raw"));
}

#[tokio::test]
async fn lnd8_a_new_machine_takes_a_free_name_and_is_removed_again() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let machine = world.found("web").await;
    let attach = async || world.again().attach(&op("a"), &machine, None, &Settings::default()).await.unwrap();
    let instance = attach().await;
    assert_eq!(instance.name, "web-2");
    assert_eq!(attach().await, instance);
    let disk = world.site.disk(&instance, &"data".into()).await.unwrap();
    assert!(disk.size() == DATA && read_all(&*disk).await.iter().all(|b| *b == 0));
    assert_eq!(world.site.remove(&op("r"), &web).await.unwrap_err().kind(), ErrorKind::Refused);
    for _ in 0..2 {
        world.again().remove(&op("r2"), &instance).await.unwrap();
    }
    assert!(!world.path("web-2").exists() && world.path("web/root.raw").exists());
    assert_eq!(disk.write(0, Bytes::from_static(b"x")).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn lnd2_other_instances_are_not_found() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let gone = Instance { name: "gone".into(), ..web.clone() };
    for instance in [&web, &gone] {
        let errors = [
            world.site.disk(instance, &"root".into()).await.err(),
            world.site.stamp(instance).await.err(),
            world.site.branch(&op("b"), instance).await.err(),
            world.site.part(&op("p"), instance).await.err(),
            world.site.merge(&op("m"), instance).await.err(),
            world.site.arm(&op("arm"), instance, Generation(1)).await.err(),
            world.site.detach(&op("d"), instance).await.err(),
            world.site.stop(&op("s"), instance, Duration::ZERO).await.err(),
        ];
        for (at, error) in errors.into_iter().enumerate() {
            assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::NotFound), "call {at} of {}", instance.name);
        }
    }
}

#[tokio::test]
async fn dsm_dsk_what_is_written_reads_back_by_every_handle() {
    let world = World::new();
    let (_, web) = landed(&world).await;
    let disk = world.site.disk(&web, &"data".into()).await.unwrap();
    let mut model = world.bytes("web/data.raw");
    let mut rng = Rng(5);
    for _ in 0..200 {
        let at = rng.next(DATA);
        let len = rng.next(70_000.min(DATA - at) + 1);
        let range = at as usize..(at + len) as usize;
        if rng.next(3) == 0 {
            disk.zero(Run::new(at, len)).await.unwrap();
            model[range].fill(0);
        } else {
            let bytes = rng.bytes(len as usize);
            model[range].copy_from_slice(&bytes);
            disk.write(at, Bytes::from(bytes)).await.unwrap();
        }
    }
    disk.flush().await.unwrap();
    assert!(read_all(&*disk).await == model);
    let next = world.again().disk(&web, &"data".into()).await.unwrap();
    assert!(read_all(&*next).await == model);
    assert!(world.bytes("web/data.raw") == model);
    for extent in next.extents(Run::new(0, DATA)).await.unwrap() {
        let held = &model[extent.run.start as usize..extent.run.end() as usize];
        assert!(extent.fill == Fill::Data || held.iter().all(|b| *b == 0));
    }
    for error in [
        disk.write(DATA - 1, Bytes::from_static(b"xx")).await.unwrap_err(),
        disk.zero(Run::new(DATA, 1)).await.unwrap_err(),
        disk.read(Run::new(DATA - 1, 2), &pool()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(world.bytes("web/data.raw") == model);
}

#[tokio::test]
async fn lnd1_handles_end_and_write_nothing_any_more() {
    let world = World::new();
    let (machine, web) = landed(&world).await;
    for act in ["branch", "part", "branch again", "merge", "detach"] {
        let disks = [
            world.site.disk(&web, &"root".into()).await.unwrap(),
            world.again().disk(&web, &"root".into()).await.unwrap(),
        ];
        put(&disks[0], 0, b"before").await;
        match act {
            "part" => drop(world.site.part(&op(act), &web).await.unwrap()),
            "merge" => world.site.merge(&op(act), &web).await.unwrap(),
            "detach" => world.site.detach(&op(act), &web).await.unwrap(),
            _ => world.site.branch(&op(act), &web).await.unwrap(),
        }
        let bytes = world.bytes("web/root.raw");
        for disk in &disks {
            for error in [
                disk.write(0, Bytes::from_static(b"after!")).await.unwrap_err(),
                disk.zero(Run::new(0, 6)).await.unwrap_err(),
                disk.flush().await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Refused, "after {act}");
            }
        }
        assert!(world.bytes("web/root.raw") == bytes, "after {act}");
    }
    let error = world.site.disk(&web, &"root".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "given back");
    let existing = Some(machine.instance.clone());
    world.site.attach(&op("again"), &machine, existing, &Settings::default()).await.unwrap();
    put(&world.site.disk(&web, &"root".into()).await.unwrap(), 0, b"ours").await;
}

#[tokio::test]
async fn lnd5_a_branch_parts_into_below_and_above() {
    let world = World::new();
    let (_, web) = landed(&world).await;
    assert_eq!(world.site.part(&op("early"), &web).await.unwrap_err().kind(), ErrorKind::Refused);
    let below = [world.bytes("web/root.raw"), world.bytes("web/data.raw")];
    world.site.branch(&op("b"), &web).await.unwrap();
    put(&world.site.disk(&web, &"root".into()).await.unwrap(), 1000, b"above").await;
    // Neither a repeat nor a second branch moves the line.
    world.again().branch(&op("b"), &web).await.unwrap();
    world.site.branch(&op("b2"), &web).await.unwrap();
    let armed = world.site.arm(&op("arm"), &web, Generation(9)).await.unwrap();
    put(&world.site.disk(&web, &"data".into()).await.unwrap(), 0, b"above too").await;
    let above = [world.bytes("web/root.raw"), world.bytes("web/data.raw")];
    world.site.start_outside("web").await.unwrap();
    assert_eq!(world.site.part(&op("p"), &web).await.unwrap_err().kind(), ErrorKind::Refused, "it runs");
    world.site.stop(&op("stop"), &web, Duration::ZERO).await.unwrap();
    let kept = world.site.part(&op("p"), &web).await.unwrap();
    for site in [world.site.clone(), world.again()] {
        assert_eq!(site.part(&op("p"), &web).await.unwrap(), kept);
        assert!([world.bytes("web/root.raw"), world.bytes("web/data.raw")] == below);
        for (disk, bytes) in [("root", &above[0]), ("data", &above[1])] {
            let disk = site.disk(&kept, &disk.into()).await.unwrap();
            assert!(&read_all(&*disk).await == bytes);
        }
    }
    assert_eq!(kept.generation, Generation(9));
    assert_eq!(world.found("web").await.instance.generation, Generation(0), "as before the branch");
    assert_ne!(armed.instance.generation, Generation(0));
    let blocked = Power::Off { start: StartGuard::Blocked { until: None } };
    assert_eq!(world.site.power(&kept).await.unwrap(), blocked);
    assert_eq!(world.site.power(&web).await.unwrap(), blocked);
    let capture = capture(&world, "c", from_ref(&kept)).await;
    assert!(image(&world.site, &capture, &kept).await[&"root".into()] == above[0]);
    world.site.remove(&op("r"), &kept).await.unwrap();
    assert!(!world.path(&kept.name).exists());
    assert!([world.bytes("web/root.raw"), world.bytes("web/data.raw")] == below);
    assert!(world.leftovers("below").is_empty() && world.leftovers("above").is_empty());
}

#[tokio::test]
async fn o1_a_part_that_broke_off_goes_on_wherever_it_was() {
    for crash in 0..5 {
        let world = World::new();
        let (_, web) = landed(&world).await;
        let below = [world.bytes("web/root.raw"), world.bytes("web/data.raw")];
        world.site.branch(&op("b"), &web).await.unwrap();
        put(&world.site.disk(&web, &"root".into()).await.unwrap(), 0, b"above").await;
        put(&world.site.disk(&web, &"data".into()).await.unwrap(), 0, b"above").await;
        let above = [world.bytes("web/root.raw"), world.bytes("web/data.raw")];
        // As after a crash behind each of the renames.
        let own = world.path("web/.site-recovery");
        let landing = fs::read_to_string(own.join("landing.json")).unwrap();
        let parting = r#""parting": {"key": "p", "kept": "web-kept"}"#;
        fs::write(own.join("landing.json"), landing.replace("\"parting\": null", parting)).unwrap();
        fs::create_dir(own.join("above")).unwrap();
        let moves = [
            (world.path("web/root.raw"), own.join("above/root.raw")),
            (own.join("below/root.raw"), world.path("web/root.raw")),
            (world.path("web/data.raw"), own.join("above/data.raw")),
            (own.join("below/data.raw"), world.path("web/data.raw")),
        ];
        for (from, to) in &moves[..crash] {
            fs::rename(from, to).unwrap();
        }
        let site = world.again();
        assert_eq!(site.disk(&web, &"root".into()).await.unwrap_err().kind(), ErrorKind::Refused, "half-way");
        assert_eq!(site.part(&op("other"), &web).await.unwrap_err().kind(), ErrorKind::Refused);
        let kept = site.part(&op("p"), &web).await.unwrap();
        assert_eq!(kept.name, "web-kept");
        assert!([world.bytes("web/root.raw"), world.bytes("web/data.raw")] == below, "crash {crash}");
        for (disk, bytes) in [("root", &above[0]), ("data", &above[1])] {
            let disk = site.disk(&kept, &disk.into()).await.unwrap();
            assert!(&read_all(&*disk).await == bytes, "crash {crash}");
        }
    }
}

#[tokio::test]
async fn sit8_merge_while_it_runs_makes_what_is_above_final() {
    let world = World::new();
    let (machine, web) = landed(&world).await;
    world.site.branch(&op("b"), &web).await.unwrap();
    put(&world.site.disk(&web, &"root".into()).await.unwrap(), 0, b"above").await;
    world.site.detach(&op("d"), &web).await.unwrap();
    let op_s = op("s");
    let started = world.site.start(&op_s, &web, &what(&machine), permit(&op_s, &web).await).await.unwrap();
    assert!(started.running);
    let bytes = world.bytes("web/root.raw");
    for _ in 0..2 {
        world.again().merge(&op("m"), &web).await.unwrap();
        assert!(world.is_on("web") && world.bytes("web/root.raw") == bytes);
    }
    world.site.stop(&op("stop"), &web, Duration::ZERO).await.unwrap();
    assert_eq!(
        world.site.part(&op("p"), &web).await.unwrap_err().kind(),
        ErrorKind::Refused,
        "no branch is left"
    );
    // A late repeat of the first branch makes no new one.
    world.site.branch(&op("b"), &web).await.unwrap();
    assert_eq!(world.site.part(&op("p2"), &web).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn lnd6_everything_after_arm_is_told_as_changed() {
    let world = World::new();
    let (_, web) = landed(&world).await;
    put(&world.site.disk(&web, &"root".into()).await.unwrap(), 0, b"before").await;
    let armed = world.site.arm(&op("arm"), &web, Generation(4)).await.unwrap();
    put(&world.site.disk(&web, &"root".into()).await.unwrap(), 200_000, b"after").await;
    assert_eq!(
        world.again().arm(&op("arm"), &web, Generation(4)).await.unwrap(),
        armed,
        "a repeat arms once"
    );
    assert_eq!(armed.instance.generation, Generation(4));
    assert_eq!(world.found("web").await.instance, armed.instance);
    let capture = capture(&world, "c", from_ref(&armed.instance)).await;
    let changes = world.site.changes(&capture, &web.machine, armed.cursor.as_ref().unwrap()).await.unwrap();
    let set = known(changes);
    assert!(set.contains(&"root".into(), Run::new(200_000, 5)));
    assert!(!set.contains(&"root".into(), Run::new(0, 6)));
}

#[tokio::test]
async fn lnd4_lnd7_our_acts_leave_the_stamp_and_a_start_past_us_changes_it() {
    let world = World::new();
    let (machine, web) = landed(&world).await;
    let stamp = async || world.again().stamp(&web).await.unwrap().unwrap();
    let first = stamp().await;
    world.site.branch(&op("b"), &web).await.unwrap();
    world.site.arm(&op("arm"), &web, Generation(2)).await.unwrap();
    world.site.detach(&op("d"), &web).await.unwrap();
    let wrong = Instance { name: "other".into(), ..web.clone() };
    let op_s = op("s");
    let refused =
        world.site.start(&op_s, &web, &what(&machine), permit(&op_s, &wrong).await).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(!world.is_on("web"));
    let start = async || {
        let permit = permit(&op_s, &web).await;
        world.again().start(&op_s, &web, &what(&machine), permit).await.unwrap().running
    };
    assert!(start().await && start().await && world.is_on("web"));
    world.site.stop(&op("stop"), &web, Duration::ZERO).await.unwrap();
    assert!(!start().await, "it ran under that key");
    assert_eq!(
        world.site.power(&web).await.unwrap(),
        Power::Off { start: StartGuard::Blocked { until: None } }
    );
    assert_eq!(stamp().await, first);
    assert!(world.site.switch_on("web").await.is_err());
    assert_eq!(stamp().await, first);
    world.site.start_outside("web").await.unwrap();
    world.site.switch_off("web").await.unwrap();
    assert_ne!(stamp().await, first);
}

#[tokio::test]
async fn a_fence_that_is_lifted_takes_the_disks_from_the_landing() {
    let world = World::new();
    let (_, web) = landed(&world).await;
    let disk = world.site.disk(&web, &"root".into()).await.unwrap();
    let op_u = op("u");
    world.site.unfence(&op_u, &web, permit(&op_u, &web).await, Start::Run).await.unwrap();
    assert!(world.is_on("web"));
    let error = disk.write(0, Bytes::from_static(b"under a running machine")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn survey_offers_the_directory_and_names_what_is_wrong() {
    let world = World::new();
    world.enrolled("web").await;
    let machine = world.found("web").await;
    let survey = world.site.survey(&machine, &Settings::default()).await.unwrap();
    assert!(!survey.findings.iter().any(Finding::blocks), "{:?}", survey.findings);
    let place = &survey.offers.datastores[0];
    assert!(place.free > 0 && place.free <= place.size && place.ineligible.is_none());
    let named = Settings { datastore: Some(place.name.clone()), ..Settings::default() };
    world.site.attach(&op("a"), &machine, None, &named).await.unwrap();
    let other = Settings { datastore: Some("ds1".into()), ..Settings::default() };
    assert!(world.site.survey(&machine, &other).await.unwrap().findings.iter().any(Finding::blocks));
    let error = world.site.attach(&op("b"), &machine, None, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
