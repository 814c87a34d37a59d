//! Whatever call goes wrong, the same call again ends where an undisturbed one does.

use futures_util::FutureExt;
use site_recovery::{
    Basis, BootPermit, Consistency, Control, Epoch, ErrorKind, Fate, Fenced, Generation, Item, LandingSite,
    Leg, MasterTarget, Op, PointId, Policy, ProcessServer, Purpose, Recovery, RecoveryPointStore, Result,
    Seed, Settings, Shipment, Shipped, Source, Sources,
};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::world::{
    Image, MemoryMasterTarget, MemoryProcessServer, MemoryReplica, Site, World,
};
use std::sync::Arc;
use std::time::Duration;

/// The way back over faulty roles, for a machine that runs in the cloud.
struct Back {
    here: Site,
    cloud: Site,
    leg: Leg,
    sources: Sources,
    item: Item,
}

fn back(seed: u64, plan: &FaultPlan) -> Back {
    let world = World::new(seed);
    let (here, cloud) = (world.site("here"), world.site("cloud"));
    let machine = cloud.add_machine("web", &[("boot", 16 << 10), ("data", 16 << 10)]);
    let old = here.add_machine("old", &[("boot", 16 << 10), ("data", 16 << 10)]);
    here.stop_outside("old");
    let landing: Arc<dyn LandingSite> = Arc::new(Faulty::new(Arc::new(here.clone()), plan, world.clock()));
    let target = MemoryMasterTarget::new("master-target", world.clock(), landing);
    let target: Arc<dyn MasterTarget> = Arc::new(Faulty::new(Arc::new(target), plan, world.clock()));
    let source: Arc<dyn Source> = Arc::new(Faulty::new(Arc::new(cloud.clone()), plan, world.clock()));
    let server = Arc::new(MemoryProcessServer::new("process-server"));
    let server: Arc<dyn ProcessServer> = Arc::new(Faulty::new(server, plan, world.clock()));
    let leg = Leg::back(Arc::clone(&source), server, target);
    let sources = Sources::from([("cloud".into(), source), ("here".into(), Arc::new(here.clone()) as _)]);
    let epoch = Epoch { number: 1, owner: "engine".into() };
    let mut item = Item::new(machine, epoch, Policy::default(), "out", "back");
    let mut old = old.instance;
    old.machine = item.id().clone();
    item.instances.push(old);
    Back { here, cloud, leg, sources, item }
}

