//! The suite of every `Source`, as it is, run on this one.

use crate::host::{Host, Record};
use crate::{HostSite, machine};
use async_trait::async_trait;
use site_recovery::{Source, SystemClock};
use site_recovery_testkit::suite::SourceFixture;
use std::path::PathBuf;
use std::sync::Arc;

struct InAFolder {
    dir: tempfile::TempDir,
    host: Host,
}

impl InAFolder {
    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The owner does something to a machine.
    async fn owner<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Record) -> T + Send + 'static,
    ) -> T {
        let home = self.home(name);
        let turn = self.host.turn(move |_| Record::change(&home, |record| Ok(act(record))));
        turn.await.expect("the machine is there")
    }
}

#[async_trait]
impl SourceFixture for InAFolder {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = Host::open(dir.path().to_owned()).expect("the folder is there");
        // The end of a disk need not be the end of a block.
        for machine in [machine("web", &[128 * 1024 + 512, 256 * 1024]), machine("db", &[128 * 1024])] {
            host.add(machine).await.expect("there is room");
        }
        Self { dir, host }
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(HostSite { name: "host".into(), host: self.host.clone(), clock: Arc::new(SystemClock) })
    }

    async fn reopen(&mut self) {
        // Nothing is kept in memory.
        self.host = Host::open(self.dir.path().to_owned()).expect("the folder is there");
    }

    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }

    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.host.write(name, disk, at, bytes).await.expect("the disk is there");
    }

    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.host.content(name, disk).await.expect("the disk is there")
    }

    async fn is_running(&self, name: &str) -> bool {
        self.host.is_running(name).await.expect("it is there")
    }

    async fn captures(&self, name: &str) -> usize {
        std::fs::read_dir(self.home(name).join("captures")).map_or(0, Iterator::count)
    }

    async fn start_outside(&self, name: &str) -> bool {
        self.owner(name, |record| {
            record.running |= record.fence.is_none();
            record.running
        })
        .await
    }

    async fn stop_outside(&self, name: &str) {
        self.owner(name, |record| record.running = false).await;
    }

    async fn spoil(&self, name: &str) -> bool {
        std::fs::write(self.home(name).join("machine.json"), "?").is_ok()
    }

    async fn remove_outside(&self, name: &str) -> bool {
        std::fs::remove_dir_all(self.home(name)).is_ok()
    }
}

site_recovery_testkit::source_suite!(InAFolder);
