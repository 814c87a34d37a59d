//! `claim`: nothing that somebody older asked for begins, or ends, after it has returned.

use super::Site;
use super::names::MACHINE;
use super::register::Look;
use site_recovery::{MachineId, Op, Result};
use site_recovery_azure_arm::{Machine, Power as Runs, Provisioning, Tags, View};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long Azure is waited for.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

impl Site {
    pub(super) async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let turn = self.turn(op, machine).await?;
        let held = self.raise(&turn).await?;
        if !held.0.alone {
            // Until then a request may be on its way that was sent after an older look at the register. Another host's clock may
            // go slower than ours.
            self.clock.sleep(self.window + self.window / 10).await;
        }
        let (mut named, mut disks) = (BTreeSet::new(), BTreeSet::new());
        for mark in self.marks_of(machine).await? {
            named.insert(mark.name.to_ascii_lowercase());
            disks.extend(mark.disks.values().map(|held| held.resource.to_ascii_lowercase()));
        }
        self.waited(async || self.is_quiet(machine, &named, &disks).await).await?;
        if held.0.alone { Ok(()) } else { self.note_alone(&turn, held).await }
    }

    /// Whether Azure changes nothing that is the machine's by its tags or its marks.
    async fn is_quiet(
        &self,
        machine: &MachineId,
        named: &BTreeSet<String>,
        disks: &BTreeSet<String>,
    ) -> Result<Look<()>> {
        let tagged = |tags: &Tags| tags.get(MACHINE).is_some_and(|of| *of == machine.as_str());
        let knows = |names: &BTreeSet<String>, name: &str| names.contains(&name.to_ascii_lowercase());
        let mut busy = vec![];
        let machines = self.arm.machines(&self.group);
        for found in machines.list().await? {
            if tagged(&found.tags) || knows(named, &found.name) {
                let view = machines.view(&found.name).await?;
                if is_changing(&found.provisioning) || view.is_some_and(|view| is_turning(&view)) {
                    busy.push(format!("machine {}", found.name));
                }
            }
        }
        for disk in self.arm.disks(&self.group).list().await? {
            let is_ours = tagged(&disk.tags) || knows(disks, &disk.name);
            busy.extend((is_ours && is_changing(&disk.provisioning)).then(|| format!("disk {}", disk.name)));
        }
        for snapshot in self.arm.snapshots(&self.group).list().await? {
            let changes = tagged(&snapshot.tags) && is_changing(&snapshot.provisioning);
            busy.extend(changes.then(|| format!("snapshot {}", snapshot.name)));
        }
        for nic in self.arm.nics(&self.group).list().await? {
            let changes = tagged(&nic.tags) && is_changing(&nic.provisioning);
            busy.extend(changes.then(|| format!("network card {}", nic.name)));
        }
        Ok(if busy.is_empty() { Look::Is(()) } else { Look::Busy(busy.join(", ")) })
    }

    /// How a machine is, once Azure is not busy with it any more; nothing where it is not there.
    pub(super) async fn settled_view(&self, name: &str) -> Result<Option<View>> {
        let machines = self.arm.machines(&self.group);
        let get = async || -> Result<_> {
            let (machine, view) = futures_util::join!(machines.get(name), machines.view(name));
            Ok(machine?.zip(view?))
        };
        let is_busy =
            |(machine, view): &(Machine, View)| is_changing(&machine.provisioning) || is_turning(view);
        let settled = self.settled(&format!("machine {name}"), get, is_busy).await?;
        Ok(settled.map(|(_, view)| view))
    }
}

pub(super) fn is_changing(provisioning: &Provisioning) -> bool {
    matches!(provisioning, Provisioning::Creating | Provisioning::Updating | Provisioning::Deleting)
}

/// Whether its power is going or coming.
fn is_turning(view: &View) -> bool {
    matches!(view.power, Runs::Starting | Runs::Stopping | Runs::Deallocating)
}
