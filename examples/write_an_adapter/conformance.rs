//! The suite of every `Source`, as it is, run on this one.

use crate::shelf::Shelf;
use crate::{ShelfSite, machine};
use async_trait::async_trait;
use site_recovery::{Source, SystemClock};
use site_recovery_testkit::suite::SourceFixture;
use std::sync::Arc;

struct OnAShelf {
    dir: tempfile::TempDir,
    site: Option<ShelfSite>,
}

impl OnAShelf {
    fn open(&mut self) {
        let shelf = Shelf::open(&self.dir.path().join("shelf.redb")).expect("nobody else has it open");
        self.site = Some(ShelfSite { name: "shelf".into(), shelf, clock: Arc::new(SystemClock) });
    }

    fn shelf(&self) -> &Shelf {
        &self.site.as_ref().expect("it is open").shelf
    }
}

#[async_trait]
impl SourceFixture for OnAShelf {
    async fn new() -> Self {
        let mut here = Self { dir: tempfile::tempdir().expect("a directory"), site: None };
        here.open();
        // The end of a disk need not be the end of a block.
        let machines = [machine("web", &[128 * 1024 + 512, 256 * 1024]), machine("db", &[128 * 1024])];
        machines.into_iter().for_each(|m| here.shelf().add(m).expect("there is room"));
        here
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone().expect("it is open"))
    }

    async fn reopen(&mut self) {
        self.site = None;
        self.open();
    }

    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }

    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.shelf().write(name, disk, at, bytes).expect("the disk is there");
    }

    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.shelf().content(name, disk).expect("the disk is there")
    }

    async fn is_running(&self, name: &str) -> bool {
        self.shelf().is_running(name).expect("it is there")
    }

    async fn captures(&self, name: &str) -> usize {
        self.shelf().captures(name).expect("the file can be read")
    }

    async fn start_outside(&self, name: &str) -> bool {
        self.shelf().switch(name, true).expect("it is there")
    }

    async fn stop_outside(&self, name: &str) {
        self.shelf().switch(name, false).expect("it is there");
    }

    async fn spoil(&self, name: &str) -> bool {
        self.shelf().act(|act| act.put_bytes(&format!("machine/{name}"), b"?")).is_ok()
    }

    async fn remove_outside(&self, name: &str) -> bool {
        self.shelf().remove(name).is_ok()
    }
}

site_recovery_testkit::source_suite!(OnAShelf);
