use super::{Dice, Image, Landing};
use site_recovery::{
    BootPermit, ChangeSet, Consistency, Control, Cursor, CutId, DiskRole, DiskSpec, Disks, Epoch, Fenced,
    Generation, HASH_BLOCK, Head, Instance, Item, Machine, Manifest, MasterTarget, Op, Point, PointId,
    Policy, Pool, Purpose, Recovery, Result, Run, Seed, Settings, Sources, Tally, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PAGE: u64 = 4096;

/// What becomes of an ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Sealed,
    /// The line breaks after this many batches.
    Broken(u64),
}

/// A source, and what every point must hold.
#[derive(Debug, Clone)]
pub struct Oracle {
    pub machine: Machine,
    pub image: Image,
    /// The source at each cursor.
    history: Vec<Image>,
    pub points: BTreeMap<PointId, Image>,
    pub epoch: u64,
}

impl Oracle {
    pub fn new(sizes: &[u64]) -> Self {
        let roles = std::iter::once(DiskRole::System).chain(std::iter::repeat(DiskRole::Data));
        let disks = sizes.iter().zip(roles).enumerate().map(|(n, (size, role))| DiskSpec {
            id: format!("disk-{n}").into(),
            size: *size,
            role,
            included: true,
        });
        let instance = Instance {
            machine: "web".into(),
            site: "cloud".into(),
            name: "web".into(),
            generation: Generation(0),
        };
        let machine = Machine {
            instance,
            title: None,
            disks: disks.collect(),
            nics: vec![],
            cpus: 1,
            memory: 1 << 30,
            firmware: Default::default(),
            os: Default::default(),
            platform: Default::default(),
            guest: Default::default(),
        };
        let image = machine.disks.iter().map(|d| (d.id.clone(), vec![0; d.size as usize])).collect();
        Self { machine, image, history: vec![], points: BTreeMap::new(), epoch: 1 }
    }

    pub fn random(&self, dice: &mut Dice) -> Image {
        self.machine.disks.iter().map(|d| (d.id.clone(), dice.bytes(d.size as usize))).collect()
    }

    pub fn op(&self, key: impl Into<String>) -> Op {
        Op { key: key.into().into(), epoch: Epoch { number: self.epoch, owner: "engine".into() } }
    }

    /// The guest of the source writes, sometimes zeros.
    pub fn scribble(&mut self, dice: &mut Dice, writes: u64) {
        for _ in 0..writes {
            let disk = &self.machine.disks[dice.below(self.machine.disks.len() as u64) as usize];
            let start = dice.below(disk.size.div_ceil(PAGE)) * PAGE;
            let len = ((1 + dice.below(6)) * PAGE).min(disk.size - start) as usize;
            let bytes = if dice.below(5) == 0 { vec![0; len] } else { dice.bytes(len) };
            self.image.get_mut(&disk.id).unwrap()[start as usize..start as usize + len]
                .copy_from_slice(&bytes);
        }
    }

    pub async fn prepare(&self, to: &Arc<dyn MasterTarget>, key: &str, seed: Seed) -> Result<()> {
        to.prepare(&self.op(key), &self.machine, &seed, &Settings::default()).await
    }

