use crate::Fault;
use crate::bytes::{Copied, lying};
use crate::fault::{Gate, anew, dawdle, forge, is};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, ChangeSet, Changes, Consistency, Cursor, CutId, Disk, Disks, Error,
    ErrorKind, Fate, Instance, Lifted, Machine, MachineId, Op, OpKey, Power, Purpose, Result, Role, RoleName,
    Source, Start, StartGuard,
};
use site_recovery_testkit::world::Site;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const FAULTS: &[Fault] = &[
    ("SRC-1", "discover leaves out what it cannot describe"),
    ("SRC-2", "the mark is kept in memory"),
    ("SRC-2", "enrol writes over another's mark"),
    ("SRC-2", "enrol includes every disk"),
    ("SRC-3", "members are captured one after the other"),
    ("SRC-3", "a group capture keeps what did not fail"),
    ("SRC-3", "a machine that is off is not captured"),
    ("SRC-3", "a machine that is off is captured as zeros"),
    ("SRC-4", "a capture is read as the disk is now"),
    ("SRC-4", "a release lets go of every capture"),
    ("SRC-4", "a start shows through a capture of a machine that was off"),
    ("SRC-5", "consistency is told as asked for"),
    ("SRC-5", "less consistency comes without a reason"),
    ("SRC-5", "the machine is left paused"),
    ("SRC-6", "a repeat captures anew"),
    ("SRC-7", "changes drop a run"),
    ("SRC-7", "a doubtful cursor has no changes"),
    ("SRC-7", "a cursor of another generation is taken"),
    ("SRC-8", "a sealed capture's tracking goes with it"),
    ("SRC-8", "a spooled capture takes older tracking along"),
    ("SRC-8", "an abandoned capture takes older tracking along"),
    ("SRC-8", "a second release is an error"),
    ("SRC-9", "a sweep takes what is kept"),
    ("SRC-9", "a sweep leaves everything"),
    ("SRC-9", "a sweep takes tracking along"),
    ("SRC-9", "a sweep tells keys as the platform spells them"),
    ("SRC-9", "keys are cut to the length of a label"),
    ("SRC-10", "power is remembered"),
    ("SRC-10", "silence is off"),
    ("SRC-10", "off is not found"),
    ("SRC-11", "fence blocks nothing"),
    ("SRC-11", "fence only says that it blocks"),
    ("SRC-11", "the block is kept in memory"),
    ("SRC-11", "fence refuses a machine that is off"),
    ("SRC-12", "a shutdown that was asked for is forgotten"),
    ("SRC-13", "as before starts nothing"),
    ("SRC-13", "as before starts everything"),
    ("SRC-13", "a repeat of unfence starts again"),
    ("SRC-13", "a late repeat lifts a newer fence"),
    ("SRC-14", "any permit will do"),
    ("SRC-14", "leave for a drill will do"),
    ("SRC-15", "consolidate leaves the snapshots"),
    ("SRC-15", "consolidate goes back to the snapshot"),
    ("SRC-15", "consolidate merges under a machine that runs"),
    ("SRC-15", "consolidate lifts the fence"),
    ("ROL-1", "a capture's key is kept in memory"),
    ("ROL-2", "the register is not checked"),
    ("ROL-2", "the register is kept in memory"),
    ("ROL-2", "only claim raises the register"),
    ("ROL-2", "disks passes the register by"),
    ("ROL-2", "consolidate passes the register by"),
    ("ROL-3", "enrol takes any description"),
    ("ROL-3", "enrol marks before it checks"),
    ("ROL-4", "a capture begins with a draft"),
    ("ROL-6", "fence believes its note"),
    ("ROL-7", "dismiss stops the machine"),
    ("ROL-7", "dismiss leaves captures"),
    ("ROL-8", "fence dawdles after the check"),
    ("DSK-1", "size grows with the reads"),
    ("DSK-2", "extents leave a gap"),
    ("DSK-2", "extents pass the end"),
    ("DSK-3", "data is told as zero"),
    ("DSK-4", "a read past the end is cut"),
    ("DSK-4", "reads are in memory of their own"),
    ("DSK-5", "a later read differs"),
];

#[derive(Debug)]
pub(crate) struct BrokenSource {
    site: Site,
    honest: Arc<dyn Source>,
    gate: Gate,
    notes: Mutex<Notes>,
}

/// What it holds in memory.
#[derive(Debug, Default)]
struct Notes {
    marked: Vec<String>,
    captured: BTreeMap<OpKey, Capture>,
    released: Vec<CutId>,
    /// Captures of machines that were off.
    off: Vec<CutId>,
    power: BTreeMap<String, Power>,
    fenced: Vec<String>,
}

