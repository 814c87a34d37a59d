//! What people do around the library: they start machines themselves, copy directories, bring images back, and run the
//! service under a manager that ends all it has started.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use site_recovery::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::*;

/// Runs a command line that the library printed.
fn run_line(line: &[String]) {
    assert!(Command::new(&line[0]).args(&line[1..]).status().unwrap().success());
}

fn copy(from: &Path, to: &Path) {
    run("cp", &["-a", text_of(from), text_of(to)]);
}

/// A machine that is off, enrolled, and whose second disk is raw.
async fn with_raw_data(world: &World, byte: u8) -> (Instance, PathBuf) {
    world.machine("web");
    describe(world, |text| text["disks"][1] = json!({ "id": "data", "file": "data.raw", "format": "raw" }));
    let raw = world.path("web/disks/data.raw");
    fs::write(&raw, vec![byte; 1 << 20]).unwrap();
    (world.enrol("web").await, raw)
}

fn describe(world: &World, change: impl FnOnce(&mut Value)) {
    let path = world.path("web/machine.json");
    let mut text = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut text);
    fs::write(path, text.to_string()).unwrap();
}

/// The newest bitmap last.
fn bitmaps(world: &World, disk: usize) -> Vec<String> {
    let info = run_for("qemu-img", &["info", "--output=json", text_of(&world.image("web", disk))]);
    let info: Value = serde_json::from_str(&info).unwrap();
    let all = info["format-specific"]["data"]["bitmaps"].as_array().unwrap();
    let mut names: Vec<_> = all.iter().map(|b| b["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn o5_a_drill_that_is_started_by_hand_stays_in_its_network() {
    on_qemu(async {
        let world = World::new().await;
        world.machine("web");
        let state = world.path("web/.site-recovery/state.json");
        fs::create_dir_all(state.parent().unwrap()).unwrap();
        // As a drill leaves it.
        fs::write(state, json!({ "network": "isolated" }).to_string()).unwrap();

        let line = world.site.command_line("web").await.unwrap();
        assert!(line.iter().any(|w| w.starts_with("user,restrict=on")), "{line:?}");
        world.site.power_on("web").await.unwrap();
        let backends = world.backends("web");
        assert!(
            !backends.is_empty() && backends.iter().all(|b| b.starts_with("user,restrict=on")),
            "{backends:?}"
        );
    });
}

#[test]
fn s2_a_fenced_machine_has_no_command_line_until_the_fence_is_lifted() {
    on_qemu(async {
        let world = World::new().await;
        let web = world.enrolled("web").await;
        let before = world.site.command_line("web").await.unwrap();
        world.site.fence(&op("fence"), &web, Duration::ZERO).await.unwrap();

        for error in
            [world.site.command_line("web").await.unwrap_err(), world.site.power_on("web").await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.to_string().contains("unfence"), "{error}");
        }
        let started = Command::new(&before[0]).args(&before[1..]).output().unwrap();
        assert!(!started.status.success(), "the line of before the fence finds the images");
        assert!(matches!(
            world.site.power(&web).await.unwrap(),
            Power::Off { start: StartGuard::Blocked { .. } }
        ));
    });
}

#[test]
fn s2_images_that_were_brought_back_beside_the_fenced_ones_are_no_proof() {
    on_qemu(async {
        let world = World::new().await;
        let web = world.enrolled("web").await;
        world.site.fence(&op("fence"), &web, Duration::ZERO).await.unwrap();
        copy(&world.path("web/fenced"), &world.path("web/disks"));

        assert_eq!(world.site.power(&web).await.unwrap(), Power::Unknown);
        let error = world.site.fence(&op("again"), &web, Duration::ZERO).await.unwrap_err();
        for word in ["disks/", "fenced/", "newer"] {
            assert!(error.to_string().contains(word), "{error}");
        }
        fs::rename(world.path("web/disks"), world.path("brought")).unwrap();
        assert!(matches!(
            world.site.power(&web).await.unwrap(),
            Power::Off { start: StartGuard::Blocked { .. } }
        ));
    });
}

#[test]
fn s2_a_raw_image_that_another_process_writes_is_in_use() {
    on_qemu(async {
        let world = World::new().await;
        let (web, raw) = with_raw_data(&world, 7).await;
        assert_eq!(world.site.power(&web).await.unwrap(), Power::Off { start: StartGuard::Free });

        let file = world.dir.path().join("theirs.pid");
        let image = format!("driver=file,node-name=d,filename={}", raw.display());
        let line = ["-accel", "tcg", "-S", "-display", "none", "-nodefaults", "-daemonize", "-pidfile"];
        let line = [&line[..], &[text_of(&file), "-blockdev", &image, "-device", "virtio-blk-pci,drive=d"]];
        run("qemu-system-x86_64", &line.concat());
        let theirs = pid(&file).unwrap();
        let power = world.site.power(&web).await;
        let fence = world.site.fence(&op("fence"), &web, Duration::ZERO).await;
        kill(theirs);
        assert_eq!(power.unwrap(), Power::On);
        assert_eq!(fence.unwrap_err().kind(), ErrorKind::Refused);
    });
}

#[test]
fn a_raw_disk_whose_guest_wrote_the_header_of_another_format_stays_raw() {
    on_qemu(async {
        let world = World::new().await;
        let (web, raw) = with_raw_data(&world, 0).await;

        // An image of 64 GiB, by its header.
        let header = world.dir.path().join("header.qcow2");
        run("qemu-img", &["create", "-q", "-f", "qcow2", text_of(&header), "64G"]);
        let mut bytes = fs::read(&raw).unwrap();
        let header = fs::read(header).unwrap();
        bytes[..header.len().min(1 << 20)].copy_from_slice(&header[..header.len().min(1 << 20)]);
        fs::write(&raw, &bytes).unwrap();
        let found = world.found("web").await;
        assert_eq!(found.disks.iter().find(|d| d.id.as_str() == "data").unwrap().size, 1 << 20);
        world.site.power_on("web").await.unwrap();
        world.site.capture(&op("capture"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        // Who enrols it now may mean the other format.
        world.switch_off("web");
        let machine = world.found("web").await;
        let error = world.site.enrol(&op("anew"), &machine).await.unwrap_err();
        assert!(error.to_string().contains("begins as qcow2"), "{error}");
    });
}

#[test]
fn o2_a_machine_that_its_printed_line_starts_is_captured_after_a_kill_too() {
    on_qemu(async {
        let world = World::new().await;
        world.machine("web");
        let web = world.enrol("web").await;
        for round in ["first", "second"] {
            run_line(&world.site.command_line("web").await.unwrap());
            assert!(world.is_on("web"), "it runs at once");
            let capture =
                world.site.capture(&op(round), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
            let disks = world.site.disks(&op(round), &capture, &web.machine).await.unwrap();
            assert_eq!(disks.len(), 2);
            world.kill("web");
        }
    });
}

#[test]
fn a_machine_with_a_tpm_has_no_command_line() {
    on_qemu(async {
        let world = World::new().await;
        world.machine("web");
        describe(&world, |text| text["tpm"] = true.into());
        let error = world.site.command_line("web").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("power_on"), "{error}");
    });
}

#[test]
fn o2_a_copied_directory_keeps_nobody_from_claiming_a_machine() {
    on_qemu(async {
        let world = World::new().await;
        let web = world.enrolled("web").await;
        copy(&world.path("web"), &world.path("web.bak"));
        fs::create_dir_all(world.path("torn/.site-recovery")).unwrap();
        fs::write(world.path("torn/.site-recovery/mark.json"), "{").unwrap();
        world.site.claim(&op("claim"), &web.machine).await.unwrap();
        assert_eq!(world.site.power(&web).await.unwrap(), Power::On);
    });
}

#[test]
fn d4_a_gap_in_the_chain_of_bitmaps_is_no_change_list() {
    on_qemu(async {
        let world = World::new().await;
        let web = world.enrolled("web").await;
        let (site, machine) = (&world.site, &web.machine);
        let mut cursors = vec![];
        for round in ["first", "second", "third"] {
            let capture =
                site.capture(&op(round), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
            cursors.push(capture.member(machine).unwrap().cursor.clone().unwrap());
            // Spooled keeps what came before.
            site.release(&op(round), &capture, machine, Fate::Spooled).await.unwrap();
            world.put("web", 0, 0, round.as_bytes());
        }
        world.switch_off("web");
        let (image, names) = (world.image("web", 0), bitmaps(&world, 0));
        assert_eq!(names.len(), 3, "{names:?}");

        let whole = site.capture(&op("whole"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        assert!(matches!(site.changes(&whole, machine, &cursors[0]).await.unwrap(), Changes::Known(_)));
        site.release(&op("whole"), &whole, machine, Fate::Spooled).await.unwrap();
        run("qemu-img", &["bitmap", "--remove", text_of(&image), &names[1]]);
        let torn = site.capture(&op("torn"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        match site.changes(&torn, machine, &cursors[0]).await.unwrap() {
            Changes::Lost { reason } => assert!(reason.contains("bitmap"), "{reason}"),
            Changes::Known(_) => panic!("writes between the first and the third would be missing"),
        }
        assert!(matches!(site.changes(&torn, machine, &cursors[2]).await.unwrap(), Changes::Known(_)));
        site.release(&op("torn"), &torn, machine, Fate::Spooled).await.unwrap();

        // The newest of all disks, which leaves no gap that a number would show.
        let newest = torn.member(machine).unwrap().cursor.clone().unwrap();
        let before =
            site.capture(&op("newest"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        site.release(&op("newest"), &before, machine, Fate::Spooled).await.unwrap();
        for disk in 0..2 {
            let newest = bitmaps(&world, disk).pop().unwrap();
            run("qemu-img", &["bitmap", "--remove", text_of(&world.image("web", disk)), &newest]);
        }
        world.put("web", 0, 4096, b"nobody counts this");
        let after = site.capture(&op("after"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        assert!(matches!(site.changes(&after, machine, &newest).await.unwrap(), Changes::Lost { .. }));
    });
}

#[test]
fn d4_a_bitmap_that_a_broken_capture_began_on_one_disk_alone_is_no_gap() {
    on_qemu(async {
        let world = World::new().await;
        let web = world.enrolled("web").await;
        let (site, machine) = (&world.site, &web.machine);
        let first = site.capture(&op("first"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        let since = first.member(machine).unwrap().cursor.clone().unwrap();
        site.release(&op("first"), &first, machine, Fate::Sealed).await.unwrap();
        let half = json!({ "node": "d0", "name": "dr-0-2-0123456789abcdef", "persistent": true });
        world.monitor("web").unwrap().call("block-dirty-bitmap-add", half).unwrap();
        world.put("web", 0, 128 * KIB, b"written after it");

        let next = site.capture(&op("next"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        match site.changes(&next, machine, &since).await.unwrap() {
            Changes::Known(changes) => {
                let runs: Vec<Run> = changes.runs(&"root".into()).to_vec();
                assert!(runs.iter().any(|r| r.start <= 128 * KIB && 128 * KIB < r.end()), "{runs:?}");
            }
            Changes::Lost { reason } => panic!("nothing is lost: {reason}"),
        }
    });
}

#[test]
fn what_outlives_the_service_is_started_by_its_launcher() {
    on_qemu(async {
        let world = World::told(|builder, dir| {
            let launcher = dir.join("launcher");
            let log = dir.join("launched");
            fs::write(&launcher, format!("#!/bin/sh\necho \"$1\" >>{}\nexec \"$@\"\n", log.display()))
                .unwrap();
            fs::set_permissions(&launcher, fs::Permissions::from_mode(0o700)).unwrap();
            builder.launcher([launcher.display().to_string()])
        })
        .await;
        let web = world.enrolled("web").await;
        let capture =
            world.site.capture(&op("runs"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        world.site.release(&op("runs"), &capture, &web.machine, Fate::Sealed).await.unwrap();
        world.switch_off("web");
        world.site.capture(&op("off"), std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        let launched = fs::read_to_string(world.dir.path().join("launched")).unwrap();
        for program in ["qemu-system-x86_64", "/bin/sh", "qemu-storage-daemon"] {
            assert!(launched.lines().any(|l| l.ends_with(program)), "{program} is not in {launched}");
        }
    });
}