    /// One cycle, from the head, by exactly what differs.
    pub async fn ship(
        &mut self,
        to: &Arc<dyn MasterTarget>,
        key: &str,
        fate: Fate,
        dice: &mut Dice,
    ) -> Result<Option<Point>> {
        let id = self.machine.id().clone();
        let sealed = to.points(&id).await?.into_iter().find(|p| p.cut.as_str() == format!("cut-{key}"));
        if let Some(sealed) = sealed {
            self.points.insert(sealed.id, self.image.clone());
            return Ok(Some(sealed));
        }
        let (cursor, touched) = match to.head(&id).await? {
            Head::Empty => (None, ChangeSet::new()),
            Head::Sealed { cursor, .. } => (cursor, ChangeSet::new()),
            Head::Unsettled { cursor, touched, .. } => (cursor, touched),
        };
        let plan = match &cursor {
            Some(cursor) => self.since(cursor).union(&touched).aligned(PAGE, &self.machine.disks),
            None => ChangeSet::whole(self.machine.included()),
        };
        let now =
            Cursor { generation: Generation(0), token: (self.history.len() as u64).to_le_bytes().to_vec() };
        self.history.push(self.image.clone());
        let op = self.op(key);
        let cut = CutId(format!("cut-{key}"));
        let ingest = to.begin(&op, &self.machine, &cut, &plan).await?;
        let (mut tally, mut batch, mut records) = (Tally::new(&plan), 0, vec![]);
        for (disk, runs) in plan.disks() {
            for run in runs.iter().flat_map(|r| r.pieces(PAGE * 4)) {
                if run.end() <= ingest.resume.get(disk).copied().unwrap_or(0) {
                    tally.equal(disk, run);
                    continue;
                }
                let plain = &self.image[disk][run.start as usize..run.end() as usize];
                if cursor.is_none() {
                    let size = self.image[disk].len() as u64;
                    let block = run.aligned(HASH_BLOCK, size);
                    let whole = &self.image[disk][block.start as usize..block.end() as usize];
                    if to.hashes(&id, disk, block).await? == [site_recovery_record::hash(whole)] {
                        tally.equal(disk, run);
                        continue;
                    }
                }
                let form = site_recovery::Form::Plain;
                let codec = site_recovery_record::Codec::Raw;
                let packer = site_recovery_record::Packer::new(codec, Default::default());
                records.push(packer.pack(&id, disk, run, plain.to_vec().into(), form));
            }
        }
        for some in records.chunks(3) {
            if fate == Fate::Broken(batch) {
                return Ok(None);
            }
            for _ in 0..=dice.below(2) {
                to.write(&ingest, batch, some.to_vec()).await?;
            }
            some.iter().for_each(|r| tally.landed(r));
            batch += 1;
        }
        if fate != Fate::Sealed {
            return Ok(None);
        }
        let sealed = to.seal(&ingest, &self.manifest(&cut, now), tally.finish()?).await?;
        self.points.insert(sealed.id, self.image.clone());
        Ok(Some(sealed))
    }

    fn manifest(&self, cut: &CutId, cursor: Cursor) -> Manifest {
        let members = vec![self.machine.id().clone()];
        let item = Item::new(self.machine.clone(), self.op("item").epoch, Policy::default(), "out", "back");
        Manifest {
            machine: self.machine.clone(),
            members: members.clone(),
            cut: cut.clone(),
            taken: Timestamp(self.history.len() as u64),
            consistency: Consistency::Crash,
            cursor: Some(cursor),
            sidecars: vec![],
            control: Control { unit: "web".into(), members, item },
        }
    }

    /// Exactly what differs from the source at a cursor.
    pub fn since(&self, cursor: &Cursor) -> ChangeSet {
        let then = u64::from_le_bytes(cursor.token.clone().try_into().expect("a cursor of this source"));
        differing(&self.history[then as usize], &self.image)
    }

    /// A cursor at the source as it is now.
    pub fn cursor(&mut self) -> Cursor {
        self.history.push(self.image.clone());
        Cursor { generation: Generation(0), token: (self.history.len() as u64 - 1).to_le_bytes().to_vec() }
    }

