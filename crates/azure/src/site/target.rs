//! The site as a target.

use super::Azure;
use super::once::Once;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Finding, Instance, Machine, Op, OpKey, Recovery, RecoverySite, Replica,
    Result, Settings, Target,
};
use std::sync::Arc;

#[async_trait]
impl RecoverySite for Azure {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.at("check", self.0.check(machine, settings, &Once::default()).await)
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        self.at("materialise", self.0.materialise(op, what, from).await)
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        self.at("withdraw", self.0.withdraw(op, made_by, what).await)
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        self.at("boot", self.0.boot(op, what, armed, permit).await)
    }

    /// The disks stand alone.
    async fn tend(&self, op: &Op, armed: &Armed, _from: &Arc<dyn Replica>) -> Result<()> {
        self.at("tend", self.0.turn(op, &armed.instance.machine).await.map(drop))
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        self.at("settle", self.0.settle(op, &armed.instance).await)
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.at("set aside", self.0.set_aside(op, instance).await)
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.at("destroy", self.0.destroy(op, instance).await)
    }
}

#[async_trait]
impl Target for Azure {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        self.at("propose", self.0.propose(machine).await)
    }
}
