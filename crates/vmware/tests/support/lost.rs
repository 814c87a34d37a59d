//! Every change that an act asks the server for is lost once: on its way there, or its answer on the way back, when it was done all
//! the same. The adapter dies of it. The one that comes after repeats the act, and then all is as if nothing had been lost.

use super::world::World;
use crate::{MODE, open};
use serde_json::{Value, json};
use site_recovery::{
    Capture as Taken, Consistency, Fate, Generation, Instance, LandingSite, Machine, Result, Settings,
    Source, Start as Starts,
};
use site_recovery_testkit::suite::{self, op, permit, recovery};
use std::collections::BTreeMap;
use std::time::Duration;

/// The calls that change something.
const CHANGES: &[&str] = &[
    "ReconfigVM_Task",
    "CreateSnapshot_Task",
    "RemoveSnapshot_Task",
    "RevertToSnapshot_Task",
    "ConsolidateVMDisks_Task",
    "PowerOnVM_Task",
    "PowerOffVM_Task",
    "ShutdownGuest",
    "CreateVM_Task",
    "Destroy_Task",
    "ReconfigureAutostart",
    "ReconfigureComputeResource_Task",
    "ConfigureStorageDrsForPod_Task",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Enrol,
    Capture,
    Disks,
    Release,
    Sweep,
    Dismiss,
    Fence,
    Unfence,
    Consolidate,
    Attach,
    Branch,
    Arm,
    Part,
    Merge,
    Detach,
    Start,
    Stop,
    Make,
    RemoveMade,
    RemoveArm,
    /// By the landing disk.
    Write,
    /// By somebody else.
    Snapshot,
}

use Act::*;

struct Scene {
    world: World,
    machine: Machine,
    capture: Option<Taken>,
    made: Option<Instance>,
    arm: Option<Instance>,
}

impl Scene {
    async fn new() -> Self {
        let world = World::start(MODE, open).await.expect("looked for before");
        let name = world.machine("web", &[256, 128]).await;
        world.write(&name, 0, 4096, &suite::pattern(1, 8192)).await;
        let mut machine = world.discovered(&name).await;
        machine.instance.machine = "m-web".into();
        Self { world, machine, capture: None, made: None, arm: None }
    }

    async fn act(&mut self, act: Act) -> Result<()> {
        let (site, op) = (self.world.site.clone(), op(&format!("{act:?}")));
        let (instance, machine) = (self.machine.instance.clone(), self.machine.clone());
        match act {
            Enrol => site.enrol(&op, &machine).await,
            Capture => {
                self.capture = Some(site.capture(&op, &[instance], Consistency::Crash).await?);
                Ok(())
            }
            Disks => site.disks(&op, self.captured(), machine.id()).await.map(drop),
            Release => site.release(&op, self.captured(), machine.id(), Fate::Sealed).await,
            Sweep => site.sweep(&op, &instance, &[]).await.map(drop),
            Dismiss => site.dismiss(&op, &instance).await,
            Fence => site.fence(&op, &instance, Duration::from_secs(20)).await,
            Unfence => site.unfence(&op, &instance, permit(&op, &machine).await, Starts::Run).await.map(drop),
            Consolidate => site.consolidate(&op, &instance).await,
            Attach => site.attach(&op, &machine, Some(instance), &settings()).await.map(drop),
            Branch => site.branch(&op, &instance).await,
            Arm => site.arm(&op, &instance, Generation(1)).await.map(drop),
            Part => {
                self.arm = Some(site.part(&op, &instance).await?);
                Ok(())
            }
            Merge => site.merge(&op, &instance).await,
            Detach => site.detach(&op, &instance).await,
            Start => {
                let permit = permit(&op, &machine).await;
                site.start(&op, &instance, &recovery(&machine, settings()), permit).await.map(drop)
            }
            Stop => site.stop(&op, &instance, Duration::ZERO).await,
            Make => {
                self.made = Some(site.attach(&op, &machine, None, &settings()).await?);
                Ok(())
            }
            RemoveMade => site.remove(&op, self.made.as_ref().expect("made before")).await,
            RemoveArm => site.remove(&op, self.arm.as_ref().expect("parted before")).await,
            Write => {
                let disk = site.disk(&instance, &machine.disks[0].id).await?;
                disk.write(65_536, suite::pattern(3, 8192).into()).await?;
                disk.flush().await
            }
            Snapshot => {
                self.world.told("snapshot", &instance.name, json!({ "name": "theirs" })).await;
                Ok(())
            }
        }
    }

    /// What keeps machines where they are.
    async fn stays(&self) -> Vec<String> {
        let eyes = &self.world.eyes;
        let mut all = vec![];
        if !eyes.is_vcenter() {
            return all;
        }
        let clusters = eyes.computes().await.unwrap().into_iter().filter(|c| c.is_cluster()).map(|c| c.moref);
        let pods =
            eyes.folders().await.unwrap().into_iter().map(|f| f.moref).filter(|f| f.kind == "StoragePod");
        let (clusters, pods): (Vec<_>, Vec<_>) = (clusters.collect(), pods.collect());
        for machine in eyes.machines(&eyes.content().root_folder).await.unwrap() {
            for cluster in &clusters {
                all.push(format!(
                    "{}: {:?}",
                    machine.name,
                    eyes.drs_override(cluster, &machine.moref).await.unwrap()
                ));
            }
            for pod in &pods {
                let stays = eyes.storage_drs_override(pod, &machine.moref).await.unwrap();
                all.push(format!("{}: {stays:?}", machine.name));
            }
        }
        all.sort();
        all
    }

