//! Rescue systems that are left, that do not hear it, that hang, or that go off instead.

use crate::hall::{Floor, SITE};
use crate::support::*;
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, BareServer, Landing, Slot, Starter};
use site_recovery_physical::site::Rescues;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How the fake server's rescue system is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    Restarts,
    GoesOff,
}

#[derive(Debug)]
struct Leaving(Arc<FakeServer>, Leaves);

#[async_trait]
impl Starter for Leaving {
    async fn runs(&self, _: &Landing) -> Result<Option<bool>> {
        Ok(Some(false))
    }
    async fn start(&self, _: &Landing) -> Result<Vec<String>> {
        self.0.unplug();
        if self.1 == Leaves::Restarts {
            self.0.press();
        }
        Ok(vec![])
    }
    async fn stop(&self, _: &Landing, _: Duration) -> Result<()> {
        Ok(())
    }
    async fn hold(&self, _: &Landing, _: bool) -> Result<()> {
        Ok(())
    }
    async fn stamp(&self, _: &Landing) -> Result<Option<Stamp>> {
        Ok(self.session().map(|life| Stamp(life.into_bytes())))
    }
    fn session(&self) -> Option<String> {
        Some(format!("life {}", self.0.truth().starts))
    }
}

/// What a rescue system serves: silent unless it runs, and deaf to the first words where it is told to be.
#[derive(Debug)]
pub(crate) struct RescueSystem {
    pub(crate) disks: BareDisks,
    server: Arc<FakeServer>,
    /// So many calls of `start` are lost on their way.
    pub(crate) lost: AtomicU32,
    pub(crate) refuses: AtomicBool,
    /// Its answer to `start` is lost, and asked again is the restored system, which serves no bare disks.
    pub(crate) is_gone: AtomicBool,
    /// Takes calls that write down something, and never answers.
    pub(crate) hangs: AtomicBool,
    /// Such calls that it has taken.
    pub(crate) taken: AtomicU32,
}

impl RescueSystem {
    /// Of the server `web`, with a state that outlives it.
    pub(crate) fn of(floor: &Floor, web: &Machine, leaves: Leaves) -> Arc<Self> {
        let slot = |disk: &DiskSpec| Slot {
            id: disk.id.0.clone(),
            path: floor.system("web").join(format!("{}.raw", disk.id)),
        };
        let server = Arc::clone(&floor.servers["web"]);
        let disks = BareDisks::builder(SITE.into(), floor.dir.path().join("rescue"), Arc::new(SystemClock));
        let disks = disks.server(BareServer {
            name: "web".into(),
            slots: web.disks.iter().map(slot).collect(),
            firmware: None,
            starter: Arc::new(Leaving(Arc::clone(&server), leaves)),
        });
        let disks = disks.open().unwrap();
        let (lost, refuses) = (AtomicU32::new(0), AtomicBool::new(false));
        let is_gone = AtomicBool::new(false);
        let (hangs, taken) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Self { disks, server, lost, refuses, is_gone, hangs, taken })
    }

    async fn acts(&self) -> Result<&BareDisks> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        while self.hangs.load(Ordering::SeqCst) {
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
        self.here()
    }

    fn here(&self) -> Result<&BareDisks> {
        let truth = self.server.truth().clone();
        let here = truth.on && truth.rescue;
        here.then_some(&self.disks).ok_or_else(|| Error::new(ErrorKind::Unavailable, "connection refused"))
    }
}

#[async_trait]
impl Role for RescueSystem {
    fn name(&self) -> RoleName {
        self.disks.name()
    }
    fn capability(&self) -> Capability {
        self.disks.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.acts().await?.claim(op, machine).await
    }
}

#[async_trait]
impl LandingSite for RescueSystem {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.here()?.survey(machine, settings).await
    }
    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        self.acts().await?.attach(op, machine, existing, settings).await
    }
    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        self.here()?.disk(instance, disk).await
    }
    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.here()?.stamp(instance).await
    }
    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.branch(op, instance).await
    }
    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.here()?.part(op, instance).await
    }
    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.merge(op, instance).await
    }
    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.acts().await?.arm(op, instance, generation).await
    }
    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.acts().await?.detach(op, instance).await
    }
    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Refused, "something is in the way"));
        }
        let lost = |left: u32| left.checked_sub(1);
        if self.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost).is_ok() {
            return Err(Error::new(ErrorKind::Unavailable, "the line broke"));
        }
        let answer = self.acts().await?.start(op, instance, what, permit).await;
        match self.is_gone.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::NotFound, "no landing site is served here")),
            false => answer,
        }
    }
    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.here()?.stop(op, instance, grace).await
    }
    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.remove(op, instance).await
    }
}

/// Where the rescue system of `web` is found: connected to at once, so nobody finds one that was left.
#[derive(Debug)]
pub(crate) struct Rescued(pub(crate) Arc<RescueSystem>);

#[async_trait]
impl Rescues for Rescued {
    async fn rescue(&self, server: &str) -> Result<Arc<dyn LandingSite>> {
        if server != "web" {
            return Err(Error::new(ErrorKind::NotFound, format!("no rescue system of {server} is known")));
        }
        self.0.here().map(|_| Arc::clone(&self.0) as _)
    }
}
