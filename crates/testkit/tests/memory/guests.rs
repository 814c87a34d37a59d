use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Result, Role, RoleName, Source, Start,
};
use site_recovery_testkit::world::Site;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A site whose guests may leave a shutdown unanswered, and whose machines may be past description.
#[derive(Debug, Clone)]
pub(crate) struct Guests {
    site: Site,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    spoilt: Option<String>,
    deaf: bool,
    asked: bool,
    /// A request that nobody has withdrawn yet.
    outstanding: bool,
}

impl Guests {
    pub(crate) fn new(site: Site) -> Self {
        Self { site, state: Arc::default() }
    }

    pub(crate) fn spoil(&self, name: &str) {
        self.state.lock().unwrap().spoilt = Some(name.into());
    }

    pub(crate) fn deafen(&self) {
        self.state.lock().unwrap().deaf = true;
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.state.lock().unwrap().asked
    }

    pub(crate) fn hear(&self, name: &str) {
        if std::mem::take(&mut self.state.lock().unwrap().outstanding) {
            self.site.stop_outside(name);
        }
    }

    /// Asks for a shutdown behind the back of everybody, for an adapter that forgets it.
    pub(crate) fn ask(&self) {
        let mut state = self.state.lock().unwrap();
        (state.asked, state.outstanding) = (true, true);
    }

    fn withdraw(&self) {
        self.state.lock().unwrap().outstanding = false;
    }
}

#[async_trait]
impl Role for Guests {
    fn name(&self) -> RoleName {
        self.site.name()
    }
    fn capability(&self) -> Capability {
        self.site.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.site.claim(op, machine).await?;
        self.withdraw();
        Ok(())
    }
}

#[async_trait]
impl Source for Guests {
    async fn discover(&self) -> Result<Vec<Machine>> {
        let spoilt = self.state.lock().unwrap().spoilt.clone();
        if let Some(name) = spoilt {
            let message = format!("the description of {name} cannot be read");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        self.site.discover().await
    }
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.site.enrol(op, machine).await
    }
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.site.dismiss(op, instance).await
    }
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.site.capture(op, of, want).await
    }
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.site.changes(capture, machine, since).await
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.site.disks(op, capture, machine).await
    }
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.site.release(op, capture, machine, fate).await
    }
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.site.sweep(op, instance, keep).await
    }
    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.site.consolidate(op, instance).await
    }
    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.site.power(instance).await
    }
    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let waits = self.state.lock().unwrap().deaf && grace > Duration::ZERO;
        if waits {
            self.site.claim(op, &instance.machine).await?;
            self.ask();
            std::future::pending::<()>().await;
        }
        self.site.fence(op, instance, grace).await?;
        self.withdraw();
        Ok(())
    }
    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        let lifted = self.site.unfence(op, instance, permit, start).await?;
        self.withdraw();
        Ok(lifted)
    }
}
