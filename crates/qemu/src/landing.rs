//! The site as a place for the way back to land on.

use crate::branch::must_be_whole;
use crate::description::{FILE, Format};
use crate::home::Home;
use crate::known::{Held, Known};
use crate::landed::{self, Landing};
use crate::making::Begun;
use crate::mark::{ArmedBy, How, Made, Mark, MarkedDisk};
use crate::rules::{self, DATASTORE, file_of};
use crate::sidecars::Kind;
use crate::tracking::{Link, Position, tag};
use crate::{QemuSite, Site};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, DiskId, DiskMut, DiskSpec, ErrorKind, Finding, Generation, Instance,
    LandingSite, Machine, Offer, Offers, Op, PointId, Purpose, Recovery, Result, Settings, Stamp, Survey,
};
use site_recovery_nbd::{Address, RemoteDisk};
use site_recovery_register::{durable, locked, refused};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How the names of the exports begin that landing disks are written by.
const HANDLES: &str = "dr-land-";

#[async_trait]
impl LandingSite for QemuSite {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let (machine, settings) = (machine.clone(), settings.clone());
        self.act("survey", move |site| {
            let mut findings = site.check_settings(&machine, &settings);
            findings.extend(site.check_space(&machine)?);
            let (free, size) = site.space()?;
            let place = Offer { name: DATASTORE.into(), size, free, ineligible: None };
            Ok(Survey { findings, offers: Offers { datastores: vec![place], retention_volumes: vec![] } })
        })
        .await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let (op, machine, settings) = (op.clone(), machine.clone(), settings.clone());
        self.act("attach", move |site| {
            Finding::refuse_critical(&site.check_settings(&machine, &settings), ErrorKind::Invalid)?;
            match existing {
                Some(instance) => site.attach_existing(&op, &machine, &instance),
                None => site.attach_new(&op, &machine, &settings),
            }
        })
        .await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let (instance, disk) = (instance.clone(), disk.clone());
        let (socket, export) = self.act("disk", move |site| site.landing_disk(&instance, &disk)).await?;
        let disk = RemoteDisk::builder(Address::Unix(socket), export).connect_writable().await;
        Ok(Arc::new(disk.map_err(|e| e.at(&self.0.name, "disk"))?))
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        let instance = instance.clone();
        // Nothing of QEMU counts starts: the start stays blocked for as long as the disks are ours.
        self.act("stamp", move |site| landed::of(&site.home_of(&instance)?).map(|_| None)).await
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("branch", move |site| site.branch(&op, &instance)).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("part", move |site| site.part(&op, &instance)).await
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("merge", move |site| site.merge(&op, &instance)).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("arm", move |site| site.arm(&op, &instance, generation)).await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("detach", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            must_be_whole(&home, &landed::of(&home)?)?;
            site.give_disks_back(&home)
        })
        .await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        let (op, instance, machine) = (op.clone(), instance.clone(), what.machine.id().clone());
        let purpose = what.purpose;
        self.act("start", move |site| {
            landed::of(&site.home_of(&instance)?)?;
            if machine != instance.machine {
                return Err(refused(format!("{} is no machine of {machine}", instance.name)));
            }
            site.boot(&op, &instance, purpose, permit)
        })
        .await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("stop", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            landed::of(&home)?;
            site.halt(&op, &home, grace, "stopped")
        })
        .await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("remove", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            site.remove_made(&op, &instance, &[How::Attached, How::Parted])
        })
        .await
    }
}

impl Site {
    fn attach_existing(&self, op: &Op, machine: &Machine, instance: &Instance) -> Result<Instance> {
        let _turn = self.register.turn(op, machine.id())?;
        let home = self.home_of(&Instance { machine: machine.id().clone(), ..instance.clone() })?;
        self.must_be_off(&home)?;
        let mut landing = landed::read(&home)?.unwrap_or_default();
        must_be_whole(&home, &landing)?;
        self.block(op, &home, "landing")?;
        let known = self.known_as_is(home.clone())?;
        self.make_room(&known, machine)?;
        let known = self.known(home.clone())?;
        let mark = match &known.mark {
            Some(mark) => landing_on(machine, known.with_sizes(mark.clone())),
            None => known.mark_as(&machine.standing_as(instance.clone()), None)?,
        };
        home.set_mark(&mark)?;
        landing.attached = true;
        landed::write(&home, &landing)?;
        Ok(self.instance(&home, &mark))
    }

