//! The suite of a source, over servers that are held, and over servers whose starts are counted.

use crate::hall::Floor;
use crate::support::{HOLDS, TELLS};
use async_trait::async_trait;
use site_recovery::Source;
use site_recovery_testkit::suite::SourceFixture;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

struct At<const HELD: bool>(Floor);

type Held = At<true>;
type Counted = At<false>;

impl<const HELD: bool> At<HELD> {
    fn file(&self, name: &str, disk: usize) -> PathBuf {
        self.0.system(name).join(["root.raw", "data.raw"][disk])
    }
}

#[async_trait]
impl<const HELD: bool> SourceFixture for At<HELD> {
    async fn new() -> Self {
        Self(Floor::new(if HELD { HOLDS } else { TELLS }).await)
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.site.clone())
    }
    async fn reopen(&mut self) {
        self.0.again().await;
    }
    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        if self.0.server(name).runs() {
            // A system that takes the directory's lock: its captures are of one instant for those who do.
            let (label, data) = (["root", "data"][disk], bytes::Bytes::copy_from_slice(bytes));
            return self.0.agent(name).system.write_disk(name, &label.into(), at, data).await.unwrap();
        }
        let file = std::fs::File::options().write(true).open(self.file(name, disk)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        std::fs::read(self.file(name, disk)).unwrap()
    }
    async fn is_running(&self, name: &str) -> bool {
        self.0.server(name).runs()
    }
    async fn captures(&self, name: &str) -> usize {
        std::fs::read_dir(self.0.system(name).join(".site-recovery/captures")).map_or(0, Iterator::count)
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.0.server(name).press()
    }
    async fn stop_outside(&self, name: &str) {
        self.0.server(name).unplug();
    }
    async fn spoil(&self, name: &str) -> bool {
        std::fs::write(self.0.system(name).join("machine.json"), "{").unwrap();
        true
    }
    async fn lose_tracking(&self, name: &str) -> bool {
        std::fs::remove_dir_all(self.0.system(name).join(".site-recovery/tracking")).is_ok()
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        std::fs::File::options().write(true).open(self.file(name, disk)).unwrap().set_len(size).unwrap();
        true
    }
    async fn silence(&self, silent: bool) -> bool {
        for server in self.0.servers.values() {
            (server.truth().silent, server.truth().agent_dead) = (silent, silent);
        }
        true
    }
    async fn deafen(&self, name: &str) -> bool {
        self.0.server(name).truth().deaf = true;
        true
    }
    async fn was_asked(&self, name: &str) -> bool {
        self.0.server(name).truth().asked
    }
    async fn hear(&self, name: &str) {
        self.0.server(name).hear();
    }
}

mod held {
    use super::*;
    site_recovery_testkit::source_suite!(Held);
}

mod counted {
    use super::*;
    site_recovery_testkit::source_suite!(Counted);
}
