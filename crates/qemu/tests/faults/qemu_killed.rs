//! QEMU, or the storage daemon, is killed: what was asked of it fails, the machine is off, and the next call goes on from
//! what is on the disks.

use crate::landed::{Landed, turns_off};
use crate::protected::*;
use crate::recovered::Recovered;
use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_testkit::clock::SeededRandom;
use site_recovery_testkit::suite::pattern;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const AT_MOST: Duration = Duration::from_secs(15);

/// No image is corrupt. Clusters that nobody refers to are no harm (3).
fn images_are_sound(world: &World, name: &str) {
    for disk in 0..2 {
        let image = world.image(name, disk);
        let checked =
            Command::new("qemu-img").args(["check", "-q", "-f", "qcow2", text_of(&image)]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(matches!(checked.status.code(), Some(0 | 3)), "{}: {said}", image.display());
    }
}

fn random() -> SeededRandom {
    let seed = std::env::var("SITE_RECOVERY_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SITE_RECOVERY_SEED={seed}");
    SeededRandom::new(seed)
}

/// Kills a process after a while, whatever else happens meanwhile.
fn kill_later(file: &Path, after: Duration) -> std::thread::JoinHandle<()> {
    let pid = pid(file).unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(after);
        kill(pid);
    })
}

#[test]
fn d4_killed_while_a_capture_is_read_the_read_fails_and_tracking_is_lost() {
    on_qemu(async {
        let protected = Protected::running_in(World::new().await).await;
        let world = &protected.world;
        let first = protected.seal("first").await;
        let capture = protected.capture("capture").await.unwrap();
        let disks = protected.disks("capture", &capture).await.unwrap();
        let pool = Pool::new(1 << 20);
        disks[1].read(Run::new(0, 4096), &pool).await.unwrap();

        world.kill("web");
        let error = disks[1].read(Run::new(8192, 4096), &pool).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(turns_off(protected.site(), &protected.instance).await, StartGuard::Free);
        for key in ["capture", "again"] {
            let error = protected.disks(key, &capture).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        images_are_sound(world, "web");

        // Off as it is, it is captured anew under the same key.
        let off = protected.capture("capture").await.unwrap();
        assert!(protected.image("capture", &off).await.unwrap() == protected.truth());
        assert!(
            matches!(protected.changes(&off, &first).await, Changes::Lost { .. }),
            "a kill keeps no bitmap"
        );
        protected.release("capture", &off, Fate::Abandoned).await.unwrap();

        protected.site().power_on("web").await.unwrap();
        protected.is_as_before();
        assert!(protected.seal_delta("second", &first).await.is_none(), "a kill keeps no bitmap");
        let third = protected.seal("third").await;
        world.put("web", 0, 0, b"tracked again");
        protected.seal_delta("fourth", &third).await.expect("tracked again");
    });
}

#[test]
fn o1_killed_at_any_moment_of_a_capture_it_fails_and_the_next_one_is_right() {
    on_qemu(async {
        let random = random();
        let protected = Protected::running_in(World::new().await).await;
        let world = &protected.world;
        let (begun, mut failed, mut rounds) = (now(), 0, 0);
        while rounds < 12 && (begun.elapsed() < AT_MOST || failed == 0) {
            rounds += 1;
            let first = protected.seal(&format!("first {rounds}")).await;
            let killer =
                kill_later(&world.place("web").join("pid"), Duration::from_millis(random.below(200)));
            let key = format!("killed {rounds}");
            let mut errors = vec![];
            // Captures one after the other, until it is dead: some end in the middle.
            while world.place("web").join("pid").exists() && errors.is_empty() && !killer.is_finished() {
                match protected.capture(&key).await {
                    Err(error) => errors.push(error),
                    Ok(capture) => match protected.image(&key, &capture).await {
                        Err(error) => errors.push(error),
                        Ok(_) => errors.extend(protected.release(&key, &capture, Fate::Spooled).await.err()),
                    },
                }
            }
            killer.join().unwrap();
            for error in &errors {
                let kinds = [ErrorKind::Unavailable, ErrorKind::NotFound];
                assert!(kinds.contains(&error.kind()), "{error}");
                failed += 1;
            }
            until("it is off", || pid(&world.place("web").join("pid")).is_none());
            assert_eq!(turns_off(protected.site(), &protected.instance).await, StartGuard::Free);
            protected.site().sweep(&op("sweep"), &protected.instance, &[]).await.unwrap();
            assert_eq!(world.captures("web"), 0, "something of a capture is left");
            images_are_sound(world, "web");
            protected.site().power_on("web").await.unwrap();
            protected.is_as_before();
            assert!(
                protected.seal_delta(&format!("next {rounds}"), &first).await.is_none(),
                "a kill keeps no bitmap"
            );
        }
        println!("killed {rounds} times, {failed} times inside a capture");
        assert!(failed > 0, "it was never killed inside a capture");
    });
}

#[test]
fn d5_killed_while_it_hydrates_it_is_off_and_hydrates_to_the_end_after_its_next_start() {
    on_qemu(async {
        let world = World::told(|b, _| b.hydration_speed(512 * KIB)).await;
        let image = vec![pattern(1, 4 << 20), pattern(2, 2 << 20)];
        let machine = Recovered::prepared(world, &image).await;
        assert!(machine.boot("boot").await.running);
        let (world, name) = (&machine.world, machine.name());
        world.put(name, 1, 4096, &pattern(3, 4096));
        let expected: Vec<_> = (0..2).map(|n| world.content(name, n)).collect();
        machine.tend().await.unwrap();
        let error = world.site.settle(&op("settle"), &machine.armed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "it was to be killed in the middle: {error}");

        world.kill(name);
        assert_eq!(turns_off(&world.site, &machine.armed.instance).await, StartGuard::Free);
        machine.tend().await.unwrap();
        assert!(!world.is_on(name), "tend starts nothing");
        let again = machine.boot("boot").await;
        assert!(!again.running, "what has run under a key is not started by it again");

        assert!(machine.boot("boot again").await.running);
        let found: Vec<_> = (0..2).map(|n| world.content(name, n)).collect();
        assert!(found == expected, "what the guest had flushed, or its point, is gone");
        machine.settle().await;
        let found: Vec<_> = (0..2).map(|n| world.content(name, n)).collect();
        assert!(found == expected, "hydration has changed what the guest sees");

        // What it wrote since it was armed is not known any more.
        let of = std::slice::from_ref(&machine.armed.instance);
        let capture = world.site.capture(&op("capture"), of, Consistency::Crash).await.unwrap();
        let since = machine.armed.cursor.as_ref().unwrap();
        let changes = world.site.changes(&capture, &machine.armed.instance.machine, since).await.unwrap();
        assert!(matches!(changes, Changes::Lost { .. }), "a kill keeps no bitmap: {changes:?}");
        world.switch_off(name);
        images_are_sound(world, name);
    });
}

#[test]
fn d5_the_storage_daemon_is_killed_and_what_was_flushed_is_on_the_landing_disk() {
    on_qemu(async {
        let landed = Landed::attached().await;
        let disk = landed.disk(1).await.unwrap();
        let flushed = pattern(1, 64 * KIB as usize);
        disk.write(0, Bytes::from(flushed.clone())).await.unwrap();
        disk.flush().await.unwrap();
        let daemon = std::fs::read_dir(landed.world.path(".site-recovery/run")).unwrap();
        let daemon = daemon.map(|e| e.unwrap().path().join("s-pid")).find(|p| pid(p).is_some()).unwrap();
        let killer = kill_later(&daemon, Duration::from_millis(20));
        let mut written = 0_u64;
        let error = loop {
            let at = 128 * KIB + written % 8 * 64 * KIB;
            match disk.write(at, Bytes::from(pattern(written, 64 * KIB as usize))).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        killer.join().unwrap();
        println!("killed after {written} writes");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        until("the daemon is over", || pid(&daemon).is_none());
        assert_eq!(
            disk.flush().await.unwrap_err().kind(),
            ErrorKind::Unavailable,
            "nothing is promised any more"
        );
        let start = turns_off(&landed.world.site, &landed.instance).await;
        assert!(matches!(start, StartGuard::Blocked { .. }), "{start:?}");
        images_are_sound(&landed.world, "web");
        assert!(landed.world.content("web", 1)[..flushed.len()] == flushed, "what was flushed is gone");

        let disk = landed.disk(1).await.unwrap();
        disk.write(64 * KIB, Bytes::from(pattern(9, 4096))).await.unwrap();
        disk.flush().await.unwrap();
        drop(disk);
        landed.world.site.detach(&op("detach"), &landed.instance).await.unwrap();
        assert!(landed.start("start").await.running);
        let content = landed.world.content("web", 1);
        assert!(content[64 * KIB as usize..][..4096] == pattern(9, 4096));
        landed.world.switch_off("web");
        images_are_sound(&landed.world, "web");
    });
}

#[test]
fn d6_killed_while_a_branch_is_merged_every_byte_is_there_and_the_repeat_ends_it() {
    on_qemu(async {
        let (random, begun) = (random(), now());
        let landed = Landed::attached().await;
        let (world, site) = (&landed.world, &landed.world.site);
        // How long a merge takes is this machine's business: the next kill comes while the last one would have run.
        let (mut rounds, mut inside, mut within) = (0, 0, 250_000);
        while rounds < 10 && begun.elapsed() < AT_MOST || inside == 0 && rounds < 40 {
            rounds += 1;
            let key = |what: &str| op(&format!("{what} {rounds}"));
            let again = Some(landed.machine.instance.clone());
            site.attach(&key("attach"), &landed.machine, again, &Settings::default()).await.unwrap();
            site.branch(&key("branch"), &landed.instance).await.unwrap();
            site.detach(&key("detach"), &landed.instance).await.unwrap();
            assert!(landed.start(&format!("start {rounds}")).await.running);
            for at in 0..8 {
                world.put("web", 1, at * 64 * KIB, &pattern(rounds * 100 + at, 64 * KIB as usize));
                world.put("web", 0, at * 16 * KIB, &pattern(rounds * 100 + at, 16 * KIB as usize));
            }
            let expected = landed.truth();
            let killer =
                kill_later(&world.place("web").join("pid"), Duration::from_micros(random.below(within)));
            let asked = now();
            let merged = landed.merge(&format!("merge {rounds}")).await;
            let took = asked.elapsed();
            killer.join().unwrap();
            until("it is off", || pid(&world.place("web").join("pid")).is_none());
            match merged {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    inside += 1;
                }
                Ok(_) => within = took.as_micros().clamp(1_000, 250_000) as u64,
            }
            assert_eq!(turns_off(site, &landed.instance).await, StartGuard::Free);
            assert!(landed.truth() == expected, "round {rounds}: a byte that was flushed is gone");

            landed.merge(&format!("merge {rounds}")).await.unwrap();
            assert!(
                !world.image("web", 0).to_string_lossy().ends_with(".branch"),
                "the branch is still there"
            );
            assert!(landed.truth() == expected, "round {rounds}: the merge has lost a byte");
            images_are_sound(world, "web");
            assert!(landed.start(&format!("start again {rounds}")).await.running);
            assert!(landed.truth() == expected);
            site.stop(&key("stop"), &landed.instance, Duration::ZERO).await.unwrap();
        }
        println!("killed {rounds} times, {inside} times inside a merge");
        assert!(inside > 0, "it was never killed inside a merge");
    });
}
