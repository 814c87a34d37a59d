//! Hydration that cannot go on is told, and begun again by the next call; what is wanted first is there before anything
//! boots.
//!
//! Images fail by QEMU's own `blkdebug`, which a script puts below each of them while a file says which error.

use crate::recovered::{Recovered, Sealed};
use crate::support::*;
use site_recovery::*;
use site_recovery_qemu::{Programs, QemuSiteBuilder, Restore};
use site_recovery_testkit::suite::pattern;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const SCRIPT: &str = r#"#!/bin/sh
if [ -e "$0.fails" ]; then
    rule=$(cat "$0.fails")
    for word; do
        shift
        word=$(printf '%s' "$word" |
            sed 's|"file":\({[^}]*}\)|"file":{"driver":"blkdebug","inject-error":['"$rule"'],"image":\1}|')
        set -- "$@" "$word"
    done
fi
exec PROGRAM "$@"
"#;
const SYSTEM: &str = "qemu-system-x86_64";
const DAEMON: &str = "qemu-storage-daemon";

/// A disk that is full once it is written, and has room again after it was told.
const FULL_ONCE: &str = r#"{"event":"write_aio","iotype":"write","errno":28,"once":true}"#;
/// A disk that is full for good.
const FULL: &str = r#"{"event":"write_aio","iotype":"write","errno":28}"#;
/// A disk that cannot be written for good.
const BROKEN: &str = r#"{"event":"write_aio","iotype":"write","errno":5}"#;

fn scripted(builder: QemuSiteBuilder, dir: &Path) -> QemuSiteBuilder {
    for program in [SYSTEM, DAEMON] {
        let path = dir.join(program);
        fs::write(&path, SCRIPT.replace("PROGRAM", program)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    builder.programs(Programs {
        system: dir.join(SYSTEM),
        storage_daemon: dir.join(DAEMON),
        ..Programs::default()
    })
}

/// What this program opens from here on fails so.
fn fails(world: &World, program: &str, rule: &str) {
    fs::write(world.dir.path().join(format!("{program}.fails")), rule).unwrap();
}

fn works(world: &World, program: &str) {
    fs::remove_file(world.dir.path().join(format!("{program}.fails"))).unwrap();
}

fn image() -> Vec<Vec<u8>> {
    vec![pattern(1, 1 << 20), pattern(2, 300 << 10)]
}

fn contents(world: &World, name: &str) -> Vec<Vec<u8>> {
    (0..2).map(|n| world.content(name, n)).collect()
}

fn stands_alone(world: &World, name: &str) -> bool {
    (0..2).all(|n| {
        let image = world.image(name, n);
        !run_for("qemu-img", &["info", "-U", "--output=json", text_of(&image)]).contains("backing-filename")
    })
}

/// Asks until it is answered, and counts how often there was no room meanwhile.
async fn counting_full<T, C: Future<Output = Result<T>>>(what: &str, ask: impl Fn() -> C) -> (T, u32) {
    for full in 0..10 {
        match answered(what, &ask).await {
            Ok(done) => return (done, full),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{what}: {error}");
                assert!(error.fact("image").is_some(), "{what}: which image? {error:?}");
            }
        }
    }
    panic!("{what}: there is never room");
}

/// Takes the machine's power, as the engine does before it sets it aside.
async fn fenced(machine: &Recovered) {
    let site = &machine.world.site;
    site.fence(&op("fence"), &machine.armed.instance, Duration::ZERO).await.unwrap();
}

#[test]
fn d6_restored_first_it_stands_alone_and_needs_no_replica_to_boot() {
    on_qemu(async {
        let world = World::told(|b, _| b.restore(Restore::First)).await;
        let mut machine = Recovered::prepared(world, &image()).await;
        assert!(stands_alone(&machine.world, machine.name()), "it still reads from its point");
        assert!(contents(&machine.world, machine.name()) == image(), "it is not the point");
        assert_eq!(machine.world.in_places("point").len(), 0, "the point is still served");
        assert_eq!(
            machine.world.in_places("s-qmp").iter().filter(|s| is_served(s)).count(),
            0,
            "a daemon is left"
        );
        // Another process boots it, which serves nothing.
        machine.world.site = machine.world.again().await;
        assert!(machine.boot("boot").await.running);
        assert!(contents(&machine.world, machine.name()) == image());
        machine.world.site.settle(&op("settle"), &machine.armed).await.unwrap();
    });
}

fn is_served(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[test]
fn d6_restored_first_without_room_it_says_so_and_goes_on_when_there_is_some() {
    on_qemu(async {
        let world = World::told(|b, dir| scripted(b, dir).restore(Restore::First)).await;
        fails(&world, DAEMON, FULL);
        let sealed = Sealed::of(world, &image()).await;
        for _ in 0..2 {
            let error = sealed.materialise().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
        }
        works(&sealed.world, DAEMON);
        for file in sealed.world.in_places("s-pid") {
            if let Some(left) = pid(&file) {
                kill(left);
                until("the daemon is over", || pid(&file).is_none());
            }
        }
        let machine = sealed.prepared().await;
        assert!(stands_alone(&machine.world, machine.name()), "it still reads from its point");
        assert!(contents(&machine.world, machine.name()) == image(), "it is not the point");
    });
}

#[test]
fn sit8_settle_says_that_there_is_no_room_and_ends_when_there_is_some() {
    on_qemu(async {
        let world = World::told(scripted).await;
        let machine = Recovered::prepared(world, &image()).await;
        fails(&machine.world, SYSTEM, FULL_ONCE);
        assert!(machine.boot("boot").await.running);
        let settle = || async { machine.world.site.settle(&op("settle"), &machine.armed).await };
        let ((), full) = counting_full("settle", settle).await;
        assert!(full > 0, "it was never told that there is no room");
        assert!(machine.world.is_on(machine.name()), "the guest stands still");
        assert!(stands_alone(&machine.world, machine.name()));
        assert!(contents(&machine.world, machine.name()) == image());
    });
}

#[test]
fn sit8_settle_says_that_an_image_cannot_be_written_and_does_not_try_for_ever() {
    on_qemu(async {
        let world = World::told(scripted).await;
        let machine = Recovered::prepared(world, &image()).await;
        fails(&machine.world, SYSTEM, BROKEN);
        assert!(machine.boot("boot").await.running);
        for _ in 0..2 {
            let settle = || async { machine.world.site.settle(&op("settle"), &machine.armed).await };
            let error = answered("settle", settle).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(machine.world.is_on(machine.name()), "the guest stands still");
        }
        assert!(contents(&machine.world, machine.name()) == image());
    });
}

#[test]
fn sit9_set_aside_says_that_there_is_no_room_and_ends_when_there_is_some() {
    on_qemu(async {
        let world = World::told(scripted).await;
        let machine = Recovered::prepared(world, &image()).await;
        assert!(machine.boot("boot").await.running);
        machine.world.put(machine.name(), 1, 64 * KIB, &pattern(3, 4096));
        let truth = contents(&machine.world, machine.name());
        fenced(&machine).await;
        fails(&machine.world, DAEMON, FULL_ONCE);
        let aside = || async { machine.world.site.set_aside(&op("aside"), &machine.armed.instance).await };
        let (kept, full) = counting_full("set aside", aside).await;
        assert!(full > 0, "it was never told that there is no room");
        assert!(stands_alone(&machine.world, &kept.name), "what is kept still reads from its point");
        assert!(contents(&machine.world, &kept.name) == truth, "what the machine wrote is lost");
    });
}

#[test]
fn sit9_while_it_is_set_aside_others_have_their_turn() {
    on_qemu(async {
        let world =
            World::told(|b, _| b.hydrate_after(Duration::from_secs(3600)).hydration_speed(64 * KIB)).await;
        let machine = Recovered::prepared(world, &vec![pattern(1, 4 << 20), pattern(2, 64 << 10)]).await;
        assert!(machine.boot("boot").await.running);
        fenced(&machine).await;
        let site = &machine.world.site;
        for _ in 0..2 {
            let begun = now();
            let error = site.set_aside(&op("aside"), &machine.armed.instance).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy, "it was to be asked in the middle: {error}");
            assert!(error.fact("done").is_some() && error.fact("of").is_some(), "no progress: {error:?}");
            assert!(begun.elapsed() < Duration::from_secs(20), "it was held up");
        }
        // By whoever comes next, and nothing stands in its way.
        let later = Op { epoch: Epoch { number: 2, owner: "another".into() }, ..op("claim") };
        site.claim(&later, &machine.armed.instance.machine).await.unwrap();
        let error = site.set_aside(&op("aside"), &machine.armed.instance).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error}");
    });
}

