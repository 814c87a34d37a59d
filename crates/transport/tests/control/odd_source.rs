//! A source that takes its time, and counts.

use async_trait::async_trait;
use site_recovery::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// `discover` panics. `fence` hangs as often as it is told to. `power` is unknown, and notes how many fences hang meanwhile.
/// What starts something is noted.
#[derive(Debug, Default)]
pub(crate) struct OddSource {
    /// Fences that hang from now on.
    pub(crate) to_hang: AtomicUsize,
    /// Fences that hang now.
    pub(crate) hanging: Arc<AtomicI64>,
    pub(crate) most_hanging: AtomicI64,
    pub(crate) fenced: AtomicUsize,
    pub(crate) hanging_at_power: AtomicI64,
    pub(crate) started: AtomicUsize,
}

struct Counted(Arc<AtomicI64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

pub(crate) fn instance() -> Instance {
    Instance { machine: "web".into(), site: "hall".into(), name: "web-1".into(), generation: Generation(0) }
}

#[async_trait]
impl Role for OddSource {
    fn name(&self) -> RoleName {
        "hall".into()
    }
    fn capability(&self) -> Capability {
        Capability::default()
    }
    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Source for OddSource {
    async fn discover(&self) -> Result<Vec<Machine>> {
        panic!("this source panics, as it should in this test")
    }
    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        Ok(())
    }
    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        Ok(())
    }
    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        unreachable!()
    }
    async fn changes(&self, _: &Capture, _: &MachineId, _: &Cursor) -> Result<Changes> {
        unreachable!()
    }
    async fn disks(&self, _: &Op, _: &Capture, _: &MachineId) -> Result<Disks> {
        unreachable!()
    }
    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        Ok(())
    }
    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        Ok(vec![])
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        self.hanging_at_power.store(self.hanging.load(SeqCst), SeqCst);
        Ok(Power::Unknown)
    }
    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        let hangs = self.to_hang.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if hangs {
            let now = self.hanging.fetch_add(1, SeqCst) + 1;
            self.most_hanging.fetch_max(now, SeqCst);
            let _counted = Counted(Arc::clone(&self.hanging));
            return std::future::pending().await;
        }
        self.fenced.fetch_add(1, SeqCst);
        Ok(())
    }
    async fn unfence(&self, op: &Op, instance: &Instance, permit: BootPermit, _: Start) -> Result<Lifted> {
        permit.admits(op, instance, Purpose::Failover)?;
        self.started.fetch_add(1, SeqCst);
        Ok(Lifted { running: true })
    }
}
