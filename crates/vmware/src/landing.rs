//! The site as a place for the way back to land on.

use crate::appliance::Appliance;
use crate::readiness::{Look, Way};
use crate::{Inner, Site};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, DiskId, DiskMut, Error, ErrorKind, Finding, Generation, Instance, LandingSite,
    Machine, Op, Purpose, Recovery, Result, Settings, Stamp, Survey,
};
use site_recovery_register::refused;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl LandingSite for Site {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.0.survey(machine, settings).await.map_err(|e| e.at(&self.0.name, "survey"))
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let (op, machine, settings) = (op.clone(), machine.clone(), settings.clone());
        self.act("attach", async move |site| {
            Finding::refuse_critical(&site.survey(&machine, &settings).await?.findings, ErrorKind::Refused)?;
            match existing {
                Some(instance) => site.attach_existing(&op, &machine, &instance, &settings).await,
                None => site.attach_new(&op, &machine, &settings).await,
            }
        })
        .await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let (instance, disk) = (instance.clone(), disk.clone());
        self.act("disk", async move |site| site.landing_disk(&instance, &disk).await).await
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        let stamp = async {
            let vm = self.0.vm(instance).await?;
            vm.notes.landed(&vm.name)?;
            self.0.stamp(&vm).await.map(Some)
        };
        stamp.await.map_err(|e| e.at(&self.0.name, "stamp"))
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("branch", async move |site| site.branch(&op, &instance).await).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("part", async move |site| site.part(&op, &instance).await).await
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("merge", async move |site| site.merge(&op, &instance).await).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("arm", async move |site| site.arm(&op, &instance, generation).await).await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("detach", async move |site| {
            site.vm(&instance).await?.notes.landed(&instance.name)?;
            let (_turn, mut vm) = site.turned(&op, &instance).await?;
            site.give_back(&op, &mut vm).await
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
        let (op, instance, machine, purpose) =
            (op.clone(), instance.clone(), what.machine.id().clone(), what.purpose);
        self.act("start", async move |site| {
            site.vm(&instance).await?.notes.landed(&instance.name)?;
            if purpose == Purpose::Drill {
                let message = "what landed takes no drill: it would be the machine itself";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            permit.admits(&op, &instance, purpose)?;
            if machine != instance.machine {
                return Err(refused(format!("{} is no machine of {machine}", instance.name)));
            }
            let (_turn, mut vm) = site.turned(&op, &instance).await?;
            site.give_back(&op, &mut vm).await?;
            let running = site.ignite(&op, &mut vm).await?;
            site.unpin(&op, &mut vm).await?;
            let reach = [
                Some(format!("{} on {}", vm.machine.name, site.vim.about().full_name)),
                vm.details.tools.host_name,
            ];
            Ok(Booted { reach: reach.into_iter().flatten().collect(), running })
        })
        .await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("stop", async move |site| site.stop(&op, &instance, grace).await).await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("remove", async move |site| site.remove(&op, &instance).await).await
    }
}

impl Inner {
    pub(crate) fn look(&self) -> Look<'_> {
        let appliance = self.appliance.as_ref().map(Appliance::uuid);
        let means = match (&self.vddk, &self.scratch) {
            (None, None) => &[][..],
            (Some(_), None) => &[Way::Vddk],
            (None, Some(_)) => &[Way::Lease],
            (Some(_), Some(_)) => &[Way::Vddk, Way::Lease],
        };
        Look { vim: &self.vim, estate: &*self.estate, appliance, means }
    }

    /// All is asked of the server just now, so that what it says is fresh.
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let here = self.here(machine).await?;
        self.look().survey(machine, settings, here.as_ref()).await
    }
}