    fn attach_new(&self, op: &Op, machine: &Machine, settings: &Settings) -> Result<Instance> {
        let _turn = self.register.turn(op, machine.id())?;
        let base = settings.name_for(machine, Purpose::Failover);
        let mut names = std::iter::once(base.clone()).chain((2_u64..).map(|n| format!("{base}-{n}")));
        let name = names.find(|n| !self.root.join(n).exists()).expect("there is always another number");
        let draft = match self.begin_making(op, machine.id(), &name)? {
            Begun::Already(_, instance) => return Ok(instance),
            Begun::New(draft) => draft,
        };
        let description = rules::describe(machine, settings, Kind::default());
        for (described, spec) in description.disks.iter().zip(machine.included()) {
            self.make_image(&draft.images().join(&described.file), described.format, spec.size)?;
        }
        durable::write(&draft.dir.join(FILE), &description)?;
        let label = Machine { disks: machine.included().cloned().collect(), ..machine.clone() };
        let made = Made { by: op.key.clone(), how: How::Attached };
        let mark = self.known(draft.clone())?.mark_as(&label, Some(made))?;
        landed::write(&draft, &Landing { attached: true, ..Landing::default() })?;
        let home = self.finish_making(op, &draft, &description, &mark, "landing")?;
        Ok(self.instance(&home, &mark))
    }

