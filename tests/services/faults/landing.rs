//! A master target that is killed while a machine lands.

use super::replicated;
use crate::hosts::{Process, peers, until};
use crate::program::*;
use crate::scene::*;
use crate::world::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_transport::RemoteMasterTarget;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often it is killed during the first copy, and then in a cycle each.
const IN_COPY: usize = 4;
const IN_CYCLES: usize = 5;

/// When it is killed, and what is written: from a seed that is printed, and that `SEED` repeats.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
        let seed = seed.unwrap_or_else(|| SystemRandom.bits());
        println!("SEED={seed}");
        Self(seed | 1)
    }

    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// Bytes that do not compress.
    fn bytes(&mut self, words: usize) -> Bytes {
        (0..words).flat_map(|_| self.next(u64::MAX).to_le_bytes()).collect()
    }
}

/// The master target, and how it is killed.
struct Killed {
    program: Program,
    runs: Option<Process>,
}

impl Killed {
    /// When its host has got so many bytes more, or `over` says that no more come; and starts it again.
    fn after(&mut self, bytes: u64, scene: &Scene, over: impl Fn() -> bool) {
        let goal = scene.landing.received() + bytes;
        until("bytes for the master target", || over() || scene.landing.received() >= goal);
        self.runs.take().unwrap().kill();
        self.runs = Some(self.program.start(&scene.landing));
    }
}

/// Protected over a master target that lands in a directory, and left to `what`.
async fn lands(label: &str, what: impl AsyncFnOnce(&mut Scene, &Vault, &ItemHandle, &RemoteMasterTarget)) {
    if !peers("services on hosts", &[]) {
        return;
    }
    let mut scene = Scene::new(label).await;
    // Its server is off from the failover on, and not waited for.
    let patience = Duration::from_secs(1);
    let keeper = scene.vaulted.keeper_that_waits(patience, &scene.server, &scene.switch());
    let process_server = Arc::new(scene.vaulted.process_server(&scene.processing, "ps-1").await);
    let landing = Arc::new(scene.vaulted.directory_target(&scene.landing));
    let vault = scene.vaulted.vault(&keeper, process_server, landing.clone()).await;
    let web = scene.protected(&vault).await;
    what(&mut scene, &vault, &web, &landing).await;
    drop((vault, web));
    scene.vaulted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_d5_a_master_target_that_is_killed_at_any_write_lands_every_point_whole() {
    lands("master-target-killed", async |scene, vault, web, landing| {
        let mut chance = Chance::new();
        web.failover(FailoverRequest::unplanned(OUT, force())).await.unwrap().done().await.unwrap();
        web.commit(CommitRequest::default()).await.unwrap().done().await.unwrap();
        let disks = scene.disk_ids();
        let there = scene.recovered(SERVER);
        let truth = || -> Vec<Vec<u8>> { there.iter().map(|image| std::fs::read(image).unwrap()).collect() };
        let cloud = scene.vaulted.cloud.clone();
        cloud.write_disk(SERVER, &disks[1], 10 * MIB, chance.bytes(1 << 20)).await.unwrap();

        let (program, runs) = scene.land_in_a_directory().await;
        let mut target = Killed { program, runs: Some(runs) };
        // Slow enough that it is killed in the middle.
        scene.landing.limit(60_000_000);
        let settings = Settings { location: Location::Alternate, ..Settings::default() };
        let request = ReprotectRequest {
            other_side_loses: true,
            settings: Some(settings),
            ..ReprotectRequest::default()
        };
        let job = web.reprotect(request.clone()).await.unwrap();
        for _ in 0..IN_COPY {
            target.after(chance.next(3 * MIB), scene, || job.state() != JobState::InProgress);
        }
        if let Err(error) = job.done().await {
            // It was away more often than a step is tried.
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            web.reprotect(request).await.unwrap().done().await.unwrap();
        }

        let mut acknowledged: BTreeMap<PointId, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..IN_CYCLES {
            for disk in &disks {
                for _ in 0..4 {
                    let at = chance.next(24 * MIB / 512) * 512;
                    cloud.write_disk(SERVER, disk, at, chance.bytes(1 << 15)).await.unwrap();
                }
            }
            let cycle = cycle(vault, web);
            target.after(chance.next(2 * MIB), scene, || cycle.is_finished());
            if cycle.await.unwrap().is_err() {
                replicated(vault, web).await;
            }
            let newest = landing.points(web.id()).await.unwrap().pop().unwrap();
            acknowledged.insert(newest.id, truth());
        }
        scene.landing.unlimited();

        // All that was acknowledged is there, each as it was then; and the newest stands on the disks that it landed on.
        let listed: Vec<PointId> =
            landing.points(web.id()).await.unwrap().iter().map(|point| point.id).collect();
        for (point, expected) in &acknowledged {
            assert!(listed.contains(point), "{point} is gone from {listed:?}");
            let open = landing.open(web.id(), *point).await.unwrap();
            for (id, expected) in disks.iter().zip(expected) {
                assert!(whole(&open[id]).await == *expected, "{id} of {point}");
            }
        }
        must_be(&landed_disks(scene), &truth(), "what landed");
        drop(target);
    })
    .await;
}

/// The disks of the one machine that landed, as they lie there, in the scene's order.
fn landed_disks(scene: &Scene) -> Vec<Vec<u8>> {
    let mut machines: Vec<PathBuf> =
        std::fs::read_dir(scene.landed()).unwrap().map(|entry| entry.unwrap().path()).collect();
    machines.retain(|path| path.join("machine.json").exists());
    let [machine] = &machines[..] else { panic!("{machines:?}") };
    scene.images_in(machine).iter().map(|image| std::fs::read(image).unwrap()).collect()
}
