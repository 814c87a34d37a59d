use crate::Fault;
use crate::fault::{Gate, anew, forge, fresh, is};
use crate::target::later;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, Disk, DiskId, DiskMut, Error, ErrorKind, Extent, Fill, Generation,
    Instance, LandingSite, Machine, MachineId, Op, Pool, Recovery, Result, Role, RoleName, Run, Settings,
    Stamp, Survey,
};
use site_recovery_testkit::world::Site;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const FAULTS: &[Fault] = &[
    ("LND-1", "a handle that ended opens itself again"),
    ("LND-2", "a stamp of nobody is none"),
    ("LND-2", "a machine that was never attached is stopped"),
    ("LND-3", "a running machine is stopped and taken"),
    ("LND-3", "attach writes a label on the disk"),
    ("LND-3", "a smaller disk stays smaller"),
    ("LND-3", "an attached machine can be started, and nothing tells"),
    ("LND-4", "every look changes the stamp"),
    ("LND-4", "the stamp never changes"),
    ("LND-5", "part keeps nothing of what was above"),
    ("LND-5", "part merges"),
    ("LND-5", "a second branch is made"),
    ("LND-5", "merge leaves the branch"),
    ("LND-6", "tracking begins after the first write"),
    ("LND-7", "any permit will do"),
    ("LND-7", "leave for a drill will do"),
    ("LND-7", "a repeat of start starts again"),
    ("LND-8", "remove takes anything"),
    ("LND-8", "gone already is an error"),
    ("ROL-1", "a repeat of attach makes another"),
    ("ROL-2", "the register is not checked"),
    ("ROL-2", "the register is kept in memory"),
    ("DSM-1", "writes are seen by their own handle alone"),
    ("DSM-1", "a handle sees the disk as it was opened"),
    ("DSM-2", "zero does nothing"),
    ("DSM-2", "zero takes one page more"),
    ("DSM-3", "flush leaves zeros in memory"),
    ("DSK-1", "the size is what is left"),
    ("DSK-2", "extents pass the end"),
    ("DSK-3", "data is told as zero"),
    ("DSK-4", "reads are in memory of their own"),
];

/// A landing site that does wrong what is wrong now.
#[derive(Debug)]
pub(crate) struct BrokenLanding {
    site: Site,
    honest: Arc<dyn LandingSite>,
    gate: Gate,
    /// Whether the disks went back to the machine.
    detached: Mutex<bool>,
    /// Runs that were zeroed in memory alone.
    zeroed: Arc<Mutex<Vec<Run>>>,
}

impl BrokenLanding {
    pub(crate) fn new(site: Site, honest: Arc<dyn LandingSite>) -> Self {
        Self { site, honest, gate: Gate::default(), detached: Mutex::default(), zeroed: Arc::default() }
    }

    fn runs(&self, name: &str) -> bool {
        self.site.running().iter().any(|n| n == name)
    }
}

#[async_trait]
impl Role for BrokenLanding {
    fn name(&self) -> RoleName {
        self.honest.name()
    }

    fn capability(&self) -> Capability {
        self.honest.capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let op = self.gate.pass(op, machine, "claim")?;
        self.honest.claim(&op, machine).await
    }
}