impl BrokenSource {
    pub(crate) fn new(site: Site, honest: Arc<dyn Source>) -> Self {
        Self { site, honest, gate: Gate::default(), notes: Mutex::default() }
    }

    /// The captures of the members, where each is one of its own.
    fn apart(capture: &Capture, machine: &MachineId) -> Capture {
        let member = capture.member(machine).cloned();
        let cut = CutId(format!("{}/{machine}", capture.cut));
        Capture { cut, members: member.into_iter().collect(), ..capture.clone() }
    }

    async fn one_after_the_other(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let mut whole: Option<Capture> = None;
        for instance in of {
            let (op, one) = (op.part(instance.machine.as_str()), [instance.clone()]);
            let captured = self.honest.capture(&op, &one, want).await?;
            match &mut whole {
                Some(whole) => whole.members.extend(captured.members),
                None => whole = Some(captured),
            }
            dawdle().await;
        }
        let whole =
            whole.ok_or_else(|| Error::invalid("of", "empty", "a capture has members", "name one"))?;
        Ok(Capture { cut: CutId(op.key.0.clone()), ..whole })
    }

    fn is_apart(&self) -> bool {
        is("members are captured one after the other")
    }

    fn now(&self, instance: &Instance) -> Disks {
        let machine = self.site.machine(&instance.name).expect("it is there");
        let bytes = self.site.bytes(&instance.name);
        let labels = ["system", "data"];
        let disk = |at: usize| Arc::new(Copied(bytes[labels[at]].clone())) as Arc<dyn Disk>;
        machine.disks.iter().enumerate().map(|(at, d)| (d.id.clone(), disk(at))).collect()
    }
}

#[async_trait]
impl Role for BrokenSource {
    fn name(&self) -> RoleName {
        self.honest.name()
    }

    fn capability(&self) -> Capability {
        let honest = self.honest.capability();
        if is("consistency is told as asked for") || is("less consistency comes without a reason") {
            return Capability { freezes: false, quiesces_applications: false, ..honest };
        }
        honest
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let op = self.gate.pass(op, machine, "claim")?;
        if is("a shutdown that was asked for is forgotten") {
            return self.site.claim(&op, machine).await;
        }
        self.honest.claim(&op, machine).await
    }
}