#[test]
fn d1_a_machine_that_hydrates_is_captured_whole_and_goes_on_hydrating() {
    on_qemu(async {
        let world = World::told(|b, _| b.hydration_speed(64 * KIB)).await;
        let truth = vec![pattern(1, 4 << 20), pattern(2, 64 << 10)];
        let mut machine = Recovered::prepared(world, &truth).await;
        assert!(machine.boot("boot").await.running);
        machine.tend().await.unwrap();
        let site = machine.world.site.clone();
        let busy = site.settle(&op("settle"), &machine.armed).await.unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Busy, "it hydrates: {busy}");
        machine.world.put(machine.name(), 0, 64 * KIB, &pattern(3, 4096));
        let mut then = truth;
        then[0][64 << 10..][..4096].copy_from_slice(&pattern(3, 4096));

        let (key, web) = (op("capture"), machine.armed.instance.clone());
        let capture = site.capture(&key, std::slice::from_ref(&web), Consistency::Crash).await.unwrap();
        let mut monitor = machine.world.monitor(machine.name()).unwrap();
        let jobs = monitor.call("query-block-jobs", serde_json::Value::Null).unwrap();
        drop(monitor);
        assert_eq!(
            jobs.as_array().map(Vec::len),
            Some(0),
            "a stream takes the filter's place when it ends: {jobs}"
        );
        // Neither the guest nor what hydration would copy is in it.
        machine.world.put(machine.name(), 0, 0, &pattern(4, 4096));
        let held = site.settle(&op("settle"), &machine.armed).await.unwrap_err();
        assert_eq!(held.kind(), ErrorKind::Busy, "{held}");
        let disks = site.disks(&key, &capture, &web.machine).await.unwrap();
        let specs: Vec<_> = capture.member(&web.machine).unwrap().machine.included().cloned().collect();
        for (spec, then) in specs.iter().zip(&then) {
            let read = disks[&spec.id].read(Run::new(0, spec.size), &Pool::new(8 << 20)).await.unwrap();
            assert!(read[..] == then[..], "{} is not as it stood", spec.id);
        }
        drop(disks);
        site.release(&key, &capture, &web.machine, Fate::Sealed).await.unwrap();

        then[0][..4096].copy_from_slice(&pattern(4, 4096));
        drop(site);
        // One that copies as fast as it can.
        machine.world.site = builder(&machine.world.root()).open().await.unwrap();
        machine.tend().await.unwrap();
        machine.settle().await;
        assert!(stands_alone(&machine.world, machine.name()));
        assert!(contents(&machine.world, machine.name()) == then);
    });
}
