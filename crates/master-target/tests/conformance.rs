//! The suites of `MasterTarget`, `Replica` and `RecoverySite` over an in-memory landing site.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use async_trait::async_trait;
use site_recovery::{
    Instance, LandingSite, Machine, PointId, RecoverySite, Replica, Role, Source, SystemClock,
};
use site_recovery_master_target::MasterTarget;
use site_recovery_testkit::suite::{MasterTargetFixture, RecoverySiteFixture, ReplicaFixture};
use site_recovery_testkit::world::{PRODUCTION, Site, World};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

const LABELS: [&str; 2] = ["system", "data"];

/// A master target on a site in memory and a retention volume on disk.
struct At<const BRANCHES: bool> {
    site: Site,
    retention: TempDir,
    master_target: Arc<MasterTarget>,
    existing: Machine,
}

type Branching = At<true>;
type Plain = At<false>;

impl<const BRANCHES: bool> At<BRANCHES> {
    async fn fresh() -> Self {
        let world = World::new(7);
        let site = if BRANCHES { world.site("here") } else { world.site("here").without_branches() };
        let existing = site.add_machine("web-here", &[("system", 256 << 10), ("data", 17 * 4096 + 1536)]);
        site.stop_outside("web-here");
        let retention = tempfile::tempdir().expect("a temporary directory");
        let master_target = opened(&site, retention.path().into()).await;
        Self { site, retention, master_target, existing }
    }

    async fn again(&mut self) {
        self.master_target = opened(&self.site, self.retention.path().into()).await;
    }

    fn bytes(&self, name: &str, disk: usize) -> Vec<u8> {
        self.site.bytes(name).remove(LABELS[disk]).expect("the machine has this disk")
    }
}

async fn opened(site: &Site, retention: PathBuf) -> Arc<MasterTarget> {
    let landing: Arc<dyn LandingSite> = Arc::new(site.clone());
    let opened = MasterTarget::open(site.name(), landing, retention, Arc::new(SystemClock)).await;
    Arc::new(opened.expect("the retention volume is there"))
}

#[async_trait]
impl<const BRANCHES: bool> MasterTargetFixture for At<BRANCHES> {
    async fn new() -> Self {
        Self::fresh().await
    }
    fn master_target(&self) -> Arc<dyn site_recovery::MasterTarget> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
    async fn existing(&self) -> Option<Instance> {
        Some(Instance { machine: "web".into(), ..self.existing.instance.clone() })
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.bytes(name, disk)
    }
}

#[async_trait]
impl<const BRANCHES: bool> ReplicaFixture for At<BRANCHES> {
    async fn new() -> Self {
        Self::fresh().await
    }
    fn replica(&self) -> Arc<dyn Replica> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
    async fn damage(&self, _: &Machine, point: PointId) -> bool {
        let folder = std::fs::read_dir(self.retention.path()).expect("readable").next();
        let path = folder.expect("one machine").expect("readable").path().join(format!("point-{point}"));
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the point's manifest");
        let middle = file.metadata().expect("readable").len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle).expect("readable");
        file.write_all_at(&[byte[0] ^ 1], middle).expect("writable");
        true
    }
}

#[async_trait]
impl<const BRANCHES: bool> RecoverySiteFixture for At<BRANCHES> {
    async fn new() -> Self {
        Self::fresh().await
    }
    fn site(&self) -> Arc<dyn RecoverySite> {
        self.master_target.clone()
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    fn replica(&self) -> Arc<dyn Replica> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.site.write(name, LABELS[disk], at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.bytes(name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        self.site.running().iter().any(|n| n == name)
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        let runs = self.site.running().iter().any(|n| n == name);
        if runs { vec![PRODUCTION.into()] } else { vec![] }
    }
    async fn everything(&self) -> Vec<String> {
        self.site.all()
    }
    async fn stop_outside(&self, name: &str) {
        self.site.stop_outside(name);
    }
    async fn brought(&self) -> Option<Instance> {
        Some(self.existing.instance.clone())
    }
}

mod master_target {
    use super::*;
    site_recovery_testkit::master_target_suite!(Branching);
}

mod replica {
    use super::*;
    site_recovery_testkit::replica_suite!(Branching);
}

mod recovery_site {
    use super::*;
    site_recovery_testkit::recovery_site_suite!(Branching);
}

mod recovery_site_without_branches {
    use super::*;
    site_recovery_testkit::recovery_site_suite!(Plain);
}

#[tokio::test]
async fn sixty_disks_are_attached_at_once_and_no_more() {
    use site_recovery::{ErrorKind, Op, Seed, Settings, Severity};
    let world = World::new(7);
    let site = world.site("here");
    let disks: Vec<String> = (0..60).map(|n| format!("disk-{n}")).collect();
    let sizes: Vec<(&str, u64)> = disks.iter().map(|d| (d.as_str(), 4096)).collect();
    let large = site.add_machine("large", &sizes[..59]);
    let small = site.add_machine("small", &sizes[..2]);
    site.stop_outside("large");
    site.stop_outside("small");
    let retention = tempfile::tempdir().unwrap();
    let master_target = opened(&site, retention.path().into()).await;
    let named = |machine: &Machine, id: &str| {
        let mut machine = machine.clone();
        machine.instance.machine = id.into();
        machine
    };
    let (large, small) = (named(&large, "m-large"), named(&small, "m-small"));
    let op =
        |key: &str| Op { key: key.into(), epoch: site_recovery::Epoch { number: 1, owner: "engine".into() } };
    let existing = |machine: &Machine| Seed::Unknown { landing: Some(machine.instance.clone()) };
    let settings = Settings::default();
    master_target.prepare(&op("1"), &large, &existing(&large), &settings).await.unwrap();
    let findings = master_target.check(&small, &settings).await.unwrap();
    let told =
        findings.iter().find(|f| f.code == "landing.disks").expect("it is told before it is asked for");
    assert_eq!(told.severity, Severity::Critical);
    let error = master_target.prepare(&op("2"), &small, &existing(&small), &settings).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("machine.disks")), "{error}");
    assert!(error.message().contains("2 disks of small beside 59"), "{error}");
    // One disk less, and it fits.
    let mut smaller = small.clone();
    smaller.disks[1].included = false;
    assert_eq!(master_target.machines().await.unwrap().len(), 1);
    master_target.prepare(&op("3"), &smaller, &existing(&smaller), &settings).await.unwrap();
}