impl Back {
    /// Asks again, as an engine does, until it is done.
    async fn settle_down<T, F: Future<Output = Result<T>>>(&self, mut ask: impl FnMut() -> F) -> T {
        for _ in 0..50 {
            match ask().await {
                Ok(done) => return done,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
        panic!("it never ends");
    }

    /// Lands twice, hands over the older point and boots it; every step is asked again under its key until it is done.
    async fn run(&self) -> (Image, Image) {
        let op = |key: &str| self.item.op(key);
        let (id, leg) = (self.item.id(), &self.leg);
        let seed = Seed::Unknown { landing: Some(self.item.instances[1].clone()) };
        let (prepare, none) = (op("prepare"), Settings::default());
        self.settle_down(|| leg.replica.prepare(&prepare, &self.item.machine, &seed, &none)).await;
        let first = self.cycle(&op("one")).await;
        let at_first = self.cloud.bytes("web");
        self.cloud.write("web", "data", 5000, b"later");
        self.cycle(&op("two")).await;
        let newest = self.here.bytes("old");
        assert_eq!(newest, self.cloud.bytes("web"));

        let manifest = self.settle_down(|| leg.replica.manifest(id, first)).await;
        let recovery = Recovery::of(manifest, first, Generation(1), Purpose::Failover, Settings::default());
        let (make, prove, boot) = (op("make"), op("prove"), op("boot"));
        let armed = self.settle_down(|| leg.recovery_site.materialise(&make, &recovery, &leg.replica)).await;
        let to_boot = || async {
            let may_run = Some(&armed.instance);
            let fenced = Fenced::prove(&prove, &self.item, may_run, &self.sources, Duration::ZERO).await?;
            leg.recovery_site.boot(&boot, &recovery, &armed, BootPermit::Fenced(fenced)).await
        };
        assert!(self.settle_down(to_boot).await.running);
        (at_first, self.here.bytes("old"))
    }

    async fn cycle(&self, op: &Op) -> PointId {
        let leg = &self.leg;
        let of = [self.item.active().clone()];
        let capture = self.settle_down(|| leg.source.capture(op, &of, Consistency::Crash)).await;
        let id = self.item.id().clone();
        let control = Control { unit: "web".into(), members: vec![id.clone()], item: self.item.clone() };
        let what = Shipment { capture: capture.clone(), machine: id.clone(), basis: Basis::Delta, control };
        let shipped =
            self.settle_down(|| leg.process_server.ship(op, &what, &leg.source, &leg.replica)).await;
        self.settle_down(|| leg.source.release(op, &capture, &id, Fate::Sealed)).await;
        match shipped {
            Shipped::Sealed { point, .. } => point.id,
            other => panic!("not sealed: {other:?}"),
        }
    }

    fn assert_done(&self, (at_first, here): (Image, Image), why: &str) {
        assert_eq!(here, at_first, "{why}");
        assert_eq!(self.here.running(), ["old"], "{why}");
        assert_eq!(self.cloud.running(), Vec::<String>::new(), "{why}");
        assert_eq!(self.here.all(), ["old"], "{why}");
        assert_eq!(self.here.starts("old").values().sum::<u32>(), 1, "{why}");
        assert!(self.cloud.captures().is_empty(), "{why}");
    }
}

#[tokio::test]
async fn o1_every_call_may_fail_or_lose_its_reply_once() {
    let undisturbed = FaultPlan::new();
    let world = back(21, &undisturbed);
    let ended = world.run().await;
    world.assert_done(ended, "undisturbed");
    let calls = undisturbed.calls();
    for wanted in ["here.disk.write", "here.branch", "here.arm", "cloud.disk.read", "master-target.seal"] {
        assert!(calls.iter().any(|c| c == wanted), "{wanted} is never called: {calls:?}");
    }
    for (number, name) in calls.iter().enumerate() {
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::Lost] {
            let plan = FaultPlan::new();
            plan.at(number as u64, fault);
            let world = back(21, &plan);
            let ended = world.run().await;
            assert_eq!(plan.faulted(), 1);
            world.assert_done(ended, &format!("{fault:?} at call {number}, {name}"));
        }
    }
}

#[tokio::test]
async fn o1_many_faults_by_seed() {
    for seed in 0..40 {
        let plan = FaultPlan::seeded(seed, 60);
        let world = back(seed, &plan);
        let ended = world.run().await;
        world.assert_done(ended, &format!("seed {seed}"));
        assert!(plan.faulted() > 0, "seed {seed} had no fault");
    }
}

#[tokio::test]
async fn a_plan_speaks_of_names_and_numbers() {
    let world = World::new(1);
    let clock = world.clock();
    let plan = FaultPlan::new();
    let store: Arc<dyn RecoveryPointStore> =
        Arc::new(Faulty::new(Arc::new(MemoryReplica::new("store", clock.clone())), &plan, clock.clone()));
    let id = "m".into();
    plan.nth("head", 1, Fault::Before(ErrorKind::Corrupt));
    plan.always("store.points", Fault::Before(ErrorKind::Denied));
    assert!(store.head(&id).await.is_ok());
    assert_eq!(store.head(&id).await.expect_err("the second").kind(), ErrorKind::Corrupt);
    assert!(store.head(&id).await.is_ok());
    for _ in 0..2 {
        assert_eq!(store.points(&id).await.expect_err("always").kind(), ErrorKind::Denied);
    }
    plan.next("machines", Fault::Late(Duration::from_secs(5)));
    let mut late = store.machines();
    assert!((&mut late).now_or_never().is_none());
    clock.advance(Duration::from_secs(4));
    assert!((&mut late).now_or_never().is_none());
    clock.advance(Duration::from_secs(1));
    assert!(late.await.is_ok());
    plan.stop();
    assert_eq!(plan.faulted(), 4);
    assert_eq!(plan.calls()[0], "store.head");
}
