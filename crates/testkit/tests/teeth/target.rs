use crate::Fault;
use crate::fault::{Gate, anew, dawdle, forge, is};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, Cursor, Error, ErrorKind, Finding, Instance, Machine, MachineId,
    Op, OpKey, Power, Purpose, Recovery, RecoverySite, Replica, Result, Role, RoleName, Settings, Source,
    Target,
};
use site_recovery_testkit::world::Site;
use std::sync::{Arc, Mutex};

pub(crate) const FAULTS: &[Fault] = &[
    ("SIT-1", "check finds nothing"),
    ("SIT-1", "check always finds something"),
    ("SIT-2", "the newest point is taken"),
    ("SIT-2", "materialise boots"),
    ("SIT-2", "materialise tells another generation"),
    ("SIT-3", "tracking begins after the first writes"),
    ("SIT-4", "newer points are dropped"),
    ("SIT-5", "withdraw does nothing"),
    ("SIT-5", "withdraw leaves no tombstone"),
    ("SIT-6", "any permit will do"),
    ("SIT-6", "a drill runs in production"),
    ("SIT-6", "leave for a drill will do for a failover"),
    ("SIT-6", "leave for a failover will do for a drill"),
    ("SIT-7", "a repeat of boot starts again"),
    ("SIT-8", "settle stops the machine"),
    ("SIT-8", "a second settle is an error"),
    ("SIT-9", "what was set aside is another machine"),
    ("SIT-9", "set_aside stops a running machine"),
    ("SIT-10", "destroy does nothing"),
    ("SIT-10", "destroy takes what was brought"),
    ("SIT-10", "gone already is an error"),
    ("TGT-1", "a name that no site takes is proposed"),
    ("TGT-1", "a name that is taken is proposed"),
    ("ROL-1", "a repeat of materialise makes another"),
    ("ROL-2", "the register is not checked"),
    ("ROL-2", "the register is kept in memory"),
    ("ROL-4", "materialise begins with a draft"),
    ("ROL-7", "destroy takes every machine of the timeline"),
    ("ROL-8", "boot dawdles after the check"),
];

/// A target that does wrong what is wrong now.
#[derive(Debug)]
pub(crate) struct BrokenTarget {
    site: Site,
    honest: Arc<dyn Target>,
    gate: Gate,
    settled: Mutex<bool>,
}

impl BrokenTarget {
    pub(crate) fn new(site: Site, honest: Arc<dyn Target>) -> Self {
        Self { site, honest, gate: Gate::default(), settled: Mutex::default() }
    }

    fn machine(&self, instance: &Instance) -> Option<Machine> {
        Some(self.site.machine(&instance.name)?.standing_as(instance.clone()))
    }

    fn all_of(&self, machine: &MachineId) -> Vec<Instance> {
        let all = self.site.all();
        let machines = all.iter().filter_map(|name| self.site.machine(name));
        machines.map(|m| m.instance).filter(|i| &i.machine == machine).collect()
    }
}

