//! Taking a machine's power, and giving it back.

use super::Site;
use super::mark::{Fence, Marked};
use super::register::Turn;
use futures_util::future::Either;
use site_recovery::{BootPermit, Instance, Lifted, Op, Purpose, Result, Start};
use site_recovery_azure_arm::Power as Runs;
use std::time::Duration;

impl Site {
    pub(super) async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let turn = self.turn(op, &instance.machine).await?;
        let mut marked = self.mark_of(instance).await?;
        self.halt(op, &turn, &mut marked, grace).await
    }

    /// The mark stands before the power goes: whoever finds the machine off is told why.
    pub(super) async fn halt(
        &self,
        op: &Op,
        turn: &Turn,
        marked: &mut Marked,
        grace: Duration,
    ) -> Result<()> {
        let machines = self.arm.machines(&self.group);
        let name = marked.mark.name.clone();
        let view = machines.view(&name).await?;
        let off = [Runs::Deallocated, Runs::Stopped];
        let ran = view.as_ref().is_some_and(|view| !off.contains(&view.power));
        if marked.mark.fence.as_ref().is_none_or(|fence| fence.by != op.key) {
            let mut next = marked.mark.clone();
            let ran_before = ran || next.fence.as_ref().is_some_and(|fence| fence.ran_before);
            let lift =
                "site-recovery lifts it by undo, cancel or failback; by hand: start the machine".to_owned();
            next.fence = Some(Fence { by: op.key.clone(), when: self.clock.now(), ran_before, lift });
            self.set_mark(marked, next).await?;
        }
        let Some(view) = view else { return Ok(()) };
        if ran && !grace.is_zero() {
            // Azure asks the guest, and waits for as long as it thinks right.
            let asked = self.ask(turn, machines.power_off(&name, false)).await?.done();
            let late = self.clock.sleep(grace);
            match futures_util::future::select(std::pin::pin!(asked), late).await {
                Either::Left((asked, _)) => asked?,
                Either::Right(_) => {
                    tracing::warn!(machine = name, "it did not shut down in time: its power is cut");
                }
            }
        }
        if ran {
            self.ask(turn, machines.power_off(&name, true)).await?.done().await?;
        }
        if view.power != Runs::Deallocated {
            self.ask(turn, machines.deallocate(&name)).await?.done().await?;
        }
        match machines.view(&name).await? {
            Some(view) if view.power != Runs::Deallocated => {
                let message = format!("{name} is {} after it was deallocated", view.power.as_str());
                Err(site_recovery::Error::new(site_recovery::ErrorKind::Busy, message))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        permit.admits(op, instance, Purpose::Failover)?;
        let turn = self.turn(op, &instance.machine).await?;
        let mut marked = self.mark_of(instance).await?;
        let ran_before = marked.mark.fence.as_ref().is_some_and(|fence| fence.ran_before);
        let starts = start == Start::Run || start == Start::AsBefore && ran_before;
        if starts {
            return Ok(Lifted { running: self.ignite(&turn, &op.key, &mut marked).await? });
        }
        if !marked.mark.has_started(&op.key) {
            let mut next = marked.mark.clone();
            next.note_start(&op.key);
            next.fence = None;
            self.set_mark(&mut marked, next).await?;
        }
        let view = self.arm.machines(&self.group).view(&instance.name).await?;
        Ok(Lifted { running: view.is_some_and(|view| view.power == Runs::Running) })
    }
}
