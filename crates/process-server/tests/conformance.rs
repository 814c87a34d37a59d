//! The process server keeps the contract of its role: the suite, with a spool and without.

use async_trait::async_trait;
use site_recovery::{ProcessServer, Replica, Source};
use site_recovery_testkit::suite::ProcessServerFixture;
use std::sync::Arc;
use tempfile::TempDir;

/// At most 1 MiB, that disks of a few MiB are larger.
const POOL: usize = 1 << 20;

struct Fixture<const SPOOLS: bool> {
    folder: TempDir,
    process_server: Option<Arc<dyn ProcessServer>>,
}

impl<const SPOOLS: bool> Fixture<SPOOLS> {
    async fn open(&self) -> Arc<dyn ProcessServer> {
        let builder = site_recovery_process_server::ProcessServer::builder("process-server").pool(POOL);
        let builder = if SPOOLS { builder.spool(self.folder.path()).spool_limit(64 << 20) } else { builder };
        Arc::new(builder.build().await.expect("opens"))
    }
}

#[async_trait]
impl<const SPOOLS: bool> ProcessServerFixture for Fixture<SPOOLS> {
    async fn new(_: Arc<dyn Source>, _: Arc<dyn Replica>) -> Self {
        let mut new = Self { folder: tempfile::tempdir().expect("a folder"), process_server: None };
        new.process_server = Some(new.open().await);
        new
    }

    fn process_server(&self) -> Arc<dyn ProcessServer> {
        self.process_server.clone().expect("it is open")
    }

    async fn reopen(&mut self) {
        // One process at a time has the spool.
        self.process_server = None;
        self.process_server = Some(self.open().await);
    }

    fn memory(&self) -> u64 {
        POOL as u64
    }
}

mod with_a_spool {
    site_recovery_testkit::process_server_suite!(super::Fixture<true>);
}

mod without_a_spool {
    site_recovery_testkit::process_server_suite!(super::Fixture<false>);
}
