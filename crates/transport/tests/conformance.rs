//! The shared rules of replicas and of stores, on a directory that another side of a connection keeps.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use site_recovery::{Machine, OpKey, PointId, RecoveryPointStore, Replica};
use site_recovery_testkit::suite::{replica::ReplicaFixture, store::StoreFixture};
use site_recovery_transport::{RemoteStore, Server};
use std::path::PathBuf;
use std::sync::Arc;
use support::*;

struct Remote {
    dir: tempfile::TempDir,
    tls: Tls,
    server: Option<Server>,
    store: Arc<RemoteStore>,
}

async fn connected(tls: &Tls, dir: &tempfile::TempDir) -> (Server, Arc<RemoteStore>) {
    let server = serve(tls, points(dir.path())).await;
    let store = remote(tls, server.address()).connect().await.unwrap();
    (server, Arc::new(store))
}

fn sorted(path: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

#[async_trait]
impl ReplicaFixture for Remote {
    async fn new() -> Self {
        let (dir, tls) = (tempfile::tempdir().unwrap(), Tls::new());
        let (server, store) = connected(&tls, &dir).await;
        Self { dir, tls, server: Some(server), store }
    }

    fn replica(&self) -> Arc<dyn Replica> {
        Arc::clone(&self.store) as _
    }

    /// The server is gone without a word, and another one opens what it left.
    async fn reopen(&mut self) {
        let server = self.server.take().unwrap();
        let _ = tokio::time::timeout(SOON, server.stop(std::time::Duration::ZERO)).await.unwrap();
        let (server, store) = connected(&self.tls, &self.dir).await;
        (self.server, self.store) = (Some(server), store);
    }

    /// The last byte of the oldest batch: the first point needs it, and no other is ever asked for.
    async fn damage(&self, machine: &Machine, point: PointId) -> bool {
        let oldest =
            self.store.points(machine.id()).await.is_ok_and(|p| p.first().is_some_and(|p| p.id == point));
        if !oldest {
            return false;
        }
        let folder = OpKey::from(machine.id().as_str()).to_name();
        let shards = sorted(self.dir.path().join(folder).join("data"));
        let batch = sorted(shards[0].clone()).into_iter().find(|p| p.to_string_lossy().contains("-s-"));
        let batch = &batch.unwrap();
        let mut bytes = std::fs::read(batch).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(batch, bytes).unwrap();
        true
    }
}

#[async_trait]
impl StoreFixture for Remote {
    fn store(&self) -> Arc<dyn RecoveryPointStore> {
        Arc::clone(&self.store) as _
    }
}

site_recovery_testkit::replica_suite!(Remote);
site_recovery_testkit::store_suite!(Remote);
