//! The shared rules of replicas and of stores, on a directory.

use async_trait::async_trait;
use site_recovery::{Machine, OpKey, PointId, RecoveryPointStore, Replica, SystemClock};
use site_recovery_points::Points;
use site_recovery_testkit::suite::{replica::ReplicaFixture, store::StoreFixture};
use std::path::PathBuf;
use std::sync::Arc;

struct Directory {
    dir: tempfile::TempDir,
    points: Arc<Points>,
}

fn opened(dir: &tempfile::TempDir) -> Arc<Points> {
    let points = Points::directory("store".into(), dir.path(), Arc::new(SystemClock));
    Arc::new(points.expect("a directory"))
}

fn sorted(path: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).expect("a directory");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[async_trait]
impl ReplicaFixture for Directory {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let points = opened(&dir);
        Self { dir, points }
    }

    fn replica(&self) -> Arc<dyn Replica> {
        Arc::clone(&self.points) as _
    }

    async fn reopen(&mut self) {
        self.points = opened(&self.dir);
    }

    /// The last byte of the oldest batch: the first point needs it, and no other is ever asked for.
    async fn damage(&self, machine: &Machine, point: PointId) -> bool {
        let oldest =
            self.points.points(machine.id()).await.is_ok_and(|p| p.first().is_some_and(|p| p.id == point));
        if !oldest {
            return false;
        }
        let folder = OpKey::from(machine.id().as_str()).to_name();
        let shards = sorted(self.dir.path().join(folder).join("data"));
        let batch = sorted(shards[0].clone()).into_iter().find(|p| p.to_string_lossy().contains("-s-"));
        let batch = &batch.expect("a segment");
        let mut bytes = std::fs::read(batch).expect("a segment");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(batch, bytes).expect("written");
        true
    }
}

#[async_trait]
impl StoreFixture for Directory {
    fn store(&self) -> Arc<dyn RecoveryPointStore> {
        Arc::clone(&self.points) as _
    }
}

site_recovery_testkit::replica_suite!(Directory);
site_recovery_testkit::store_suite!(Directory);
