//! A machine's timeline at a replica, driven by hand: points with known bytes.

use super::case::{must, op};
use super::content::{Image, blank, covers, differing, pattern, records, same, whole};
use site_recovery::{
    ChangeSet, Consistency, Control, Cursor, CutId, DiskId, DiskRole, DiskSpec, Generation, Head, Ingest,
    Instance, Item, Landed, Machine, Manifest, Op, Point, PointId, Policy, Record, Replica, Result, Run,
    Seed, Settings, Tally, Timestamp,
};
use std::sync::Arc;

const PAGE: u64 = 4096;

/// Turns plain records into the form that a replica takes.
pub(super) type Dress = fn(Record) -> Record;

/// A machine of two disks, one of them no multiple of a page, as if it came from a site named `elsewhere`,
/// where people call it what no site takes as a name.
pub fn machine(id: &str) -> Machine {
    let disk = |id: &str, size, role| DiskSpec { id: id.into(), size, role, included: true };
    Machine {
        instance: Instance {
            machine: id.into(),
            site: "elsewhere".into(),
            name: id.into(),
            generation: Generation(0),
        },
        title: Some(format!("{id}/시험")),
        disks: vec![
            disk("system", 256 * 1024, DiskRole::System),
            disk("data", 17 * PAGE + 1536, DiskRole::Data),
        ],
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Default::default(),
        os: Default::default(),
        platform: Default::default(),
        guest: Default::default(),
    }
}

/// A position that the suite makes up.
pub(super) fn cursor(number: u64) -> Cursor {
    Cursor { generation: Generation(0), token: number.to_le_bytes().to_vec() }
}

/// What is sealed in the suite's points.
pub(super) fn manifest(machine: &Machine, cut: &CutId, number: u64) -> Manifest {
    let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
    let members = vec![machine.id().clone()];
    Manifest {
        machine: machine.clone(),
        members: members.clone(),
        cut: cut.clone(),
        taken: Timestamp(number * 1_000),
        consistency: Consistency::Crash,
        cursor: Some(cursor(number)),
        sidecars: vec![],
        control: Control { unit: machine.id().as_str().into(), members, item },
    }
}

/// A timeline and everything that was sealed on it.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Whose.
    pub(super) machine: Machine,
    /// The source's bytes.
    pub(super) image: Image,
    /// What was sealed, oldest first.
    pub(super) sealed: Vec<(Point, Image)>,
    dress: Dress,
}

impl Timeline {
    /// Opens it from nothing.
    pub(super) async fn open(
        rule: &str,
        replica: &Arc<dyn Replica>,
        machine: Machine,
        settings: &Settings,
        dress: Dress,
    ) -> Self {
        let op = op(&format!("prepare-{}", machine.id()));
        let prepared = replica.prepare(&op, &machine, &Seed::Fresh, settings).await;
        must(rule, "prepare", prepared);
        Self { image: blank(&machine), machine, sealed: vec![], dress }
    }

    /// Opens it on disks that stand there, at an unknown distance.
    pub(super) async fn land_on(
        rule: &str,
        replica: &Arc<dyn Replica>,
        machine: Machine,
        existing: &Instance,
        settings: &Settings,
        dress: Dress,
    ) -> Self {
        let seed = Seed::Unknown { landing: Some(existing.clone()) };
        must(rule, "prepare", replica.prepare(&op("prepare"), &machine, &seed, settings).await);
        Self { image: blank(&machine), machine, sealed: vec![], dress }
    }

    /// Opens it and seals points 1 to `points`.
    pub(super) async fn with_points(
        rule: &str,
        replica: &Arc<dyn Replica>,
        machine: Machine,
        settings: &Settings,
        dress: Dress,
        points: u64,
    ) -> Self {
        let mut line = Self::open(rule, replica, machine, settings, dress).await;
        for number in 1..=points {
            line.cut(rule, replica, number).await;
        }
        line
    }

    /// Writes something new at the source. Returns what may differ from before.
    pub(super) fn change(&mut self, number: u64) -> ChangeSet {
        let before = self.image.clone();
        if self.sealed.is_empty() {
            for bytes in &mut self.image {
                let half = bytes.len() / 2;
                bytes[..half].copy_from_slice(&pattern(1_000 + number, half));
            }
            return ChangeSet::whole(self.machine.included());
        }
        for (disk, bytes) in self.image.iter_mut().enumerate() {
            let pages = bytes.len() as u64 / PAGE;
            let start = (number * 5 % (pages - 2) * PAGE) as usize;
            bytes[start..start + 6000].copy_from_slice(&pattern(number * 10 + disk as u64, 6000));
            let end = bytes.len();
            bytes[end - 100..].copy_from_slice(&pattern(number * 10 + 7, 100));
        }
        differing(&self.machine, &before, &self.image).aligned(PAGE, &self.machine.disks)
    }

