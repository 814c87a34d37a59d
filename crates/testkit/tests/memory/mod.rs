//! The in-memory world behind the suites' fixtures. `W` may put something between a role and the suite.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "not every test uses every fixture")]

mod guests;

pub(crate) use guests::Guests;

use async_trait::async_trait;
use site_recovery::{
    Instance, Journal, LandingSite, Machine, MachineId, MasterTarget, PointId, ProcessServer,
    RecoveryPointStore, RecoverySite, Replica, Result, Source, Target,
};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::suite::{
    JournalFixture, LandingSiteFixture, MasterTargetFixture, ProcessServerFixture, RecoverySiteFixture,
    ReplicaFixture, SourceFixture, StoreFixture, TargetFixture, op,
};
use site_recovery_testkit::world::{
    MemoryMasterTarget, MemoryProcessServer, MemoryReplica, PRODUCTION, Site, World,
};
use std::marker::PhantomData;
use std::sync::Arc;

const SEED: u64 = 7;
const KIB: u64 = 1024;
const LABELS: [&str; 2] = ["system", "data"];

/// What stands between the roles of the world and the suite. Made anew whenever a fixture is reopened.
pub(crate) trait Wrap: Send + Sync + 'static {
    /// What the site can do.
    fn site(site: Site) -> Site {
        site
    }
    fn source(_: &Site, honest: Arc<dyn Source>) -> Arc<dyn Source> {
        honest
    }
    fn store(honest: Arc<dyn RecoveryPointStore>) -> Arc<dyn RecoveryPointStore> {
        honest
    }
    fn target(_: &Site, honest: Arc<dyn Target>) -> Arc<dyn Target> {
        honest
    }
    fn landing_site(_: &Site, honest: Arc<dyn LandingSite>) -> Arc<dyn LandingSite> {
        honest
    }
    fn master_target(honest: Arc<dyn MasterTarget>) -> Arc<dyn MasterTarget> {
        honest
    }
    fn process_server(honest: Arc<dyn ProcessServer>) -> Arc<dyn ProcessServer> {
        honest
    }
    /// Opening may fail, or be made to succeed.
    fn journal(memory: &MemoryJournal) -> Result<Arc<dyn Journal>> {
        Ok(Arc::new(memory.reopen()?))
    }
}

/// Nothing stands between.
pub(crate) struct Honest;
impl Wrap for Honest {}

fn content(site: &Site, name: &str, disk: usize) -> Vec<u8> {
    site.bytes(name).remove(LABELS[disk]).unwrap_or_else(|| panic!("{name} has no disk {}", LABELS[disk]))
}

fn runs(site: &Site, name: &str) -> bool {
    site.running().iter().chain(&site.isolated("isolated")).any(|n| n == name)
}

/// A site as a source.
pub(crate) struct AtSite<W> {
    site: Site,
    guests: Guests,
    source: Arc<dyn Source>,
    wrap: PhantomData<W>,
}

impl<W: Wrap> AtSite<W> {
    fn wrapped(site: &Site, guests: &Guests) -> Arc<dyn Source> {
        W::source(site, Arc::new(guests.clone()))
    }
}