    /// Makes disks that are missing and grows those that are too small; the bytes that are there stay.
    fn make_room(&self, known: &Known, machine: &Machine) -> Result<()> {
        let found = known.machine(&self.name, None).disks;
        let held = |(at, spec): (usize, &DiskSpec)| -> Option<&Held> {
            let by_id = known.disks.iter().find(|d| d.spec.id == spec.id || d.local == spec.id.0);
            let by_place = || found.get(at).and_then(|f| known.disks.iter().find(|d| d.spec.id == f.id));
            by_id.or_else(|| if known.mark.is_none() { by_place() } else { None })
        };
        let missing: Vec<DiskSpec> =
            machine.included().enumerate().filter(|d| held(*d).is_none()).map(|(_, d)| d.clone()).collect();
        if known.home.is_branched()? && !missing.is_empty() {
            return Err(refused(format!("{} has a branch: no disk is added above it", known.home.name)));
        }
        for (held, spec) in machine.included().enumerate().filter_map(|d| Some((held(d)?, d.1))) {
            match &held.image {
                None => self.make_image(&held.path, held.format, spec.size)?,
                Some(image) if image.size < spec.size => {
                    self.end_store(&known.home)?;
                    self.grow_image(&held.path, held.format, spec.size)?;
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.end_store(&known.home)?;
        let mut description = known.description.clone();
        let added = Machine { disks: missing, nics: vec![], ..machine.clone() };
        let described = rules::describe(&added, &Settings::default(), Kind::default()).disks;
        for (one, spec) in described.iter().zip(&added.disks) {
            let path = known.home.images().join(file_of(spec, &Settings::default()));
            if !path.exists() {
                self.make_image(&path, one.format, spec.size)?;
            }
        }
        description.disks.extend(described);
        durable::write(&known.home.dir.join(FILE), &description)?;
        if let Some(mut mark) = known.mark.clone() {
            for held in self.known_as_is(known.home.clone())?.disks {
                let (id, size) = (held.spec.id, held.spec.size);
                mark.disks.entry(held.local).or_insert(MarkedDisk { id, size, included: true });
            }
            known.home.set_mark(&mark)?;
        }
        Ok(())
    }

    /// Serves one landing disk for writing, and says where.
    fn landing_disk(&self, instance: &Instance, disk: &DiskId) -> Result<(PathBuf, String)> {
        let home = self.home_of(instance)?;
        // Whoever ends handles from here on ends this one.
        let _lock = locked(&home.own("handles"))?;
        let landing = landed::of(&home)?;
        must_be_whole(&home, &landing)?;
        if landing.merging {
            return Err(refused(format!("{} is being merged: repeat that first", home.name)));
        }
        if !landing.attached {
            return Err(refused(format!("the disks of {} were given back: attach it again", home.name)));
        }
        let known = self.known(home.clone())?;
        let n = known.disk(disk)?.n;
        let mut layer = self.store(&home, &self.stacks(&known)?)?;
        let id = format!("{HANDLES}{n}");
        if !layer.exports()?.iter().any(|e| e.id == id) {
            let top = layer.top(n)?;
            layer.serve(&id, &top, &[], true)?;
        }
        Ok((layer.address().clone(), id))
    }

    fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        must_be_whole(&home, &landed::of(&home)?)?;
        let mark = home.marked()?;
        if !mark.armed.as_ref().is_some_and(|a| a.key == op.key && a.generation == generation) {
            let known = self.known(home.clone())?;
            let cursor = self.arm_tracking(op, &known, &mark, generation)?;
            let armed = ArmedBy { key: op.key.clone(), cursor, generation, point: PointId(0) };
            home.set_mark(&Mark { generation, armed: Some(armed), ..mark })?;
        }
        Ok(self.armed(&home, &home.marked()?).expect("it was armed just now"))
    }

    /// Begins bitmaps on disks that go on being written by us. Raw disks keep none: they are compared.
    fn arm_tracking(
        &self,
        op: &Op,
        known: &Known,
        mark: &Mark,
        generation: Generation,
    ) -> Result<Option<site_recovery::Cursor>> {
        if known.included().any(|d| d.format == Format::Raw) {
            return Ok(None);
        }
        let mut layer = self.store(&known.home, &self.stacks(known)?)?;
        let mut place = 0;
        for held in known.included() {
            let top = layer.top(held.n)?;
            place = layer.links(&top)?.iter().map(|l| l.place).max().unwrap_or(0).max(place);
        }
        let link = Link { generation: generation.0, place: place + 1, capture: tag(&op.key, &mark.machine) };
        for held in known.included() {
            let top = layer.top(held.n)?;
            layer.begin_bitmap(&top, &link, true)?;
            layer.freeze_older(&top, &link)?;
        }
        let position = Position {
            machine: mark.machine.clone(),
            bitmap: link.to_string(),
            sizes: known.included().map(|d| (d.spec.id.clone(), d.spec.size)).collect(),
        };
        Ok(Some(position.cursor(generation)))
    }

    /// Ends every landing handle. No new one is given while the guard lives: whoever changes what the disks stand on holds it
    /// until that is noted.
    pub(crate) fn end_handles(&self, home: &Home) -> Result<File> {
        let guard = locked(&home.own("handles"))?;
        if let Some(mut layer) = self.stored(home)? {
            for export in layer.exports()?.iter().filter(|e| e.id.starts_with(HANDLES)) {
                layer.end_export(&export.id)?;
            }
        }
        Ok(guard)
    }

    /// Ends every landing handle: from here on the disks are the machine's own.
    pub(crate) fn give_disks_back(&self, home: &Home) -> Result<()> {
        let Some(mut landing) = landed::read(home)? else { return Ok(()) };
        let _lock = locked(&home.own("handles"))?;
        landing.attached = false;
        landed::write(home, &landing)?;
        self.end_store(home)
    }
}

/// The mark, with every disk that lands here included.
fn landing_on(machine: &Machine, mut mark: Mark) -> Mark {
    for marked in mark.disks.values_mut() {
        marked.included |= machine.included().any(|d| d.id == marked.id);
    }
    mark
}
