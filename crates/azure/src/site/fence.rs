//! Taking a machine's power, and giving it back.

use super::Site;
use super::mark::{Fence, Marked};
use super::register::{Look, Turn};
use futures_util::future::Either;
use site_recovery::{BootPermit, Error, ErrorKind, Instance, Lifted, Op, Purpose, Result, Start};
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
            if let Some(starting) = next.starting.take() {
                // A late repeat of it starts nothing any more.
                next.note_start(&starting.by);
            }
            next.fence = Some(Fence { by: op.key.clone(), when: self.clock.now(), ran_before, lift });
            self.set_mark(marked, next).await?;
        }
        if ran && !grace.is_zero() {
            self.shut_down(turn, &name, grace).await?;
        }
        if ran {
            let cut = async { Ok(self.ask(turn, machines.power_off(&name, true)).await?.done().await?) };
            given_up(&name, cut.await)?;
        }
        self.deallocated(turn, &name).await?;
        let disks = self.disks_of(&marked.mark).await?;
        match self.other_user(&marked.mark, &disks).await? {
            None => Ok(()),
            Some((other, _)) => {
                let message = format!("{other} has disks of {name}, and runs or may: it is not ours to stop");
                Err(Error::new(ErrorKind::Refused, message).with("machine", other))
            }
        }
    }

    /// Azure asks the guest, and waits for as long as it thinks right; we do for `grace`.
    async fn shut_down(&self, turn: &Turn, name: &str, grace: Duration) -> Result<()> {
        let machines = self.arm.machines(&self.group);
        let asked = std::pin::pin!(async {
            Ok(self.ask(turn, machines.power_off(name, false)).await?.done().await?)
        });
        match futures_util::future::select(asked, self.clock.sleep(grace)).await {
            Either::Left((asked, _)) => given_up(name, asked),
            Either::Right(_) => {
                tracing::warn!(machine = name, "it did not shut down in time: its power is cut");
                Ok(())
            }
        }
    }

    /// Takes its host from a machine, as soon as Azure lets us.
    async fn deallocated(&self, turn: &Turn, name: &str) -> Result<()> {
        let machines = self.arm.machines(&self.group);
        let look = || async {
            match machines.view(name).await? {
                None => return Ok(Look::Is(())),
                Some(view) if view.power == Runs::Deallocated => return Ok(Look::Is(())),
                Some(_) => {}
            }
            let asked = async { Ok(self.ask(turn, machines.deallocate(name)).await?.done().await?) };
            match asked.await {
                // Seen at the next look.
                Ok(()) => Ok(Look::Busy(format!("taking its host from {name}"))),
                Err(error) if Error::kind(&error) == ErrorKind::Busy => Ok(Look::Busy(error.to_string())),
                Err(error) => Err(error),
            }
        };
        self.waited(look).await
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
        let view = self.settled_view(&instance.name).await?;
        Ok(Lifted { running: view.is_some_and(|view| view.power == Runs::Running) })
    }
}

/// A way to switch it off that fails is no reason not to try the next one; that somebody newer has come is.
fn given_up(name: &str, off: Result<()>) -> Result<()> {
    match off {
        Err(error) if error.kind() == ErrorKind::StaleEpoch => Err(error),
        Err(error) => {
            tracing::warn!(machine = name, %error, "it cannot be switched off so");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
