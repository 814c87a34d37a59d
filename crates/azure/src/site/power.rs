//! Whether a machine runs, and starting it.

use super::Site;
use super::leaving::leaving;
use super::mark::{Mark, Marked};
use super::names;
use site_recovery::{Error, ErrorKind, Instance, OpKey, Power, Result, Stamp, StartGuard};
use site_recovery_azure_arm::{Disk, Power as Runs};

impl Site {
    pub(super) async fn power(&self, instance: &Instance) -> Result<Power> {
        let marked = self.mark_of(instance).await?;
        self.power_of(&marked.mark).await
    }

    /// Read from Azure now.
    ///
    /// # Errors
    /// `NotFound` where neither the machine nor one of its disks is there.
    pub(super) async fn power_of(&self, mark: &Mark) -> Result<Power> {
        let view = self.arm.machines(&self.group).view(&mark.name).await?;
        let Some(view) = view else {
            let disks = self.disks_of(mark).await?;
            if let Some(power) = leaving(mark, &disks) {
                return Ok(power);
            }
            if disks.is_empty() {
                let message = format!("neither {} nor a disk of it is in group {}", mark.name, self.group);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            return Ok(Power::Off { start: StartGuard::Tells(stamp(None, &disks)) });
        };
        Ok(match view.power {
            Runs::Deallocated => {
                let machine = self.arm.machines(&self.group).get(&mark.name).await?;
                let disks = self.disks_of(mark).await?;
                let id = machine.and_then(|machine| machine.vm_id);
                let told = disks.iter().all(|disk| disk.last_ownership_update.is_some());
                // Where Azure does not say when a disk was last taken, nothing would tell of a start.
                let tells = StartGuard::Tells(stamp(id.as_deref(), &disks));
                Power::Off { start: if told && id.is_some() { tells } else { StartGuard::Free } }
            }
            // It keeps its host, and starts at once.
            Runs::Stopped => Power::Off { start: StartGuard::Free },
            Runs::Running | Runs::Starting | Runs::Stopping | Runs::Deallocating => Power::On,
            _ => Power::Unknown,
        })
    }

    pub(super) async fn disks_of(&self, mark: &Mark) -> Result<Vec<Disk>> {
        let disks = self.arm.disks(&self.group);
        let asked = mark.disks.values().map(async |held| disks.get(&held.resource).await);
        let mut found = vec![];
        for disk in futures_util::future::join_all(asked).await {
            found.extend(disk?);
        }
        Ok(found)
    }

    /// Starts a machine that is there, once per key. Says whether it runs.
    pub(super) async fn ignite(&self, key: &OpKey, marked: &mut Marked) -> Result<bool> {
        let machines = self.arm.machines(&self.group);
        let name = marked.mark.name.clone();
        let Some(view) = machines.view(&name).await? else {
            let message = format!("{name} is no machine yet: boot it from its point");
            return Err(Error::new(ErrorKind::Refused, message));
        };
        let runs = view.power == Runs::Running;
        if marked.mark.has_started(key) {
            return Ok(runs);
        }
        if !runs {
            machines.start(&name).await?.done().await?;
        }
        let mut next = marked.mark.clone();
        next.note_start(key);
        next.fence = None;
        self.set_mark(marked, next).await?;
        let view = machines.view(&name).await?;
        Ok(view.is_some_and(|view| view.power == Runs::Running))
    }
}

/// Changes for ever when the machine is started, deallocated or made anew, or a disk goes elsewhere: the disks' time of last
/// ownership does (Azure compute API, model of a disk).
fn stamp(machine: Option<&str>, disks: &[Disk]) -> Stamp {
    let mut said = machine.unwrap_or_default().to_owned();
    for disk in disks {
        for part in [&disk.unique_id, &disk.last_ownership_update] {
            said.push('\n');
            said.push_str(part.as_deref().unwrap_or_default());
        }
        said.push_str(disk.managed_by.as_deref().map(names::last).unwrap_or_default());
    }
    Stamp(said.to_ascii_lowercase().into_bytes())
}