#[async_trait]
impl LandingSite for BrokenLanding {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.honest.survey(machine, settings).await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let mut op = self.gate.pass(op, machine.id(), "attach")?;
        let mut machine = machine.clone();
        if is("a repeat of attach makes another") {
            op = anew(&op);
        }
        if is("a running machine is stopped and taken")
            && let Some(existing) = &existing
        {
            self.site.stop_outside(&existing.name);
        }
        if is("a smaller disk stays smaller")
            && let Some(real) = existing.as_ref().and_then(|e| self.site.machine(&e.name))
        {
            machine.disks = real.disks;
        }
        let attached = self.honest.attach(&op, &machine, existing.clone(), settings).await?;
        if is("attach writes a label on the disk") {
            let disk = self.honest.disk(&attached, &machine.disks[0].id).await?;
            disk.write(0, Bytes::from_static(&[7; 4096])).await?;
        }
        Ok(attached)
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let honest = self.honest.disk(instance, disk).await?;
        let opened = honest.read(Run::new(0, honest.size()), &Pool::new(4 << 20)).await?;
        Ok(Arc::new(LyingDisk {
            honest,
            opened: is("a handle sees the disk as it was opened").then_some(opened),
            site: Arc::clone(&self.honest),
            instance: instance.clone(),
            disk: disk.clone(),
            own: Mutex::default(),
            reads: Mutex::default(),
            zeroed: Arc::clone(&self.zeroed),
        }))
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        let stamp = self.honest.stamp(instance).await;
        if is("a stamp of nobody is none") && stamp.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            return Ok(None);
        }
        let stamp = stamp?;
        if is("an attached machine can be started, and nothing tells") && !*self.detached.lock().unwrap() {
            return Ok(None);
        }
        if is("every look changes the stamp") {
            return Ok(Some(Stamp(fresh().to_le_bytes().to_vec())));
        }
        Ok(if is("the stamp never changes") { Some(Stamp(vec![1])) } else { stamp })
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "branch")?;
        if is("a second branch is made") {
            self.honest.merge(&op.part("merge"), instance).await?;
        }
        self.honest.branch(&op, instance).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let op = self.gate.pass(op, &instance.machine, "part")?;
        if is("part merges") {
            self.honest.merge(&op, instance).await?;
            return Ok(instance.clone());
        }
        let above = self.honest.part(&op, instance).await?;
        if is("part keeps nothing of what was above") && self.site.machine("emptied").is_none() {
            self.site.add_machine("emptied", &[("system", 256 * 1024), ("data", 128 * 1024 + 512)]);
            self.site.stop_outside("emptied");
        }
        let name =
            if is("part keeps nothing of what was above") { "emptied".into() } else { above.name.clone() };
        Ok(Instance { name, ..above })
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "merge")?;
        if is("merge leaves the branch") && self.runs(&instance.name) {
            return self.honest.claim(&op, &instance.machine).await;
        }
        self.honest.merge(&op, instance).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let op = self.gate.pass(op, &instance.machine, "arm")?;
        let mut armed = self.honest.arm(&op, instance, generation).await?;
        if is("tracking begins after the first write") {
            armed.cursor = armed.cursor.map(|c| later(&c, 1));
        }
        Ok(armed)
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "detach")?;
        *self.detached.lock().unwrap() = true;
        self.honest.detach(&op, instance).await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        let mut passed = self.gate.pass(op, &instance.machine, "start")?;
        if is("a repeat of start starts again") {
            passed = anew(&passed);
        }
        let admitted = permit.admits(op, instance, what.purpose).is_ok();
        let drill = is("leave for a drill will do") && matches!(permit, BootPermit::Isolated { .. });
        if (is("any permit will do") || drill || passed.epoch != op.epoch && admitted)
            && let Some(machine) = self.site.machine(&instance.name)
        {
            let permit = forge(&passed, &machine.standing_as(instance.clone())).await;
            return self.honest.start(&passed, instance, what, permit).await;
        }
        self.honest.start(&passed, instance, what, permit).await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "stop")?;
        let stopped = self.honest.stop(&op, instance, grace).await;
        if is("a machine that was never attached is stopped")
            && stopped.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound)
            && self.site.machine(&instance.name).is_some()
        {
            self.site.stop_outside(&instance.name);
            return Ok(());
        }
        stopped
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "remove")?;
        if is("gone already is an error") && self.site.machine(&instance.name).is_none() {
            return Err(Error::new(ErrorKind::NotFound, "no such machine"));
        }
        if is("remove takes anything") {
            self.honest.claim(&op, &instance.machine).await?;
            self.site.destroy_outside(&instance.name);
            return Ok(());
        }
        self.honest.remove(&op, instance).await
    }
}