    /// Writes something new at the source and seals it as a point.
    pub(super) async fn cut(&mut self, rule: &str, replica: &Arc<dyn Replica>, number: u64) -> Point {
        let set = self.change(number);
        self.ship(rule, replica, number, &set).await
    }

    /// Seals the source's bytes, of which at most `set` is new.
    pub(super) async fn ship(
        &mut self,
        rule: &str,
        replica: &Arc<dyn Replica>,
        number: u64,
        set: &ChangeSet,
    ) -> Point {
        let point = must(rule, "an ingest", self.try_ship(replica, &op_of(number), number, set).await);
        self.sealed.push((point.clone(), self.image.clone()));
        point
    }

    /// `begin`, what is missing, `seal`.
    pub(super) async fn try_ship(
        &self,
        replica: &Arc<dyn Replica>,
        op: &Op,
        number: u64,
        set: &ChangeSet,
    ) -> Result<Point> {
        let ingest = replica.begin(op, &self.machine, &cut_of(number), set).await?;
        let tally = self.write(replica, &ingest, set).await?;
        let manifest = manifest(&self.machine, &cut_of(number), number);
        replica.seal(&ingest, &manifest, tally.finish()?).await
    }

    /// Writes all that is not below `resume`.
    pub(super) async fn write(
        &self,
        replica: &Arc<dyn Replica>,
        ingest: &Ingest,
        set: &ChangeSet,
    ) -> Result<Tally> {
        let set = set.aligned(PAGE, &self.machine.disks);
        let mut tally = Tally::new(&set);
        let mut left = vec![];
        for record in self.records(&set) {
            if record.run.end() <= ingest.resume.get(&record.disk).copied().unwrap_or(0) {
                tally.equal(&record.disk, record.run);
            } else {
                left.push(record);
            }
        }
        for (batch, records) in left.chunks(2).enumerate() {
            replica.write(ingest, batch as u64, records.to_vec()).await?;
            records.iter().for_each(|r| tally.landed(r));
        }
        Ok(tally)
    }

    /// The source's bytes in records of the form that the replica takes.
    pub(super) fn records(&self, set: &ChangeSet) -> Vec<Record> {
        records(&self.machine, &self.image, set).into_iter().map(self.dress).collect()
    }

    /// Asserts that a sealed point opens with exactly its bytes.
    pub(super) async fn opens(&self, rule: &str, replica: &Arc<dyn Replica>, point: usize) {
        let (point, expected) = &self.sealed[point];
        let disks = must(rule, "open", replica.open(self.machine.id(), point.id).await);
        let machine = self.as_of(expected);
        let found = whole(rule, "read of a point", &machine, &disks).await;
        same(rule, &format!("point {}", point.id), &machine, &found, expected);
    }

    /// The ids of all points that are listed.
    pub(super) async fn listed(&self, rule: &str, replica: &Arc<dyn Replica>) -> Vec<PointId> {
        let points = must(rule, "points", replica.points(self.machine.id()).await);
        points.iter().map(|p| p.id).collect()
    }

    /// The id of a sealed point.
    pub(super) fn id(&self, point: usize) -> PointId {
        self.sealed[point].0.id
    }

    /// Asserts that the head is unsettled and tells at least `needed`; returns its cursor.
    pub(super) async fn unsettled(
        &self,
        rule: &str,
        replica: &Arc<dyn Replica>,
        needed: &ChangeSet,
    ) -> Option<Cursor> {
        match must(rule, "head", replica.head(self.machine.id()).await) {
            Head::Unsettled { cursor, touched, .. } => {
                covers(rule, "touched", &touched, needed);
                cursor
            }
            head => panic!("{rule}: the head is {head:?}, not Unsettled"),
        }
    }

    fn as_of(&self, image: &Image) -> Machine {
        let mut machine = self.machine.clone();
        for (spec, bytes) in machine.disks.iter_mut().zip(image) {
            spec.size = bytes.len() as u64;
        }
        machine
    }
}

/// The cut of the suite's n-th point.
pub(super) fn cut_of(number: u64) -> CutId {
    format!("cut-{number}").into()
}

/// The operation of the suite's n-th ingest.
pub(super) fn op_of(number: u64) -> Op {
    op(&format!("cycle-{number}"))
}

/// One run of one disk.
pub(super) fn set_of(disk: &DiskId, run: Run) -> ChangeSet {
    [(disk.clone(), run)].into_iter().collect()
}

/// What is below `landed`.
pub(super) fn below(landed: &Landed, disk: &DiskId) -> u64 {
    landed.get(disk).copied().unwrap_or(0)
}
