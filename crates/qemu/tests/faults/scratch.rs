//! The scratch fails: the capture breaks, and the guest does not notice.

use crate::mounted::Mounted;
use crate::protected::*;
use crate::support::*;
use site_recovery::*;
use site_recovery_testkit::suite::pattern;
use std::time::Duration;

const CLUSTER: usize = 64 * KIB as usize;

/// What the library reads of a capture piece by piece: what stood there, or an error. Says how many pieces it got.
async fn never_wrong(disk: &std::sync::Arc<dyn Disk>, expected: &[u8]) -> (usize, Vec<Error>) {
    let (pool, mut got, mut errors) = (Pool::new(4 << 20), 0, vec![]);
    for piece in Run::new(0, disk.size()).pieces(CLUSTER as u64) {
        match disk.read(piece, &pool).await {
            Ok(bytes) => {
                assert!(
                    bytes == expected[piece.start as usize..piece.end() as usize],
                    "wrong bytes at {piece:?}"
                );
                got += 1;
            }
            Err(e) => errors.push(e),
        }
    }
    (got, errors)
}

/// The guest writes everywhere on its data disk.
fn overwrite(world: &World, seed: u64) {
    for at in (0..DATA as usize - CLUSTER).step_by(CLUSTER) {
        world.put("web", 1, at as u64, &pattern(seed + at as u64, CLUSTER));
    }
}

#[test]
fn s1_a_full_scratch_breaks_the_capture_and_not_the_guest() {
    on_qemu(async {
        let world = World::told(|b, dir| b.scratch(dir.join("scratch"))).await;
        let Some(scratch) = Mounted::small(&world.dir.path().join("scratch"), 256) else { return };
        let protected = Protected::running_in(world).await;
        let world = &protected.world;
        overwrite(world, 1000);
        let first = protected.seal("first").await;
        world.put("web", 1, 0, &pattern(1, CLUSTER));
        let broken = protected.capture("broken").await.unwrap();
        let at_the_cut = protected.truth();
        let disks = protected.disks("broken", &broken).await.unwrap();

        overwrite(world, 2000);
        assert!(world.is_on("web"), "the guest was paused");

        let (_, errors) = never_wrong(&disks[1], &at_the_cut[1]).await;
        assert!(!errors.is_empty(), "a capture that is broken was read");
        let system = never_wrong(&disks[0], &at_the_cut[0]).await;
        assert!(system.1.is_empty(), "the other disk's capture stands: {:?}", system.1);

        protected.release("broken", &broken, Fate::Abandoned).await.unwrap();
        protected.is_as_before();
        assert_eq!(scratch.files(), 0, "the scratch was not removed");
        protected.seal_delta("next", &first).await.expect("tracking was kept");
    });
}

#[test]
fn s1_a_scratch_without_any_room_fails_the_capture_before_the_guest_is_touched() {
    on_qemu(async {
        let world = World::told(|b, dir| b.scratch(dir.join("scratch"))).await;
        let Some(scratch) = Mounted::small(&world.dir.path().join("scratch"), 64) else { return };
        let protected = Protected::running_in(world).await;
        let first = protected.seal("first").await;
        // Something else has filled it, to the last inode.
        run("mount", &["-o", "remount,nr_inodes=1", text_of(&protected.world.dir.path().join("scratch"))]);
        let error = protected.capture("no room").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
        protected.is_as_before();
        run("mount", &["-o", "remount,nr_inodes=100", text_of(&protected.world.dir.path().join("scratch"))]);
        assert_eq!(scratch.files(), 0);
        protected.seal_delta("next", &first).await.expect("tracking was kept");
    });
}

#[test]
fn s1_a_scratch_that_hangs_holds_up_the_guest_no_longer_than_its_limit() {
    on_qemu(async {
        let world =
            World::told(|b, dir| b.scratch(dir.join("scratch")).scratch_limit(Duration::from_secs(1))).await;
        let Some(scratch) = Mounted::apart(&world.dir.path().join("scratch")) else { return };
        let protected = Protected::running_in(world).await;
        let world = &protected.world;
        overwrite(world, 1000);
        let first = protected.seal("first").await;
        let broken = protected.capture("broken").await.unwrap();
        let at_the_cut = protected.truth();
        let disks = protected.disks("broken", &broken).await.unwrap();

        let hanging = scratch.hang();
        let begun = now();
        world.put("web", 1, 0, &pattern(1, CLUSTER));
        let waited = begun.elapsed();
        println!("the guest's write took {waited:?}");
        assert!(waited < Duration::from_secs(10), "the guest waited {waited:?} for the scratch");
        let begun = now();
        overwrite(world, 2000);
        println!("all others took {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(10), "it went on waiting after the capture was broken");
        assert!(world.is_on("web"));
        // QEMU would stand still in every change of its nodes, the guest with it. So it is said, and nothing is touched.
        for asked in ["release", "capture", "sweep"] {
            let begun = now();
            let answer = match asked {
                "release" => protected.release("broken", &broken, Fate::Abandoned).await,
                "capture" => protected.capture("next").await.map(drop),
                _ => protected.site().sweep(&op("sweep"), &protected.instance, &[]).await.map(drop),
            };
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{asked}: {error}");
            assert!(error.message().contains("mend that file system"), "{asked}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{asked} took {:?}", begun.elapsed());
            overwrite(world, 3000 + asked.len() as u64);
        }
        assert!(world.is_on("web"));
        drop(hanging);

        let (_, errors) = never_wrong(&disks[1], &at_the_cut[1]).await;
        assert!(!errors.is_empty(), "a capture that is broken was read");
        protected.release("broken", &broken, Fate::Abandoned).await.unwrap();
        protected.is_as_before();
        protected.seal_delta("next", &first).await.expect("tracking was kept");
    });
}
