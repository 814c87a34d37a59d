//! Seeded random writes against what the source calls changed. `SEED=<n> cargo test --test changes` replays one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use site_recovery::*;
use std::collections::BTreeMap;
use std::slice::from_ref;
use support::*;

#[tokio::test]
async fn d4_a_delta_holds_every_change_of_random_writes() {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=12).collect(),
    };
    for seed in seeds {
        println!("SEED={seed}");
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let world = World::new();
        let web = world.enrolled("web").await;
        world.site.switch_on("web").await.unwrap();
        // What a replica holds: the last sealed capture, which the next delta alone makes the next one.
        let mut replica = BTreeMap::new();
        let mut cursor: Option<Cursor> = None;
        for round in 0..5 {
            for _ in 0..rng.next(6) {
                let (disk, size) = [("root", ROOT), ("data", DATA)][rng.next(2) as usize];
                let at = rng.next(size);
                let len = rng.next(100_000.min(size - at)) as usize + 1;
                let len = len.min((size - at) as usize);
                // Also bytes that are the same as before, and zeros.
                let bytes = if rng.next(4) == 0 { vec![0; len] } else { rng.bytes(len) };
                world.site.write_disk("web", &disk.into(), at, Bytes::from(bytes)).await.unwrap();
            }
            let site = if rng.next(2) == 0 { world.site.clone() } else { world.again() };
            let capture =
                site.capture(&op(&format!("c{round}")), from_ref(&web), Consistency::Crash).await.unwrap();
            let now = image(&site, &capture, &web).await;
            let next = capture.members[0].cursor.clone();
            if let Some(since) = &cursor {
                let set = known(site.changes(&capture, &web.machine, since).await.unwrap());
                let mut patched: BTreeMap<DiskId, Vec<u8>> = replica.clone();
                for (disk, runs) in set.disks() {
                    let held = patched.get_mut(disk).unwrap();
                    for run in runs {
                        let range = run.start as usize..run.end() as usize;
                        held[range.clone()].copy_from_slice(&now[disk][range]);
                    }
                }
                assert!(patched == now, "seed {seed}, round {round}: a change was not told");
            }
            // Sometimes a capture never becomes a point, and the next delta starts where the last one did.
            let fate = [Fate::Sealed, Fate::Spooled, Fate::Abandoned][rng.next(3) as usize];
            site.release(&op(&format!("r{round}")), &capture, &web.machine, fate).await.unwrap();
            if fate == Fate::Sealed || cursor.is_none() {
                site.release(&op(&format!("r{round}")), &capture, &web.machine, Fate::Sealed).await.unwrap();
                (cursor, replica) = (next, now);
            }
        }
    }
}
