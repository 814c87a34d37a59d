//! An engine that was cut off, and comes back when another one is in charge.

use super::still;
use crate::hosts::{Line, until};
use crate::scene::*;
use crate::world::*;
use site_recovery::*;
use site_recovery_journal::SqliteJournal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_c2_an_engine_that_comes_back_after_a_partition_writes_nothing_by_any_service() {
    still("partitioned-engine", async |scene, _, web| {
        let (_program, _runs) = scene.land_in_a_directory().await;
        let landing = Arc::new(scene.vaulted.directory_target(&scene.landing));
        let keeper = scene.vaulted.keeper(&scene.server, &scene.switch());

        // The engine that will be cut off, by a line of its own.
        let straight = SocketAddr::new(scene.processing.ip().into(), PORT);
        let line = Line::open(SocketAddr::new(scene.ground.ip().into(), 0), straight);
        let far = Arc::new(scene.vaulted.process_server_at(line.address(), "ps-1").await);
        let old = scene.vaulted.vault(&keeper, far, landing.clone()).await;
        let late = old.item(web.id()).unwrap();
        scene.write(1, 8 * MIB, &random(8 * MIB));
        scene.processing.limit(8_000_000);
        let read = scene.processing.received();
        let cycle = cycle(&old, &late);
        until("a mebibyte is read", || scene.processing.received() > read + MIB);
        line.pause();

        // Another one takes over, from what the store knows.
        let old_near = scene.vaulted.process_server(&scene.processing, "ps-1").await;
        let old_agent = scene.vaulted.agent(&scene.server);
        scene.vaulted.speak_for("dr-2").await;
        let near = Arc::new(scene.vaulted.process_server(&scene.processing, "ps-1").await);
        let new_landing = Arc::new(scene.vaulted.directory_target(&scene.landing));
        let new_keeper = scene.vaulted.keeper(&scene.server, &scene.switch());
        let journal = Arc::new(SqliteJournal::in_memory().await.unwrap());
        let new = scene.vaulted.builder(&new_keeper, near, new_landing).await;
        let new = new.journal(journal).engine_id("dr-2".into()).build().await.unwrap();
        let before = scene.vaulted.points.points(web.id()).await.unwrap().len();
        let adopted = new.adopt("out").await.unwrap();
        assert_eq!((adopted.machines, adopted.questions), (vec![web.id().clone()], vec![]));
        scene.processing.unlimited();
        new.replicate_now(web.id()).await.unwrap();
        let after = scene.world();

        // What the old one had under way came to nothing, and what it asks for now is refused by all.
        line.resume();
        let error = cycle.await.unwrap().expect_err("its authority is over");
        assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error:?}");
        let error = old.replicate_now(web.id()).await.expect_err("its authority is over");
        assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error:?}");
        let item = late.item().unwrap();
        let (op, id, active) = (item.op("late"), item.id(), item.active());
        let store: Arc<dyn Replica> = scene.vaulted.points.clone();
        let newest = scene.newest(web).await;
        let refused = [
            (
                "agent",
                old_agent.capture(&op, std::slice::from_ref(active), Consistency::Crash).await.map(drop),
            ),
            ("agent", old_agent.sweep(&op, active, &[]).await.map(drop)),
            ("agent", old_agent.claim(&op, id).await),
            ("process server", old_near.drain(&op, id, &store).await.map(drop)),
            ("process server", old_near.claim(&op, id).await),
            ("store", store.prune(&op, id, &[newest]).await.map(drop)),
            (
                "store",
                store.begin(&op, &item.machine, &CutId("late".into()), &ChangeSet::new()).await.map(drop),
            ),
            ("master target", landing.prepare(&op, &item.machine, &Seed::Fresh, &Settings::default()).await),
            ("master target", landing.claim(&op, id).await),
            ("keeper", keeper.fence(&op, active, SOON).await),
        ];
        for (who, refused) in refused {
            assert_eq!(refused.expect_err(who).kind(), ErrorKind::StaleEpoch, "{who}");
        }
        for _ in 0..3 {
            // However often it is asked to: it does not climb over the other one.
            let error = late.test_failover(DrillRequest::default()).await.expect_err("its authority is over");
            assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error:?}");
        }
        assert!(scene.world() == after, "somebody did something all the same");

        // One point, of the new one, with every byte.
        let points = scene.vaulted.points.points(web.id()).await.unwrap();
        assert_eq!(points.len(), before + 1);
        let manifest = scene.vaulted.points.manifest(web.id(), newest).await.unwrap();
        assert_eq!(manifest.control.item.epoch.owner, "dr-2".into());
        must_be(&scene.bytes_of(web, newest).await, &scene.bytes(), "the newest point");
        new.replicate_now(web.id()).await.unwrap();
    })
    .await;
}

/// Bytes that do not compress.
fn random(count: u64) -> Vec<u8> {
    (0..count / 8).flat_map(|_| SystemRandom.bits().to_le_bytes()).collect()
}

impl Scene {
    /// Every file that could be changed: of the store, the agent, the process server's spool, the master target.
    fn world(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for dir in ["vault/points", "agent/captures", "ps-1-spool", "retention", "store0/landing"] {
            collect(&self.ground.dir().join(dir), &mut files);
        }
        files
    }
}

fn collect(path: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    if path.is_dir() {
        into.insert(path.to_owned(), vec![]);
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), into);
        }
    } else if path.exists() {
        into.insert(path.to_owned(), std::fs::read(path).unwrap());
    }
}