#[async_trait]
impl<W: Wrap> SourceFixture for AtSite<W> {
    async fn new() -> Self {
        let site = W::site(World::new(SEED).site("here"));
        site.add_machine("web", &[("system", 128 * KIB), ("data", 128 * KIB + 512)]);
        site.add_machine("db", &[("system", 128 * KIB)]);
        let guests = Guests::new(site.clone());
        let source = Self::wrapped(&site, &guests);
        Self { site, guests, source, wrap: PhantomData }
    }
    fn source(&self) -> Arc<dyn Source> {
        self.source.clone()
    }
    async fn reopen(&mut self) {
        self.source = Self::wrapped(&self.site, &self.guests);
    }
    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.site.write(name, LABELS[disk], at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        content(&self.site, name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        runs(&self.site, name)
    }
    async fn captures(&self, name: &str) -> usize {
        self.site.captures().len() + self.site.snapshots(name) as usize
    }
    async fn snapshot_outside(&self, name: &str) -> bool {
        self.site.snapshot_outside(name);
        true
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.site.start_outside(name)
    }
    async fn stop_outside(&self, name: &str) {
        self.site.stop_outside(name);
    }
    async fn spoil(&self, name: &str) -> bool {
        self.guests.spoil(name);
        true
    }
    async fn remove_outside(&self, name: &str) -> bool {
        self.site.destroy_outside(name);
        true
    }
    async fn lose_tracking(&self, _: &str) -> bool {
        self.site.forget_tracking();
        true
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        self.site.grow(name, LABELS[disk], size);
        true
    }
    async fn silence(&self, silent: bool) -> bool {
        self.site.set_down(silent);
        true
    }
    async fn deafen(&self, _: &str) -> bool {
        self.guests.deafen();
        true
    }
    async fn was_asked(&self, _: &str) -> bool {
        self.guests.was_asked()
    }
    async fn hear(&self, name: &str) {
        self.guests.hear(name);
    }
}

/// A store.
pub(crate) struct AtStore<W> {
    memory: MemoryReplica,
    store: Arc<dyn RecoveryPointStore>,
    wrap: PhantomData<W>,
}

#[async_trait]
impl<W: Wrap> ReplicaFixture for AtStore<W> {
    async fn new() -> Self {
        let memory = MemoryReplica::new("store", ManualClock::new());
        memory.drops_at_most(1);
        let store = W::store(Arc::new(memory.clone()));
        Self { memory, store, wrap: PhantomData }
    }
    fn replica(&self) -> Arc<dyn Replica> {
        self.store.clone()
    }
    async fn reopen(&mut self) {
        self.store = W::store(Arc::new(self.memory.clone()));
    }
    async fn damage(&self, machine: &Machine, point: PointId) -> bool {
        self.memory.damage(machine.id(), point, &machine.disks[1].id, 5000);
        true
    }
}

impl<W: Wrap> StoreFixture for AtStore<W> {
    fn store(&self) -> Arc<dyn RecoveryPointStore> {
        self.store.clone()
    }
}

/// A site as a target, recovering from a store.
pub(crate) struct AtTarget<W> {
    site: Site,
    store: MemoryReplica,
    target: Arc<dyn Target>,
    theirs: Instance,
    wrap: PhantomData<W>,
}

#[async_trait]
impl<W: Wrap> RecoverySiteFixture for AtTarget<W> {
    async fn new() -> Self {
        let world = World::new(SEED);
        let site = W::site(world.site("cloud"));
        let theirs = site.add_machine("theirs", &[("system", 64 * KIB)]).instance;
        let store = MemoryReplica::new("store", world.clock());
        let target = W::target(&site, Arc::new(site.clone()));
        Self { site, store, target, theirs, wrap: PhantomData }
    }
    fn site(&self) -> Arc<dyn RecoverySite> {
        self.target.clone()
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    fn replica(&self) -> Arc<dyn Replica> {
        Arc::new(self.store.clone())
    }
    async fn reopen(&mut self) {
        self.target = W::target(&self.site, Arc::new(self.site.clone()));
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.site.write(name, LABELS[disk], at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        content(&self.site, name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        runs(&self.site, name)
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        networks(&self.site, name)
    }
    async fn everything(&self) -> Vec<String> {
        self.site.all()
    }
    async fn stop_outside(&self, name: &str) {
        self.site.stop_outside(name);
    }
    async fn brought(&self) -> Option<Instance> {
        Some(self.theirs.clone())
    }
    async fn lose_replica(&self) -> bool {
        self.store.set_down(true);
        true
    }
}

fn networks(site: &Site, name: &str) -> Vec<String> {
    let mut networks = vec![];
    if site.running().iter().any(|n| n == name) {
        networks.push(PRODUCTION.to_owned());
    }
    if site.isolated("isolated").iter().any(|n| n == name) {
        networks.push("isolated".to_owned());
    }
    networks
}

impl<W: Wrap> TargetFixture for AtTarget<W> {
    fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }
}

/// A site to land on; somebody can start its machines, and that tells.
pub(crate) struct AtLanding<W> {
    site: Site,
    machine: Machine,
    landing: Arc<dyn LandingSite>,
    wrap: PhantomData<W>,
}

#[async_trait]
impl<W: Wrap> LandingSiteFixture for AtLanding<W> {
    async fn new() -> Self {
        let site = W::site(World::new(SEED).site("here"));
        let mut machine = site.add_machine("web", &[("system", 256 * KIB), ("data", 128 * KIB + 512)]);
        machine.instance.machine = MachineId::from("suite-0");
        site.enrol(&op("enrol"), &machine).await.expect("the machine is as described");
        site.tells(true);
        let landing = W::landing_site(&site, Arc::new(site.clone()));
        Self { site, machine, landing, wrap: PhantomData }
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        self.landing.clone()
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    async fn reopen(&mut self) {
        self.landing = W::landing_site(&self.site, Arc::new(self.site.clone()));
    }
    fn existing(&self) -> Machine {
        self.machine.clone()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.site.write(name, LABELS[disk], at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        content(&self.site, name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        runs(&self.site, name)
    }
    async fn everything(&self) -> Vec<String> {
        self.site.all()
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.site.start_outside(name)
    }
    async fn stop_outside(&self, name: &str) {
        self.site.stop_outside(name);
    }
    async fn power_cut(&mut self) -> bool {
        // The world itself keeps nothing back: what can be lost is in the landing site's memory.
        self.reopen().await;
        true
    }
}

/// A master target, as all that it is.
pub(crate) struct AtMasterTarget<W> {
    site: Site,
    memory: MemoryMasterTarget,
    master_target: Arc<dyn MasterTarget>,
    existing: Machine,
    wrap: PhantomData<W>,
}

impl<W: Wrap> AtMasterTarget<W> {
    fn fresh() -> Self {
        let world = World::new(SEED);
        let site = world.site("here");
        let existing = site.add_machine("web-here", &[("system", 256 * KIB), ("data", 17 * 4096 + 1536)]);
        site.stop_outside("web-here");
        let memory = MemoryMasterTarget::new("master-target", world.clock(), Arc::new(site.clone()));
        let master_target = W::master_target(Arc::new(memory.clone()));
        Self { site, memory, master_target, existing, wrap: PhantomData }
    }
    fn wrap_again(&mut self) {
        self.master_target = W::master_target(Arc::new(self.memory.clone()));
    }
}

#[async_trait]
impl<W: Wrap> MasterTargetFixture for AtMasterTarget<W> {
    async fn new() -> Self {
        Self::fresh()
    }
    fn master_target(&self) -> Arc<dyn MasterTarget> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.wrap_again();
    }
    async fn existing(&self) -> Option<Instance> {
        Some(Instance { machine: "web".into(), ..self.existing.instance.clone() })
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        content(&self.site, name, disk)
    }
}

#[async_trait]
impl<W: Wrap> ReplicaFixture for AtMasterTarget<W> {
    async fn new() -> Self {
        Self::fresh()
    }
    fn replica(&self) -> Arc<dyn Replica> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.wrap_again();
    }
}

#[async_trait]
impl<W: Wrap> RecoverySiteFixture for AtMasterTarget<W> {
    async fn new() -> Self {
        Self::fresh()
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
        self.wrap_again();
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.site.write(name, LABELS[disk], at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        content(&self.site, name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        runs(&self.site, name)
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        networks(&self.site, name)
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

/// A process server; `SPOOLS` says whether it has a spool.
pub(crate) struct AtProcessServer<W, const SPOOLS: bool> {
    memory: MemoryProcessServer,
    process_server: Arc<dyn ProcessServer>,
    wrap: PhantomData<W>,
}

#[async_trait]
impl<W: Wrap, const SPOOLS: bool> ProcessServerFixture for AtProcessServer<W, SPOOLS> {
    async fn new(_: Arc<dyn Source>, _: Arc<dyn Replica>) -> Self {
        let memory = MemoryProcessServer::new("process-server");
        memory.spool(SPOOLS);
        let process_server = W::process_server(Arc::new(memory.clone()));
        Self { memory, process_server, wrap: PhantomData }
    }
    fn process_server(&self) -> Arc<dyn ProcessServer> {
        self.process_server.clone()
    }
    async fn reopen(&mut self) {
        self.process_server = W::process_server(Arc::new(self.memory.clone()));
    }
    fn memory(&self) -> u64 {
        1 << 20
    }
}

/// A journal.
pub(crate) struct AtJournal<W> {
    memory: MemoryJournal,
    wrap: PhantomData<W>,
}

#[async_trait]
impl<W: Wrap> JournalFixture for AtJournal<W> {
    async fn new() -> Self {
        Self { memory: MemoryJournal::new(), wrap: PhantomData }
    }
    async fn open(&self) -> Result<Arc<dyn Journal>> {
        W::journal(&self.memory)
    }
    async fn damage(&self, subject: &str, entry: usize) -> bool {
        self.memory.damage(subject, entry, |bytes| bytes[0] ^= 1);
        true
    }
    async fn make_newer(&self) -> bool {
        self.memory.set_version(99);
        true
    }
}
