//! A point of a small disk, a machine made of it in the network of drills, its capture and its fence, and all of it removed again:
//! by what a user opens, and nothing else.

use bytes::Bytes;
use site_recovery::{
    BootPermit, Capture, ChangeSet, Changes, Consistency, Control, DiskId, DiskRole, DiskSpec, Epoch, Fate,
    Finding, Generation, Instance, Item, Machine, Manifest, Op, OpKey, Payload, Point, Policy, Pool, Power,
    Purpose, Record, Recovery, RecoverySite, Replica, Result, Run, Seed, Settings, Source, Tally, Target,
    Timestamp,
};
use site_recovery_azure::{Azure, PageBlobs};
use site_recovery_record::hash;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the disk: no multiple of what it is rounded up to.
const SIZE: u64 = (64 << 20) + 1536;
/// What is written into it.
const PIECE: u64 = 64 << 10;

pub(crate) struct Drill {
    pub(crate) machine: Machine,
    pub(crate) points: Arc<PageBlobs>,
    pub(crate) site: Azure,
    network: String,
    settings: Settings,
}

impl Drill {
    /// `tag` makes its names others than those of any other run.
    pub(crate) fn new(tag: &str, points: PageBlobs, site: Azure, network: &str) -> Self {
        let id = format!("sr-test-{tag}");
        let instance = Instance {
            machine: id.as_str().into(),
            site: "elsewhere".into(),
            name: id.clone(),
            generation: Generation(0),
        };
        let machine = Machine {
            instance,
            title: None,
            disks: vec![DiskSpec { id: "system".into(), size: SIZE, role: DiskRole::System, included: true }],
            nics: vec![],
            cpus: 1,
            memory: 1 << 30,
            firmware: Default::default(),
            os: Default::default(),
            platform: Default::default(),
            guest: Default::default(),
        };
        let settings = Settings { name: Some(id), ..Settings::default() };
        Self { machine, points: Arc::new(points), site, network: network.into(), settings }
    }

    pub(crate) fn op(&self, name: &str) -> Op {
        let key = OpKey(format!("{}/{name}", self.machine.id()));
        Op { key, epoch: Epoch { number: 1, owner: "test".into() } }
    }

    fn disk(&self) -> DiskId {
        "system".into()
    }

    /// What is written where.
    fn pieces() -> [(u64, Vec<u8>); 2] {
        let filled =
            |seed: u8| (0..PIECE).map(|at| seed.wrapping_add((at / 512) as u8) | 1).collect::<Vec<u8>>();
        [(0, filled(3)), (SIZE / PIECE / 2 * PIECE, filled(90))]
    }

    pub(crate) async fn sealed(&self) -> Result<Point> {
        let op = self.op("cycle");
        self.points.prepare(&self.op("prepare"), &self.machine, &Seed::Fresh, &self.settings).await?;
        let records: Vec<Record> =
            Self::pieces().into_iter().map(|(at, bytes)| self.record(at, bytes)).collect();
        let plan: ChangeSet = records.iter().map(|record| (record.disk.clone(), record.run)).collect();
        let ingest = self.points.begin(&op, &self.machine, &"cut".into(), &plan).await?;
        let mut tally = Tally::new(&plan);
        self.points.write(&ingest, 0, records.clone()).await?;
        records.iter().for_each(|record| tally.landed(record));
        let item = Item::new(self.machine.clone(), op.epoch.clone(), Policy::default(), "out", "back");
        let members = vec![self.machine.id().clone()];
        let manifest = Manifest {
            machine: self.machine.clone(),
            members: members.clone(),
            cut: "cut".into(),
            taken: Timestamp(1_000),
            consistency: Consistency::Crash,
            cursor: None,
            sidecars: vec![],
            control: Control { unit: self.machine.id().as_str().into(), members, item },
        };
        self.points.seal(&ingest, &manifest, tally.finish()?).await
    }

