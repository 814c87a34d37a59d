//! The rules of every role, kept across a network: the suites on the in-memory world, whose roles a server serves and stubs
//! reach.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../testkit/tests/memory/mod.rs"]
mod memory;
mod support;

use async_trait::async_trait;
use memory::{AtLanding, AtMasterTarget, AtProcessServer, AtSite, AtTarget, Wrap};
use site_recovery::*;
use site_recovery_testkit::world::Site;
use site_recovery_transport::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use support::{Authority, client_tls, loopback, server_tls};
use tokio::runtime::Runtime;

/// The other side: a runtime of its own, so that nothing works by the same task. Servers live as long as the tests.
static THERE: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SERVERS: Mutex<Vec<Server>> = Mutex::new(vec![]);

/// The world's engine, by its certificate.
const ENGINE: &str = "urn:site-recovery:engine:suite";

struct Network {
    address: SocketAddr,
    tls: ClientTls,
    table: Table,
}

impl Network {
    fn of(serve: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let ca = Authority::new();
        let tls = client_tls(&ca.issue_uri(ENGINE), &ca, "localhost");
        let table = Table::default();
        let builder = Server::builder(server_tls(&ca.issue("localhost"), &ca)).names(Arc::new(table.clone()));
        let listening = serve(builder).listen(loopback());
        // A runtime cannot be entered from within another one.
        let server = std::thread::scope(|scope| scope.spawn(|| THERE.block_on(listening)).join());
        let server = server.unwrap().unwrap();
        let address = server.address();
        SERVERS.lock().unwrap().push(server);
        Self { address, tls, table }
    }

    fn stub<R: Stub>(
        self,
        builder: impl FnOnce(String, RoleName, ClientTls) -> RemoteBuilder<R>,
        role: &dyn Role,
    ) -> ByName<R> {
        let builder = builder(self.address.to_string(), role.name(), self.tls);
        ByName { stub: builder.lazy(role.capability()).unwrap(), table: self.table }
    }
}

/// What the other side knows by name: whatever was handed to the stub last under it.
#[derive(Debug, Clone, Default)]
struct Table {
    sources: Arc<Mutex<BTreeMap<RoleName, Arc<dyn Source>>>>,
    replicas: Arc<Mutex<BTreeMap<RoleName, Arc<dyn Replica>>>>,
}

#[async_trait]
impl Names for Table {
    async fn source(&self, name: &RoleName) -> Result<Arc<dyn Source>> {
        let found = self.sources.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "unknown"))
    }
    async fn replica(&self, name: &RoleName) -> Result<Arc<dyn Replica>> {
        let found = self.replicas.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "unknown"))
    }
}

/// A stub whose other side finds by name what it is handed here: the suites hand doubles.
#[derive(Debug)]
struct ByName<R> {
    stub: R,
    table: Table,
}

impl<R> ByName<R> {
    fn replica(&self, replica: &Arc<dyn Replica>) {
        self.table.replicas.lock().unwrap().insert(replica.name(), Arc::clone(replica));
    }
}

#[async_trait]
impl<R: Role> Role for ByName<R> {
    fn name(&self) -> RoleName {
        self.stub.name()
    }
    fn capability(&self) -> Capability {
        self.stub.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.stub.claim(op, machine).await
    }
}

#[async_trait]
impl ProcessServer for ByName<RemoteProcessServer> {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        self.table.sources.lock().unwrap().insert(source.name(), Arc::clone(source));
        self.replica(replica);
        self.stub.ship(op, what, source, replica).await
    }
    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        self.replica(replica);
        self.stub.drain(op, machine, replica).await
    }
    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        self.stub.lag(machine).await
    }
    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        self.stub.knows(roles).await
    }
}

#[async_trait]
impl RecoverySite for ByName<RemoteTarget> {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.stub.check(machine, settings).await
    }
    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        self.replica(from);
        self.stub.materialise(op, what, from).await
    }
    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        self.stub.withdraw(op, made_by, what).await
    }
    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        self.stub.boot(op, what, armed, permit).await
    }
    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
        self.replica(from);
        self.stub.tend(op, armed, from).await
    }
    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        self.stub.settle(op, armed).await
    }
    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.stub.set_aside(op, instance).await
    }
    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.stub.destroy(op, instance).await
    }
}

#[async_trait]
impl Target for ByName<RemoteTarget> {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        self.stub.propose(machine).await
    }
}

/// A network stands between.
struct Across;

impl Wrap for Across {
    fn source(_: &Site, honest: Arc<dyn Source>) -> Arc<dyn Source> {
        let network = Network::of(|server| server.source(Arc::clone(&honest)));
        Arc::new(network.stub(RemoteSource::builder, &*honest).stub)
    }
    fn target(_: &Site, honest: Arc<dyn Target>) -> Arc<dyn Target> {
        let network = Network::of(|server| server.target(Arc::clone(&honest)));
        Arc::new(network.stub(RemoteTarget::builder, &*honest))
    }
    fn landing_site(_: &Site, honest: Arc<dyn LandingSite>) -> Arc<dyn LandingSite> {
        let network = Network::of(|server| server.landing_site(Arc::clone(&honest)));
        Arc::new(network.stub(RemoteLandingSite::builder, &*honest).stub)
    }
    fn master_target(honest: Arc<dyn MasterTarget>) -> Arc<dyn MasterTarget> {
        let network = Network::of(|server| server.master_target(Arc::clone(&honest)));
        Arc::new(network.stub(RemoteMasterTarget::builder, &*honest).stub)
    }
    fn process_server(honest: Arc<dyn ProcessServer>) -> Arc<dyn ProcessServer> {
        let network = Network::of(|server| server.process_server(Arc::clone(&honest)));
        Arc::new(network.stub(RemoteProcessServer::builder, &*honest))
    }
}

mod source {
    use super::*;
    site_recovery_testkit::source_suite!(AtSite<Across>);
}

mod target {
    use super::*;
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!(AtTarget<Across>);
    }
    site_recovery_testkit::target_suite!(AtTarget<Across>);
}

mod master_target {
    use super::*;
    mod replica {
        use super::*;
        site_recovery_testkit::replica_suite!(AtMasterTarget<Across>);
    }
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!(AtMasterTarget<Across>);
    }
    site_recovery_testkit::master_target_suite!(AtMasterTarget<Across>);
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!(AtLanding<Across>);
}

mod process_server {
    use super::*;
    site_recovery_testkit::process_server_suite!(AtProcessServer<Across, true>);
}
