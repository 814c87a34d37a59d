use crate::Fault;
use crate::fault::{Gate, fresh, is};
use async_trait::async_trait;
use site_recovery::{
    Capability, Consistency, CutId, Error, ErrorKind, Finding, Generation, Lag, MachineId, Op, Point,
    PointId, Pool, ProcessServer, Replica, Result, Role, RoleName, Run, Shipment, Shipped, Source, Timestamp,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[path = "process_server/sides.rs"]
mod sides;

use sides::{LyingReplica, LyingSource};

pub(crate) const FAULTS: &[Fault] = &[
    ("PRS-1", "a block on the way is lost"),
    ("PRS-1", "the first capture is shipped again"),
    ("PRS-1", "the instant is when it was sealed"),
    ("PRS-2", "what was touched is left out"),
    ("PRS-2", "lost changes are no changes"),
    ("PRS-2", "everything is sent, whatever the hashes say"),
    ("PRS-3", "silence of the replica is a seal"),
    ("PRS-3", "silence at the seal is a seal"),
    ("PRS-3", "a refusal to seal is a seal"),
    ("PRS-3", "the spool forgets what could not be sealed"),
    ("PRS-5", "disks are read whole"),
    ("PRS-6", "the spool is dropped"),
    ("PRS-6", "the spool is told newest first"),
    ("ROL-1", "a repeat is another cut"),
    ("ROL-2", "the register is not checked"),
];

pub(crate) const NO_SPOOL_FAULTS: &[Fault] = &[
    ("PRS-3", "silence of the replica is a seal"),
    ("PRS-3", "silence at the seal is a seal"),
    ("PRS-3", "a refusal to seal is a seal"),
    ("PRS-4", "a broken cycle begins anew"),
    ("ROL-5", "a lost reply is another cut"),
];

/// A process server that does wrong what is wrong now, mostly by what it makes the honest one see.
#[derive(Debug)]
pub(crate) struct BrokenProcessServer {
    honest: Arc<dyn ProcessServer>,
    gate: Gate,
    forgets: AtomicBool,
}

impl BrokenProcessServer {
    pub(crate) fn new(honest: Arc<dyn ProcessServer>) -> Self {
        Self { honest, gate: Gate::default(), forgets: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Role for BrokenProcessServer {
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
impl ProcessServer for BrokenProcessServer {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        let op = self.gate.pass(op, &what.machine, "ship")?;
        let mut what = what.clone();
        if is("a repeat is another cut") {
            what.capture.cut = CutId(format!("{}-{}", what.capture.cut, fresh()));
        }
        if is("disks are read whole") {
            let pool = Pool::new(64 << 20);
            let mut held = vec![];
            for disk in source.disks(&op, &what.capture, &what.machine).await?.into_values() {
                held.push(disk.read(Run::new(0, disk.size()), &pool).await?);
            }
        }
        let source: Arc<dyn Source> = Arc::new(LyingSource(Arc::clone(source)));
        let replica: Arc<dyn Replica> = Arc::new(LyingReplica(Arc::clone(replica)));
        let shipped = self.honest.ship(&op, &what, &source, &replica).await;
        let away = shipped.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unavailable)
            || matches!(shipped, Ok(Shipped::Spooled { .. }));
        if is("silence of the replica is a seal") && away {
            let point = wishful(&what.capture.cut, &what.machine);
            return Ok(Shipped::Sealed { point, changed: 0, shipped: 0, incompressible: 0 });
        }
        if is("a lost reply is another cut") && away {
            let mut again = what.clone();
            again.capture.cut = CutId(format!("{}-again", what.capture.cut));
            return self.honest.ship(&op.part("again"), &again, &source, &replica).await;
        }
        shipped
    }

    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        let op = self.gate.pass(op, machine, "drain")?;
        if is("the spool is dropped") {
            self.honest.claim(&op, machine).await?;
            return Ok(vec![]);
        }
        let drained = self.honest.drain(&op, machine, replica).await;
        if is("the spool forgets what could not be sealed") && drained.is_err() {
            self.forgets.store(true, Ordering::Relaxed);
        }
        let mut drained = drained?;
        if is("the spool is told newest first") {
            drained.reverse();
        }
        Ok(drained)
    }

    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        let mut lag = self.honest.lag(machine).await?;
        if is("the spool is dropped") || self.forgets.load(Ordering::Relaxed) {
            lag.spooled.clear();
        }
        Ok(lag)
    }

    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        self.honest.knows(roles).await
    }
}

/// The point that would be there if all had gone well.
fn wishful(cut: &CutId, machine: &MachineId) -> Point {
    Point {
        id: PointId(1),
        cut: cut.clone(),
        members: vec![machine.clone()],
        taken: Timestamp(0),
        consistency: Consistency::Crash,
        generation: Generation(0),
        pins: vec![],
        locked_until: None,
        verified: true,
        verified_boot: None,
    }
}

/// Not what the honest side says.
fn nothing() -> Error {
    Error::new(ErrorKind::Unsupported, "a process server has no business with this method")
}
