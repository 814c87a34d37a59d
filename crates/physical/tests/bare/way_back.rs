//! Keeper and bare disks over one state directory: a server that was lost is fenced, something lands on its disks, and its
//! site tells it with its new generation.

use crate::support::*;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_local::LocalSite;
use site_recovery_physical::bare::{BareDisks, BareServer, Slot, Switched};
use site_recovery_physical::site::{Patience, PhysicalSite, Server};
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 300 << 10;

/// A directory as the server's system, which answers while the fake server runs.
#[derive(Debug)]
struct FakeAgent(LocalSite, Arc<FakeServer>);

impl FakeAgent {
    fn here(&self) -> Result<&LocalSite> {
        self.1
            .runs()
            .then_some(&self.0)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "connection refused"))
    }
}

#[async_trait]
impl Role for FakeAgent {
    fn name(&self) -> RoleName {
        self.0.name()
    }
    fn capability(&self) -> Capability {
        Capability { captures_off: false, ..self.0.capability() }
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.here()?.claim(op, machine).await
    }
}

#[async_trait]
impl Source for FakeAgent {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.here()?.discover().await
    }
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.here()?.enrol(op, machine).await
    }
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.dismiss(op, instance).await
    }
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.here()?.capture(op, of, want).await
    }
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.here()?.changes(capture, machine, since).await
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.here()?.disks(op, capture, machine).await
    }
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.here()?.release(op, capture, machine, fate).await
    }
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.here()?.sweep(op, instance, keep).await
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        self.here().map(|_| Power::On)
    }
    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "an agent fences nobody"))
    }
    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        Err(Error::new(ErrorKind::Unsupported, "an agent starts nobody"))
    }
}

#[tokio::test]
async fn d5_a_lost_server_comes_back_with_what_landed_and_its_new_generation() {
    for keeps in [HOLDS, TELLS] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("system/web-1");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("machine.json"), r#"{"disks": [{"id": "root", "file": "root.raw"}]}"#)
            .unwrap();
        disk_file(&home.join("root.raw"), SIZE);
        let system =
            LocalSite::open("agent".into(), dir.path().join("system"), Arc::new(SystemClock)).unwrap();
        system.switch_on("web-1").await.unwrap();
        let server = FakeServer::new(keeps, true);
        let state = dir.path().join("state");
        let clock = Arc::new(SystemClock);
        let short = Duration::from_millis(5);
        let patience = Patience { agent: Duration::from_secs(2), between: short, ..Patience::default() };
        let keeper =
            PhysicalSite::builder("hall-1".into(), &state, clock.clone()).patience(patience).server(Server {
                name: "web-1".into(),
                agent: Arc::new(FakeAgent(system, server.clone())),
                power: Some(server.clone()),
                shutdown: None,
            });
        let keeper = keeper.open().unwrap();
        let bare = BareDisks::builder("hall-1".into(), &state, clock).server(BareServer {
            name: "web-1".into(),
            slots: vec![Slot { id: "root".into(), path: home.join("root.raw") }],
            firmware: None,
            starter: Arc::new(Switched(server.clone())),
        });
        let bare = bare.open().unwrap();

        let mut web = keeper.discover().await.unwrap().remove(0);
        web.instance.machine = "m-web".into();
        keeper.enrol(&op("enrol"), &web).await.unwrap();
        keeper.fence(&op("fence"), &web.instance, Duration::ZERO).await.unwrap();
        let stranger = Instance { machine: "m-db".into(), ..web.instance.clone() };
        let db = Machine { instance: stranger.clone(), ..web.clone() };
        let conflict = bare.attach(&op("a"), &db, Some(stranger), &Settings::default()).await.unwrap_err();
        assert_eq!(conflict.kind(), ErrorKind::Conflict);

        let instance =
            bare.attach(&op("a"), &web, Some(web.instance.clone()), &Settings::default()).await.unwrap();
        let before = bare.stamp(&instance).await.unwrap();
        let disk = bare.disk(&instance, &"root".into()).await.unwrap();
        disk.write(8192, Bytes::from_static(b"landed")).await.unwrap();
        disk.flush().await.unwrap();
        let armed = bare.arm(&op("arm"), &instance, Generation(2)).await.unwrap();
        bare.detach(&op("detach"), &armed.instance).await.unwrap();
        assert_eq!(bare.stamp(&armed.instance).await.unwrap(), before, "nobody started it meanwhile");
        // The keeper's register is the landing's too.
        keeper.claim(&op_of("engine", 2, "claim"), web.id()).await.unwrap();
        let stale = bare.detach(&op("detach"), &armed.instance).await.unwrap_err();
        assert_eq!(stale.kind(), ErrorKind::StaleEpoch);

        let op_s = op_of("engine", 2, "start");
        let leave = permit(&op_s, &web.standing_as(armed.instance.clone())).await;
        let recovery = Recovery {
            machine: web.clone(),
            sidecars: vec![],
            point: PointId(1),
            taken: Timestamp(1),
            consistency: Consistency::Crash,
            generation: Generation(2),
            purpose: Purpose::Failover,
            settings: Settings::default(),
        };
        assert!(bare.start(&op_s, &armed.instance, &recovery, leave).await.unwrap().running);
        assert!(server.runs() && !server.truth().held);
        assert_eq!(&std::fs::read(home.join("root.raw")).unwrap()[8192..8198], b"landed");
        let told = keeper.discover().await.unwrap().remove(0);
        assert_eq!(told.instance, armed.instance);
        let op_c = op_of("engine", 2, "capture");
        let captured =
            keeper.capture(&op_c, std::slice::from_ref(&told.instance), Consistency::Crash).await.unwrap();
        assert_eq!(captured.members[0].machine.instance, armed.instance);
        assert!(!state.join("servers/web-1/owed.json").exists(), "the agent was told whose it is");
        assert_eq!(keeper.power(&told.instance).await.unwrap(), Power::On);
    }
}