#[async_trait]
impl Role for BrokenTarget {
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
impl RecoverySite for BrokenTarget {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let mut found = self.honest.check(machine, settings).await?;
        if is("check finds nothing") {
            found.clear();
        }
        if is("check always finds something") && found.is_empty() {
            found.push(Finding::setting("name", "dull", "names are pretty", "choose another"));
        }
        Ok(found)
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        let id = what.machine.id();
        let mut op = self.gate.pass(op, id, "materialise")?;
        let mut taken = what.clone();
        if is("the newest point is taken") {
            taken.point = from.points(id).await?.last().expect("a point").id;
        }
        if is("a repeat of materialise makes another") {
            op = anew(&op);
        }
        if is("materialise begins with a draft") {
            let draft = self.honest.materialise(&anew(&op), what, from).await?;
            dawdle().await;
            self.honest.destroy(&op.part("destroy"), &draft.instance).await?;
        }
        if is("newer points are dropped") {
            let points = from.points(id).await?;
            let newer: Vec<_> = points.iter().map(|p| p.id).filter(|p| *p != what.point).collect();
            from.prune(&op, id, &newer).await?;
        }
        let mut armed = self.honest.materialise(&op, &taken, from).await?;
        armed.point = what.point;
        if is("materialise tells another generation") {
            armed.instance.generation.0 += 1;
        }
        if is("materialise boots") {
            self.site.break_in(&armed.instance.name);
        }
        if is("tracking begins after the first writes")
            && let Some(cursor) = &armed.cursor
        {
            armed.cursor = Some(later(cursor, 2));
        }
        Ok(armed)
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        let op = self.gate.pass(op, what.machine.id(), "withdraw")?;
        if is("withdraw does nothing") {
            return self.honest.claim(&op, what.machine.id()).await;
        }
        if is("withdraw leaves no tombstone") {
            self.honest.claim(&op, what.machine.id()).await?;
            for instance in self.all_of(what.machine.id()) {
                self.honest.destroy(&op, &instance).await?;
            }
            return Ok(());
        }
        self.honest.withdraw(&op, made_by, what).await
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        let id = &armed.instance.machine;
        let mut passed = self.gate.pass(op, id, "boot")?;
        if is("a repeat of boot starts again") {
            passed = anew(&passed);
        }
        if is("boot dawdles after the check") {
            self.honest.claim(&passed, id).await?;
            dawdle().await;
            let booted = self.honest.boot(&passed, what, armed, permit).await;
            if booted.is_err() {
                self.site.break_in(&armed.instance.name);
            }
            return booted;
        }
        let forced = match (what.purpose, &permit) {
            (Purpose::Drill, BootPermit::Isolated { .. }) => is("a drill runs in production"),
            (Purpose::Drill, _) => is("leave for a failover will do for a drill"),
            (Purpose::Failover, BootPermit::Isolated { .. }) => {
                is("leave for a drill will do for a failover") || is("any permit will do")
            }
            (Purpose::Failover, _) => {
                let admitted = permit.admits(op, &armed.instance, what.purpose).is_ok();
                passed.epoch != op.epoch && admitted || is("any permit will do")
            }
        };
        if forced && let Some(machine) = self.machine(&armed.instance) {
            let permit = forge(&passed, &machine).await;
            let what = Recovery { purpose: Purpose::Failover, ..what.clone() };
            return self.honest.boot(&passed, &what, armed, permit).await;
        }
        self.honest.boot(&passed, what, armed, permit).await
    }

    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
        let op = self.gate.pass(op, &armed.instance.machine, "tend")?;
        self.honest.tend(&op, armed, from).await
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        let op = self.gate.pass(op, &armed.instance.machine, "settle")?;
        let again = std::mem::replace(&mut *self.settled.lock().unwrap(), true);
        if is("a second settle is an error") && again {
            return Err(Error::new(ErrorKind::NotFound, "it is settled"));
        }
        self.honest.settle(&op, armed).await?;
        if is("settle stops the machine") {
            self.site.stop_outside(&armed.instance.name);
        }
        Ok(())
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let op = self.gate.pass(op, &instance.machine, "set_aside")?;
        if is("set_aside stops a running machine") && self.site.power(instance).await? == Power::On {
            self.site.stop_outside(&instance.name);
        }
        let kept = self.honest.set_aside(&op, instance).await?;
        if is("what was set aside is another machine") {
            let made = self.site.add_machine("fresh", &[("system", 256 * 1024), ("data", 17 * 4096 + 1536)]);
            self.site.stop_outside("fresh");
            return Ok(Instance { name: made.instance.name, ..kept });
        }
        Ok(kept)
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        let op = self.gate.pass(op, &instance.machine, "destroy")?;
        if is("destroy does nothing") {
            return self.honest.claim(&op, &instance.machine).await;
        }
        if is("gone already is an error") && self.site.machine(&instance.name).is_none() {
            return Err(Error::new(ErrorKind::NotFound, "no such machine"));
        }
        if is("destroy takes every machine of the timeline") {
            for other in self.all_of(&instance.machine) {
                self.honest.destroy(&op, &other).await?;
            }
        }
        let destroyed = self.honest.destroy(&op, instance).await;
        if is("destroy takes what was brought") && destroyed.is_err() {
            self.site.destroy_outside(&instance.name);
            return Ok(());
        }
        destroyed
    }
}

#[async_trait]
impl Target for BrokenTarget {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        let proposed = self.honest.propose(machine).await?;
        if is("a name that no site takes is proposed") {
            return Ok(Settings { name: Some("web server".into()), ..proposed });
        }
        if is("a name that is taken is proposed") {
            return Ok(Settings { name: Some("theirs".into()), ..proposed });
        }
        Ok(proposed)
    }
}

/// A position of the in-memory world, this many writes later.
pub(crate) fn later(cursor: &Cursor, writes: u64) -> Cursor {
    let text = String::from_utf8(cursor.token.clone()).expect("a position of the world is text");
    let (id, seq) = text.split_once(':').expect("a tracking and a number");
    let seq: u64 = seq.parse().expect("a number");
    Cursor { token: format!("{id}:{}", seq + writes).into_bytes(), ..cursor.clone() }
}