    fn captured(&self) -> &Taken {
        self.capture.as_ref().expect("captured before")
    }

    /// All that stands, by other means than the adapter's.
    async fn state(&self) -> Value {
        let world = &self.world;
        let mut machines = BTreeMap::new();
        for machine in world.eyes.machines_whole(&world.eyes.content().root_folder).await.unwrap() {
            let details = machine.details.unwrap();
            let name = machine.instance_uuid.unwrap();
            let notes: BTreeMap<&str, bool> = ["mark", "fence", "landing"]
                .into_iter()
                .map(|key| (key, details.extra.contains_key(&format!("site-recovery.{key}"))))
                .collect();
            let landing = details.extra.get("site-recovery.landing").map(|text| {
                let told: Value = serde_json::from_str(text).unwrap();
                json!([told["attached"], told["branch"]["snapshot"], told["kept"]])
            });
            let mut bytes = vec![];
            for (_, file) in world.disk_files(&name).await {
                bytes.push(sum(&std::fs::read(file).unwrap()));
            }
            let snapshots = world.snapshots(&name).await;
            let power = format!("{:?}", machine.power);
            let called = machine.name;
            machines
                .insert(called, json!([power, notes, landing, snapshots, bytes, details.change_tracking]));
        }
        // In folders that have other names each time.
        let everything = world.everything().await;
        let files: Vec<&str> = everything.iter().filter_map(|name| name.rsplit('/').next()).collect();
        json!([machines, files, self.stays().await])
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn settings() -> Settings {
    Settings { datastore: Some("LocalDS_1".into()), name: Some("web-back".into()), ..Settings::default() }
}

async fn staged(before: &[Act]) -> Scene {
    let mut scene = Scene::new().await;
    for act in before {
        scene.act(*act).await.unwrap_or_else(|e| panic!("before: {act:?}: {e}"));
    }
    scene
}

/// Each change of `act` is lost once, in both ways.
fn each_change_is_lost_once(before: &[Act], act: Act) {
    if super::process::program().is_none() {
        return;
    }
    suite::run(async {
        let mut clean = staged(before).await;
        clean.world.sim.tell("calls", json!({ "reset": true })).await;
        clean.act(act).await.unwrap();
        let calls = clean.world.sim.tell("calls", json!({})).await;
        let wanted = clean.state().await;
        let count = |method: &str| calls["soap"][method].as_u64().unwrap_or_default();
        let lost: Vec<(&str, u64)> =
            CHANGES.iter().flat_map(|method| (0..count(method)).map(|n| (*method, n))).collect();
        assert!(!lost.is_empty(), "{act:?} changes nothing: {calls}");
        for (method, n) in lost {
            for kind in ["reset", "short"] {
                let when = format!("{act:?}, {method} {n}, {kind}");
                let mut scene = staged(before).await;
                let fault = json!({ "path": "/sdk", "holds": method, "kind": kind, "bytes": 0, "skip": n, "count": 1 });
                scene.world.sim.tell("http-fault", fault).await;
                let first = scene.act(act).await;
                scene.world.met(&when).await;
                scene.world.reopen().await;
                let again = scene.act(act).await;
                assert!(again.is_ok(), "{when}: first {first:?}, then {again:?}");
                let found = scene.state().await;
                assert_eq!(found, wanted, "{when}: first {first:?}");
            }
        }
    });
}

macro_rules! lost {
    ($($name:ident: [$($before:expr),*], $act:expr;)+) => {
        $(
            #[test]
            fn $name() {
                each_change_is_lost_once(&[$($before),*], $act);
            }
        )+
    };
}

lost! {
    o1_enrol: [], Enrol;
    o1_capture: [Enrol], Capture;
    o1_disks: [Enrol, Capture], Disks;
    o1_release: [Enrol, Capture, Disks], Release;
    o1_sweep: [Enrol, Capture, Disks], Sweep;
    o1_dismiss: [Enrol, Capture], Dismiss;
    o1_fence: [Enrol], Fence;
    o1_unfence: [Enrol, Fence], Unfence;
    o1_consolidate: [Enrol, Fence, Snapshot], Consolidate;
    o1_attach: [Enrol, Fence], Attach;
    o1_branch: [Enrol, Fence, Attach, Write], Branch;
    o1_arm: [Enrol, Fence, Attach, Branch, Write], Arm;
    o1_part: [Enrol, Fence, Attach, Branch, Write], Part;
    o1_detach: [Enrol, Fence, Attach, Branch, Write, Arm], Detach;
    o1_start: [Enrol, Fence, Attach, Branch, Write, Arm, Detach], Start;
    o1_merge: [Enrol, Fence, Attach, Branch, Write, Arm, Detach, Start], Merge;
    o1_stop: [Enrol, Fence, Attach, Detach, Start], Stop;
    o1_make: [Enrol, Fence], Make;
    o1_remove_made: [Enrol, Fence, Make], RemoveMade;
    o1_remove_arm: [Enrol, Fence, Attach, Branch, Write, Part], RemoveArm;
}