    /// Every point that must be there is listed and opens with its bytes; returns what is listed.
    pub async fn verify(&self, at: &Arc<dyn MasterTarget>, why: &str) -> Vec<PointId> {
        let listed = at.points(self.machine.id()).await.expect("points");
        let ids: Vec<PointId> = listed.iter().map(|p| p.id).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]), "{why}: {ids:?} are not in order");
        for (id, image) in &self.points {
            assert!(ids.contains(id), "{why}: point {id} is not listed in {ids:?}");
            let disks =
                at.open(self.machine.id(), *id).await.unwrap_or_else(|e| panic!("{why}: open {id}: {e}"));
            same(why, &format!("point {id}"), &read_all(&disks).await, image);
        }
        ids
    }

    /// `changed` is never less than what differs, between any two points.
    pub async fn verify_changed(&self, at: &Arc<dyn MasterTarget>, why: &str) {
        let ids: Vec<PointId> = self.points.keys().copied().collect();
        for (n, from) in ids.iter().enumerate() {
            for to in &ids[n..] {
                let told = at
                    .changed(self.machine.id(), Some(*from), *to)
                    .await
                    .expect("changed")
                    .expect("it is known");
                for (disk, runs) in differing(&self.points[from], &self.points[to]).disks() {
                    let covered = runs.iter().all(|r| told.contains(disk, *r));
                    assert!(covered, "{why}: changed({from}, {to}) of {disk} lacks something: {told:?}");
                }
            }
        }
    }

    pub async fn recovery(&self, at: &Arc<dyn MasterTarget>, point: PointId, generation: u64) -> Recovery {
        let manifest = at.manifest(self.machine.id(), point).await.expect("manifest");
        Recovery::of(manifest, point, Generation(generation), Purpose::Failover, Settings::default())
    }

    pub async fn recovery_of(
        &self,
        at: &Arc<dyn MasterTarget>,
        armed: &site_recovery::Armed,
    ) -> Result<Recovery> {
        let manifest = at.manifest(self.machine.id(), armed.point).await?;
        let generation = armed.instance.generation;
        Ok(Recovery::of(manifest, armed.point, generation, Purpose::Failover, Settings::default()))
    }

    pub async fn permit(&self, op: &Op, instance: &Instance) -> BootPermit {
        let item = Item::new(
            self.machine.standing_as(instance.clone()),
            op.epoch.clone(),
            Policy::default(),
            "o",
            "b",
        );
        let proof = Fenced::prove(op, &item, Some(instance), &Sources::new(), Duration::ZERO).await;
        BootPermit::Fenced(proof.expect("no other instance exists"))
    }

    /// The instance that stands at the landing site before anything lands.
    pub fn existing(&self) -> Instance {
        Instance { site: "here".into(), name: "old".into(), ..self.machine.instance.clone() }
    }
}

pub fn differing(a: &Image, b: &Image) -> ChangeSet {
    let mut set = ChangeSet::new();
    for (disk, bytes) in a {
        for run in Run::new(0, bytes.len() as u64).pieces(PAGE) {
            let at = run.start as usize..run.end() as usize;
            if bytes[at.clone()] != b[disk][at] {
                set.add(disk, run);
            }
        }
    }
    set
}

pub async fn read_all(disks: &Disks) -> Image {
    let pool = Pool::new(1 << 20);
    let mut image = Image::new();
    for (id, disk) in disks {
        let mut bytes = vec![];
        for run in Run::new(0, disk.size()).pieces(50_000) {
            bytes.extend_from_slice(&disk.read(run, &pool).await.expect("read"));
        }
        let mut at = 0;
        for extent in disk.extents(Run::new(0, disk.size())).await.expect("extents") {
            assert_eq!(extent.run.start, at, "extents are apart");
            at = extent.run.end();
            let inside = &bytes[extent.run.start as usize..at as usize];
            assert!(
                extent.fill == site_recovery::Fill::Data || inside.iter().all(|b| *b == 0),
                "data told as zeros"
            );
        }
        assert_eq!(at, disk.size());
        image.insert(id.clone(), bytes);
    }
    image
}

#[track_caller]
pub fn same(why: &str, what: &str, found: &Image, expected: &Image) {
    for (disk, bytes) in expected {
        let pages = found[disk].chunks(PAGE as usize).zip(bytes.chunks(PAGE as usize));
        let wrong: Vec<usize> = pages.enumerate().filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
        assert!(
            wrong.is_empty() && found[disk].len() == bytes.len(),
            "{why}: {what}: pages {wrong:?} of {disk} are wrong"
        );
    }
}
