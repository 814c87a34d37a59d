//! Two engines and one point: the one that has lost its authority neither takes the socket of the point nor removes it.

use crate::recovered::Recovered;
use crate::support::*;
use site_recovery::*;
use site_recovery_testkit::suite::{pattern, permit};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Of the engine that has claimed the machine since.
fn later(key: &str) -> Op {
    Op { epoch: Epoch { number: 2, owner: "another".into() }, ..op(key) }
}

fn socket(world: &World) -> PathBuf {
    let mut found = world.in_places("point");
    assert_eq!(found.len(), 1, "one point is served");
    found.remove(0)
}

#[test]
fn s1_an_older_engine_does_not_take_the_point_from_a_newer_one() {
    on_qemu(async {
        let world = World::told(|b, _| b.hydrate_after(Duration::from_secs(3600))).await;
        let image = vec![pattern(1, 1 << 20), pattern(2, 64 << 10)];
        let mut machine = Recovered::prepared(world, &image).await;
        let inode = || fs::metadata(socket(&machine.world)).unwrap().ino();
        let first = inode();
        let newer = machine.world.again().await;
        newer.claim(&later("claim"), &machine.armed.instance.machine).await.unwrap();
        newer.tend(&later("tend"), &machine.armed, &machine.replica).await.unwrap();
        let taken = inode();
        assert_ne!(first, taken, "the newer one does not serve the point");

        let stale = machine.tend().await.unwrap_err();
        assert_eq!(stale.kind(), ErrorKind::StaleEpoch, "{stale}");
        let again = machine.world.site.materialise(&op("materialise"), &machine.what, &machine.replica).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::StaleEpoch);
        assert_eq!(inode(), taken, "the older one took the socket");

        // The older process ends, and its own server with it.
        machine.world.site = newer;
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(
            fs::metadata(socket(&machine.world)).unwrap().ino(),
            taken,
            "its socket went with the other's"
        );
        let booting = later("boot");
        let permit =
            permit(&booting, &machine.what.machine.standing_as(machine.armed.instance.clone())).await;
        let booted = machine.world.site.boot(&booting, &machine.what, &machine.armed, permit).await.unwrap();
        assert!(booted.running);
        let found: Vec<_> = (0..2).map(|n| machine.world.content(machine.name(), n)).collect();
        assert!(found == image, "the newer one serves other bytes");
    });
}

#[test]
fn s1_a_point_whose_socket_was_taken_is_not_called_served() {
    on_qemu(async {
        let world = World::told(|b, _| b.hydrate_after(Duration::from_secs(3600))).await;
        let image = vec![pattern(1, 1 << 20), pattern(2, 64 << 10)];
        let mut machine = Recovered::prepared(world, &image).await;
        let other = machine.world.again().await;
        other.tend(&op("tend"), &machine.armed, &machine.replica).await.unwrap();
        // The other one ends, and its socket with it: what was ours before is not there any more.
        drop(other);
        until("the socket is gone", || machine.world.in_places("point").is_empty());
        machine.tend().await.unwrap();
        assert_eq!(machine.world.in_places("point").len(), 1, "it believes that it still serves the point");
        assert!(machine.boot("boot").await.running);
        let found: Vec<_> = (0..2).map(|n| machine.world.content(machine.name(), n)).collect();
        assert!(found == image);
        machine.world.site = machine.world.again().await;
    });
}
