//! A machine that was made from a point, and the replica that the point is in.

use crate::protected::Image;
use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::{checksum, permit};
use site_recovery_testkit::world::MemoryReplica;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Recovered {
    pub(crate) world: World,
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) what: Recovery,
    pub(crate) armed: Armed,
}

/// A point that no machine was made of yet.
pub(crate) struct Sealed {
    pub(crate) world: World,
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) what: Recovery,
}

impl Sealed {
    pub(crate) async fn of(world: World, image: &Image) -> Self {
        let replica: Arc<dyn Replica> = Arc::new(MemoryReplica::new("store", ManualClock::new()));
        let machine = machine(image);
        let point = seal(&replica, &machine, image).await;
        let manifest = replica.manifest(machine.id(), point).await.unwrap();
        let what = Recovery::of(manifest, point, Generation(1), Purpose::Failover, Settings::default());
        Self { world, replica, what }
    }

    pub(crate) async fn materialise(&self) -> Result<Armed> {
        self.world.site.materialise(&op("materialise"), &self.what, &self.replica).await
    }

    pub(crate) async fn prepared(self) -> Recovered {
        let armed = self.materialise().await.unwrap();
        Recovered { world: self.world, replica: self.replica, what: self.what, armed }
    }
}

impl Recovered {
    /// A machine called web, with one disk per image, prepared and not booted.
    pub(crate) async fn prepared(world: World, image: &Image) -> Self {
        Sealed::of(world, image).await.prepared().await
    }

    pub(crate) fn name(&self) -> &str {
        &self.armed.instance.name
    }

    pub(crate) async fn boot(&self, key: &str) -> Booted {
        let permit = permit(&op(key), &self.what.machine.standing_as(self.armed.instance.clone())).await;
        self.world.site.boot(&op(key), &self.what, &self.armed, permit).await.unwrap()
    }

    pub(crate) async fn tend(&self) -> Result<()> {
        self.world.site.tend(&op("tend"), &self.armed, &self.replica).await
    }

    /// The machine copies what is missing, to the end.
    pub(crate) async fn settle(&self) {
        let end = now() + BOUND;
        while let Err(error) = self.world.site.settle(&op("settle"), &self.armed).await {
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            assert!(now() < end, "it is never whole: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn status(&self) -> String {
        let mut monitor = self.world.monitor(self.name()).unwrap();
        let status = monitor.call("query-status", serde_json::Value::Null).unwrap();
        status["status"].as_str().unwrap().to_owned()
    }
}

fn machine(image: &Image) -> Machine {
    let disk = |(n, bytes): (usize, &Vec<u8>)| DiskSpec {
        id: format!("disk-{n}").as_str().into(),
        size: bytes.len() as u64,
        role: if n == 0 { DiskRole::System } else { DiskRole::Data },
        included: true,
    };
    let disks = image.iter().enumerate().map(disk).collect();
    Machine { disks, memory: 32 << 20, ..site_recovery_testkit::suite::machine("web") }
}

/// The first point of a machine's timeline.
async fn seal(replica: &Arc<dyn Replica>, machine: &Machine, image: &Image) -> PointId {
    let op = op("seal");
    replica.prepare(&op, machine, &Seed::Fresh, &Settings::default()).await.unwrap();
    let (cut, all) = (CutId::from("cut"), ChangeSet::whole(machine.included()));
    let ingest = replica.begin(&op, machine, &cut, &all).await.unwrap();
    let mut tally = Tally::new(&all);
    let mut records = vec![];
    for (spec, bytes) in machine.included().zip(image) {
        for run in Run::new(0, spec.size).pieces(64 * KIB) {
            let bytes = Bytes::copy_from_slice(&bytes[run.start as usize..run.end() as usize]);
            let checksum = checksum(&bytes);
            let payload = if checksum == 0 { Payload::Zero } else { Payload::Plain(bytes) };
            records.push(Record { disk: spec.id.clone(), run, checksum, payload });
        }
    }
    replica.write(&ingest, 0, records.clone()).await.unwrap();
    records.iter().for_each(|r| tally.landed(r));
    let item = Item::new(machine.clone(), op.epoch.clone(), Policy::default(), "out", "back");
    let members = vec![machine.id().clone()];
    let manifest = Manifest {
        machine: machine.clone(),
        members: members.clone(),
        cut,
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control: Control { unit: "web".into(), members, item },
    };
    replica.seal(&ingest, &manifest, tally.finish().unwrap()).await.unwrap().id
}