#[derive(Debug)]
struct LyingDisk {
    honest: Arc<dyn DiskMut>,
    /// What it held when it was opened, where that is all that is seen.
    opened: Option<Bytes>,
    site: Arc<dyn LandingSite>,
    instance: Instance,
    disk: DiskId,
    /// What this handle alone sees.
    own: Mutex<Vec<(u64, Bytes)>>,
    reads: Mutex<u64>,
    zeroed: Arc<Mutex<Vec<Run>>>,
}

#[async_trait]
impl Disk for LyingDisk {
    fn size(&self) -> u64 {
        let read = *self.reads.lock().unwrap();
        self.honest.size() - if is("the size is what is left") { read * 512 } else { 0 }
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let mut extents = self.honest.extents(range).await?;
        if is("extents pass the end")
            && let Some(last) = extents.last_mut()
        {
            last.run.len = range.end() - last.run.start;
        }
        if is("data is told as zero") {
            extents.iter_mut().for_each(|e| e.fill = Fill::Zero);
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        *self.reads.lock().unwrap() += 1;
        if is("reads are in memory of their own") {
            return Ok(Bytes::copy_from_slice(&self.honest.read(run, &Pool::new(4 << 20)).await?));
        }
        let bytes = self.honest.read(run, pool).await?;
        let (own, zeroed) = (self.own.lock().unwrap().clone(), self.zeroed.lock().unwrap().clone());
        if own.is_empty() && zeroed.is_empty() && self.opened.is_none() {
            return Ok(bytes);
        }
        let mut seen = match &self.opened {
            Some(opened) => opened[run.start as usize..run.end() as usize].to_vec(),
            None => bytes.to_vec(),
        };
        let zeros = zeroed.into_iter().map(|run| (run.start, Bytes::from(vec![0; run.len as usize])));
        for (start, data) in own.into_iter().chain(zeros) {
            let written = Run::new(start, data.len() as u64);
            if let Some(both) = written.intersection(run) {
                let (to, from) = ((both.start - run.start) as usize, (both.start - start) as usize);
                seen[to..to + both.len as usize].copy_from_slice(&data[from..from + both.len as usize]);
            }
        }
        drop(bytes);
        let mut block = pool.take(seen.len()).await?;
        block.copy_from_slice(&seen);
        Ok(block.freeze())
    }
}

#[async_trait]
impl DiskMut for LyingDisk {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        if is("writes are seen by their own handle alone") {
            self.own.lock().unwrap().push((start, data));
            return Ok(());
        }
        if self.opened.is_some() {
            self.own.lock().unwrap().push((start, data.clone()));
        }
        let written = self.honest.write(start, data.clone()).await;
        if is("a handle that ended opens itself again") && written.is_err() {
            return self.site.disk(&self.instance, &self.disk).await?.write(start, data).await;
        }
        written
    }

    async fn zero(&self, run: Run) -> Result<()> {
        if is("zero does nothing") {
            return Ok(());
        }
        if is("flush leaves zeros in memory") {
            self.zeroed.lock().unwrap().push(run);
            return Ok(());
        }
        if self.opened.is_some() {
            self.own.lock().unwrap().push((run.start, Bytes::from(vec![0; run.len as usize])));
        }
        let more = if is("zero takes one page more") { 4096 } else { 0 };
        self.honest.zero(Run::new(run.start, run.len + more)).await
    }

    async fn flush(&self) -> Result<()> {
        if is("writes are seen by their own handle alone") {
            let own = std::mem::take(&mut *self.own.lock().unwrap());
            for (start, data) in own {
                self.honest.write(start, data).await?;
            }
        }
        if is("a handle that ended opens itself again") {
            return Ok(());
        }
        self.honest.flush().await
    }
}
