//! The site as a place for the way back to land on.

use crate::branch::must_be_whole;
use crate::description::FILE;
use crate::disk::LandingDisk;
use crate::handles::Ticket;
use crate::home::{How, Known, Made, Mark, MarkedDisk};
use crate::landed::{self, Landing};
use crate::making::Begun;
use crate::rules::{self, DATASTORE};
use crate::{LocalSite, Site, copies};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, DiskId, DiskMut, DiskSpec, ErrorKind, Finding, Generation, Instance,
    LandingSite, Machine, Offer, Offers, Op, PointId, Recovery, Result, Settings, Stamp, Survey,
};
use site_recovery_register::durable;
use site_recovery_register::{Told, refused};
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl LandingSite for LocalSite {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let (machine, settings) = (machine.clone(), settings.clone());
        self.act("survey", move |site| {
            let mut findings = site.check_settings(&machine, &settings);
            findings.extend(site.check_space(&machine)?);
            let (free, size) = copies::space(&site.root)?;
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
        self.act("disk", move |site| {
            let home = site.home_of(&instance)?;
            // The ticket first: whoever ends handles from here on ends this one.
            let ticket = Ticket::take(&home)?;
            let landing = landed::of(&home)?;
            must_be_whole(&home, &landing)?;
            if !landing.attached {
                return Err(refused(format!("the disks of {} were given back: attach it again", home.name)));
            }
            let known = Known::read(home)?;
            Ok(Arc::new(LandingDisk::open(known.disk(&disk)?, ticket)?) as Arc<dyn DiskMut>)
        })
        .await
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        let instance = instance.clone();
        self.act("stamp", move |site| {
            let home = site.home_of(&instance)?;
            landed::of(&home)?;
            home.stamp().map(Some)
        })
        .await
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
            let home = site.home_of(&instance)?;
            must_be_whole(&home, &landed::of(&home)?)?;
            if machine != instance.machine {
                return Err(refused(format!("{} is no machine of {machine}", instance.name)));
            }
            site.launch(&op, &instance, purpose, permit)
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
        self.block(op, &home, false, "landing")?;
        let known = Known::read_as_is(home.clone())?;
        self.make_room(&known, machine)?;
        let known = Known::read_as_is(home.clone())?;
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
        let base = settings.name_for(machine, site_recovery::Purpose::Failover);
        let mut names = std::iter::once(base.clone()).chain((2_u64..).map(|n| format!("{base}-{n}")));
        let name = names.find(|n| !self.root.join(n).exists()).expect("there is always another number");
        let draft = match self.begin_making(op, machine.id(), &name)? {
            Begun::Already(_, instance) => return Ok(instance),
            Begun::New(draft) => draft,
        };
        let description = rules::describe(machine, settings, &[]);
        for (described, spec) in description.disks.iter().zip(machine.included()) {
            grow(&draft.dir.join(&described.file), spec)?;
        }
        durable::write(&draft.dir.join(FILE), &description)?;
        let label = Machine { disks: machine.included().cloned().collect(), ..machine.clone() };
        let made = Made { by: op.key.clone(), how: How::Attached };
        let mark = Known::read(draft.clone())?.mark_as(&label, Some(made))?;
        landed::write(&draft, &Landing { attached: true, ..Landing::default() })?;
        let home = self.finish_making(op, &draft, &description, &mark, "landing")?;
        Ok(self.instance(&home, &mark))
    }

    /// Makes disks that are missing and grows those that are too small; the bytes that are there stay.
    fn make_room(&self, known: &Known, machine: &Machine) -> Result<()> {
        let held = |(at, spec): (usize, &DiskSpec)| {
            let by_id = known.disks.iter().find(|d| d.spec.id == spec.id || d.local == spec.id.0);
            by_id.or(known.disks.get(at).filter(|_| known.mark.is_none()))
        };
        let missing: Vec<DiskSpec> =
            machine.included().enumerate().filter(|d| held(*d).is_none()).map(|(_, d)| d.clone()).collect();
        let branched = landed::read(&known.home)?.is_some_and(|l| l.branch.is_some());
        if branched && !missing.is_empty() {
            return Err(refused(format!("{} has a branch: no disk is added above it", known.home.name)));
        }
        for (held, spec) in machine.included().enumerate().filter_map(|d| Some((held(d)?, d.1))) {
            grow(&held.path, spec)?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut description = known.description.clone();
        let added = Machine { disks: missing, ..machine.clone() };
        let added_disks = rules::describe(&added, &Settings::default(), &[]).disks;
        for (described, spec) in added_disks.iter().zip(&added.disks) {
            grow(&known.home.dir.join(&described.file), spec)?;
        }
        description.disks.extend(added_disks);
        durable::write(&known.home.dir.join(FILE), &description)?;
        if let Some(mut mark) = known.mark.clone() {
            for held in Known::read_as_is(known.home.clone())?.disks {
                let (id, size) = (held.spec.id, held.spec.size);
                mark.disks.entry(held.local).or_insert(MarkedDisk { id, size, included: true });
            }
            known.home.set_mark(&mark)?;
        }
        Ok(())
    }

    fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        must_be_whole(&home, &landed::of(&home)?)?;
        let mark = home.marked()?;
        if !mark.armed.as_ref().is_some_and(|a| a.key == op.key && a.cursor.generation == generation) {
            let known = Known::read(home.clone())?;
            let armed = self.arm_tracking(&op.key, &known, &mark.machine, generation, PointId(0))?;
            home.set_mark(&Mark { generation, armed: Some(armed), ..mark })?;
        }
        Ok(self.armed(&home, &home.marked()?).expect("it was armed just now"))
    }
}

/// The mark, with every disk that lands here included.
fn landing_on(machine: &Machine, mut mark: Mark) -> Mark {
    for marked in mark.disks.values_mut() {
        marked.included |= machine.included().any(|d| d.id == marked.id);
    }
    mark
}

/// Makes a disk file, or makes it larger; never smaller.
fn grow(path: &Path, spec: &DiskSpec) -> Result<()> {
    if let Some(parent) = path.parent() {
        durable::make_dir(parent)?;
    }
    let options = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = options.told("open", path)?;
    if file.metadata().told("look at", path)?.len() < spec.size {
        file.set_len(spec.size).told("grow", path)?;
    }
    file.sync_all().told("sync", path)
}