#[async_trait]
impl Source for BrokenSource {
    async fn discover(&self) -> Result<Vec<Machine>> {
        let told = self.honest.discover().await;
        if is("discover leaves out what it cannot describe") && told.is_err() {
            return Ok(vec![]);
        }
        let mut told = told?;
        if is("the mark is kept in memory") {
            let notes = self.notes.lock().unwrap();
            let unmarked = |m: &&mut Machine| !notes.marked.contains(&m.instance.name);
            for machine in told.iter_mut().filter(unmarked) {
                machine.instance.machine = machine.instance.name.as_str().into();
            }
        }
        Ok(told)
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let op = self.gate.pass(op, machine.id(), "enrol")?;
        if is("enrol marks before it checks")
            && let Some(real) = self.site.machine(&machine.instance.name)
        {
            let disks = real.disks.clone();
            self.honest.enrol(&op, &Machine { disks, ..machine.clone() }).await?;
        }
        let mut machine = machine.clone();
        if is("enrol includes every disk") {
            machine.disks.iter_mut().for_each(|d| d.included = true);
        }
        let machine = &machine;
        let mut enrolled = self.honest.enrol(&op, machine).await;
        if is("enrol writes over another's mark")
            && enrolled.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict)
        {
            self.honest.dismiss(&op, &machine.instance).await?;
            enrolled = self.honest.enrol(&op, machine).await;
        }
        if is("enrol takes any description") && enrolled.is_err() {
            return Ok(());
        }
        self.notes.lock().unwrap().marked.push(machine.instance.name.clone());
        enrolled
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "dismiss")?;
        if is("dismiss leaves captures") {
            return Ok(());
        }
        self.honest.dismiss(&op, instance).await?;
        if is("dismiss stops the machine") {
            self.site.stop_outside(&instance.name);
        }
        Ok(())
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let mut op = self.gate.pass(op, &of[0].machine, "capture")?;
        if is("keys are cut to the length of a label") {
            op.key.0.truncate(63);
        }
        let op = &op;
        if self.is_apart() {
            return self.one_after_the_other(op, of, want).await;
        }
        if is("a capture begins with a draft") {
            let draft = self.honest.capture(&anew(op), of, want).await?;
            dawdle().await;
            self.honest.release(&op.part("release"), &draft, &of[0].machine, Fate::Abandoned).await?;
        }
        let off = self.honest.power(&of[0]).await.is_ok_and(|p| p != Power::On);
        if is("a machine that is off is not captured") && off {
            return Err(Error::new(ErrorKind::Refused, "it is off"));
        }
        let known = self.notes.lock().unwrap().captured.get(&op.key).cloned();
        let again = is("a repeat captures anew") && known.is_some()
            || is("a capture's key is kept in memory") && known.is_none();
        if again {
            let earlier = self.honest.capture(op, of, want).await?;
            self.honest.release(&op.part("release"), &earlier, &of[0].machine, Fate::Abandoned).await?;
        }
        let mut captured = self.honest.capture(op, of, want).await;
        if is("a group capture keeps what did not fail") && captured.is_err() {
            self.honest.capture(&op.part("kept"), &of[..1], want).await?;
        }
        if let Ok(captured) = &mut captured {
            if is("consistency is told as asked for") {
                captured.consistency = want;
            }
            if is("less consistency comes without a reason") {
                captured.consistency = Consistency::Crash;
            }
            if is("the machine is left paused") && want > Consistency::Crash {
                self.site.stop_outside(&of[0].name);
            }
            let mut notes = self.notes.lock().unwrap();
            notes.captured.insert(op.key.clone(), captured.clone());
            notes.off.extend(off.then(|| captured.cut.clone()));
        }
        captured
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let mut since = since.clone();
        if is("a cursor of another generation is taken") {
            let here = capture.member(machine).map(|m| m.machine.instance.generation);
            since.generation = here.unwrap_or(since.generation);
        }
        let apart = if self.is_apart() { Self::apart(capture, machine) } else { capture.clone() };
        let changes = self.honest.changes(&apart, machine, &since).await?;
        Ok(match changes {
            Changes::Lost { .. } if is("a doubtful cursor has no changes") => {
                Changes::Known(ChangeSet::new())
            }
            Changes::Known(told) if is("changes drop a run") => Changes::Known(without_the_last_run(&told)),
            changes => changes,
        })
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let op = self.gate.pass(op, machine, "disks")?;
        if is("a capture is read as the disk is now") {
            let member = capture.member(machine).expect("a member");
            return Ok(self.now(&member.machine.instance));
        }
        let apart = if self.is_apart() { Self::apart(capture, machine) } else { capture.clone() };
        let disks = self.honest.disks(&op, &apart, machine).await;
        if is("disks passes the register by")
            && disks.as_ref().is_err_and(|e| e.kind() == ErrorKind::StaleEpoch)
        {
            let member = capture.member(machine).expect("a member");
            return Ok(self.now(&member.machine.instance));
        }
        let off = self.notes.lock().unwrap().off.contains(&capture.cut);
        if is("a start shows through a capture of a machine that was off") && off {
            let instance = &capture.member(machine)?.machine.instance;
            if self.site.running().contains(&instance.name) {
                return Ok(self.now(instance));
            }
        }
        if is("a machine that is off is captured as zeros") && off {
            let zeros =
                |disk: &Arc<dyn Disk>| Arc::new(Copied(vec![0; disk.size() as usize])) as Arc<dyn Disk>;
            return Ok(disks?.iter().map(|(id, disk)| (id.clone(), zeros(disk))).collect());
        }
        disks.map(lying)
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let op = self.gate.pass(op, machine, "release")?;
        let again = self.notes.lock().unwrap().released.contains(&capture.cut);
        if is("a second release is an error") && again {
            return Err(Error::new(ErrorKind::NotFound, "no such capture"));
        }
        self.notes.lock().unwrap().released.push(capture.cut.clone());
        let forgets = match fate {
            Fate::Sealed => is("a sealed capture's tracking goes with it"),
            Fate::Spooled => is("a spooled capture takes older tracking along"),
            Fate::Abandoned => is("an abandoned capture takes older tracking along"),
        };
        if forgets {
            self.site.forget_tracking();
        }
        if is("a release lets go of every capture") {
            let all = self.notes.lock().unwrap().captured.clone();
            for other in all.values().filter(|c| c.cut != capture.cut && c.member(machine).is_ok()) {
                self.honest.release(&op.part(other.cut.as_str()), other, machine, Fate::Abandoned).await?;
            }
        }
        let apart = if self.is_apart() { Self::apart(capture, machine) } else { capture.clone() };
        self.honest.release(&op, &apart, machine, fate).await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let op = self.gate.pass(op, &instance.machine, "sweep")?;
        if is("a sweep leaves everything") {
            return Ok(vec![]);
        }
        if is("a sweep takes tracking along") {
            self.site.forget_tracking();
        }
        let keep = if is("a sweep takes what is kept") { &[] } else { keep };
        let swept = self.honest.sweep(&op, instance, keep).await?;
        if is("a sweep tells keys as the platform spells them") {
            return Ok(swept.into_iter().map(|key| OpKey(key.to_name())).collect());
        }
        Ok(swept)
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "consolidate")?;
        let runs = matches!(self.honest.power(instance).await?, Power::On);
        if is("consolidate leaves the snapshots") && !runs {
            return Ok(());
        }
        if is("consolidate goes back to the snapshot") && !runs {
            let disk = self.site.machine(&instance.name).map(|m| m.disks[0].id.clone());
            let disk = disk.expect("the machine has a disk");
            self.site.write(&instance.name, disk.as_str(), 0, &[0xEE; 4096]);
        }
        if is("consolidate merges under a machine that runs") && runs {
            return Ok(());
        }
        let consolidated = self.honest.consolidate(&op, instance).await;
        if is("consolidate passes the register by")
            && consolidated.as_ref().is_err_and(|e| e.kind() == ErrorKind::StaleEpoch)
        {
            return Ok(());
        }
        if is("consolidate lifts the fence") && consolidated.is_ok() {
            self.site.break_in(&instance.name);
            self.site.stop_outside(&instance.name);
        }
        consolidated
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        let name = &instance.name;
        let remembered = self.notes.lock().unwrap().power.get(name).cloned();
        if is("power is remembered")
            && let Some(power) = remembered
        {
            return Ok(power);
        }
        let blocked = StartGuard::Blocked { until: None };
        let power = match self.honest.power(instance).await {
            Err(e) if is("silence is off") && e.kind() == ErrorKind::Unavailable => {
                Power::Off { start: blocked }
            }
            Ok(Power::Off { .. }) if is("off is not found") => {
                return Err(Error::new(ErrorKind::NotFound, "no such process"));
            }
            Ok(Power::Off { .. }) if is("fence only says that it blocks") => Power::Off { start: blocked },
            Ok(Power::Off { .. })
                if is("the block is kept in memory") && !self.notes.lock().unwrap().fenced.contains(name) =>
            {
                Power::Off { start: StartGuard::Free }
            }
            power => power?,
        };
        self.notes.lock().unwrap().power.insert(name.clone(), power.clone());
        Ok(power)
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (name, id) = (&instance.name, &instance.machine);
        let op = &self.gate.pass(op, id, "fence")?;
        if is("fence blocks nothing") || is("fence only says that it blocks") {
            self.honest.claim(op, id).await?;
            self.site.stop_outside(name);
            return Ok(());
        }
        if is("fence refuses a machine that is off") && self.honest.power(instance).await? != Power::On {
            return Err(Error::new(ErrorKind::Refused, "it is off"));
        }
        let noted = self.notes.lock().unwrap().fenced.contains(name);
        if is("fence believes its note") && noted {
            return self.honest.claim(op, id).await;
        }
        if is("fence dawdles after the check") {
            self.honest.claim(op, id).await?;
            dawdle().await;
            let fenced = self.honest.fence(op, instance, grace).await;
            if fenced.is_err() {
                self.site.stop_outside(name);
            }
            return fenced;
        }
        self.notes.lock().unwrap().fenced.push(name.clone());
        self.honest.fence(op, instance, grace).await
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        let passed = self.gate.pass(op, &instance.machine, "unfence")?;
        let start = match start {
            Start::AsBefore if is("as before starts nothing") => Start::Stay,
            Start::AsBefore if is("as before starts everything") => Start::Run,
            start => start,
        };
        let late = is("a late repeat lifts a newer fence") && start == Start::Stay;
        let passed = if is("a repeat of unfence starts again") || late { anew(&passed) } else { passed };
        let admitted = permit.admits(op, instance, Purpose::Failover);
        let drill = is("leave for a drill will do") && matches!(permit, BootPermit::Isolated { .. });
        let own = passed.epoch != op.epoch && admitted.is_ok() || is("any permit will do") || drill;
        if own && let Some(machine) = self.site.machine(&instance.name) {
            let permit = forge(&passed, &machine.standing_as(instance.clone())).await;
            return self.honest.unfence(&passed, instance, permit, start).await;
        }
        self.honest.unfence(&passed, instance, permit, start).await
    }
}

fn without_the_last_run(told: &ChangeSet) -> ChangeSet {
    let runs = told.disks().flat_map(|(disk, runs)| runs.iter().map(|r| (disk.clone(), *r)));
    let mut runs: Vec<_> = runs.collect();
    runs.pop();
    runs.into_iter().collect()
}
