//! The suites bite nobody honest: adapters that can do less, and say so, pass.

use crate::memory::{AtLanding, AtSite, AtTarget, Wrap};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, Error, ErrorKind, Finding, Instance, Machine, MachineId, Op,
    OpKey, Recovery, RecoverySite, Replica, Result, Role, RoleName, Settings, Target,
};
use site_recovery_testkit::world::Site;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

mod source {
    use super::*;
    site_recovery_testkit::source_suite!(AtSite<Limited>);
}

mod target {
    use super::*;
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!(AtTarget<Limited>);
    }
    site_recovery_testkit::target_suite!(AtTarget<Limited>);
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!(AtLanding<Limited>);
}

/// Neither fences nor branches nor tracking, no captures of what is off, and machines that take their time.
struct Limited;

impl Wrap for Limited {
    fn site(site: Site) -> Site {
        site.without_fences().without_branches().without_tracking().without_captures_off()
    }
    fn target(_: &Site, honest: Arc<dyn Target>) -> Arc<dyn Target> {
        Arc::new(Slow { honest, asked: Mutex::default() })
    }
}

/// Is busy with what a key makes for as long as the key has been asked for only once or twice.
#[derive(Debug)]
struct Slow {
    honest: Arc<dyn Target>,
    asked: Mutex<BTreeMap<OpKey, u32>>,
}

#[async_trait]
impl Role for Slow {
    fn name(&self) -> RoleName {
        self.honest.name()
    }
    fn capability(&self) -> Capability {
        self.honest.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.honest.claim(op, machine).await
    }
}

#[async_trait]
impl RecoverySite for Slow {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.honest.check(machine, settings).await
    }
    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        let made = self.honest.materialise(op, what, from).await?;
        let mut asked = self.asked.lock().unwrap();
        let times = asked.entry(op.key.clone()).or_default();
        *times += 1;
        if *times < 3 {
            return Err(Error::new(ErrorKind::Busy, "the disks are being copied"));
        }
        Ok(made)
    }
    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        self.honest.withdraw(op, made_by, what).await
    }
    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        self.honest.boot(op, what, armed, permit).await
    }
    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
        self.honest.tend(op, armed, from).await
    }
    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        self.honest.settle(op, armed).await
    }
    async fn set_aside(&self, _: &Op, _: &Instance) -> Result<Instance> {
        Err(Error::new(ErrorKind::Unsupported, "nothing can be put aside here"))
    }
    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.honest.destroy(op, instance).await
    }
}

#[async_trait]
impl Target for Slow {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        self.honest.propose(machine).await
    }
}