    fn record(&self, at: u64, bytes: Vec<u8>) -> Record {
        let run = Run::new(at, bytes.len() as u64);
        let checksum = hash(&bytes);
        Record { disk: self.disk(), run, checksum, payload: Payload::Plain(Bytes::from(bytes)) }
    }

    pub(crate) async fn recovery(&self, point: &Point) -> Result<Recovery> {
        let manifest = self.points.manifest(self.machine.id(), point.id).await?;
        Ok(Recovery::of(manifest, point.id, Generation(1), Purpose::Drill, self.settings.clone()))
    }

    /// The whole of it. What it has made is left where it fails: [`clean`](Self::clean) removes it.
    pub(crate) async fn run(&self) -> Result<()> {
        let point = self.sealed().await?;
        self.holds_what_was_written(&self.points.open(self.machine.id(), point.id).await?[&self.disk()])
            .await?;
        let proposed = self.site.propose(&self.machine).await?;
        assert!(proposed.size.is_some(), "no size fits: {proposed:?}");
        let found = self.site.check(&self.machine, &self.settings).await?;
        assert!(!found.iter().any(Finding::blocks), "{found:?}");

        let what = self.recovery(&point).await?;
        let replica: Arc<dyn Replica> = self.points.clone();
        let armed = self.site.materialise(&self.op("materialise"), &what, &replica).await?;
        let permit = BootPermit::Isolated { network: self.network.clone() };
        let booted = self.site.boot(&self.op("boot"), &what, &armed, permit).await?;
        assert!(booted.running && !booted.reach.is_empty(), "{booted:?}");
        assert_eq!(self.site.power(&armed.instance).await?, Power::On);

        let told = self.site.discover().await?;
        assert!(told.iter().any(|machine| machine.instance == armed.instance), "{told:?}");
        let capture = self.captured(&armed.instance).await?;
        let since = armed.cursor.expect("the way back is armed");
        let changes = self.site.changes(&capture, self.machine.id(), &since).await?;
        // What has no system on it writes nothing.
        assert!(matches!(changes, Changes::Known(_)), "{changes:?}");
        self.site.release(&self.op("release"), &capture, self.machine.id(), Fate::Sealed).await?;

        self.site.fence(&self.op("fence"), &armed.instance, Duration::ZERO).await?;
        assert!(matches!(self.site.power(&armed.instance).await?, Power::Off { .. }));
        self.site.destroy(&self.op("destroy"), &armed.instance).await?;
        let told = self.site.discover().await?;
        assert!(told.iter().all(|machine| machine.instance != armed.instance), "it is still there: {told:?}");
        self.points.delete(&self.op("delete"), self.machine.id()).await
    }

    async fn captured(&self, instance: &Instance) -> Result<Capture> {
        let op = self.op("capture");
        let capture = self.site.capture(&op, std::slice::from_ref(instance), Consistency::Crash).await?;
        let disks = self.site.disks(&op, &capture, self.machine.id()).await?;
        self.holds_what_was_written(&disks[&self.disk()]).await?;
        Ok(capture)
    }

    async fn holds_what_was_written(&self, disk: &Arc<dyn site_recovery::Disk>) -> Result<()> {
        assert_eq!(disk.size(), SIZE);
        let pool = Pool::new(2 * PIECE as usize);
        for (at, expected) in Self::pieces() {
            let found = disk.read(Run::new(at, PIECE), &pool).await?;
            assert!(found[..] == expected[..], "other bytes at {at}");
        }
        let found = disk.read(Run::new(PIECE, PIECE), &pool).await?;
        assert!(found.iter().all(|byte| *byte == 0), "bytes where none were written");
        Ok(())
    }

    /// Removes what a run that failed has left, as far as our keys made it.
    pub(crate) async fn clean(&self) -> Result<()> {
        let instance = Instance {
            machine: self.machine.id().clone(),
            site: site_recovery::Role::name(&self.site),
            name: self.settings.name_for(&self.machine, Purpose::Drill),
            generation: Generation(1),
        };
        self.site.destroy(&self.op("destroy"), &instance).await?;
        self.points.delete(&self.op("delete"), self.machine.id()).await
    }
}
