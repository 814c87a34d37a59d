//! Which machines there are.

use crate::Inner;
use crate::describe::{Networks, describe, is_protectable};
use crate::notes::MARK;
use crate::vm::Vm;
use site_recovery::{Machine, Result};
use site_recovery_register::conflict;
use site_recovery_vim::{Folder, Host, Machine as Listed, Moref, Vim};
use std::collections::{BTreeMap, BTreeSet};

/// A datacenter, as files are read by.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// `Berlin/DC0`; `ha-datacenter` on a host.
    pub(crate) path: String,
    /// The folder of its machines.
    pub(crate) machines: Option<Moref>,
}

impl Inner {
    pub(crate) async fn discovered(&self) -> Result<Vec<Machine>> {
        let root = &self.vim.content().root_folder;
        let chosen = self.estate.chosen(&self.vim).await?;
        let networks = Networks::of(self.vim.networks().await?);
        let appliance: Vec<Moref> = match &self.appliance {
            Some(_) => vec![self.appliance_machine().await?.moref],
            None => vec![],
        };
        let all = self.vim.machines_whole(root).await?;
        let ours = all.into_iter().filter(|machine| belongs(machine, &appliance, chosen.as_ref()));
        let mut found: BTreeMap<String, Machine> = BTreeMap::new();
        for machine in ours {
            let called = machine.name.clone();
            // One host that is away hides nobody's machines.
            let vm = Vm::told(machine).map_err(|e| e.with("called", &called))?;
            if vm.details.devices.disks.is_empty() {
                tracing::warn!(machine = called, "it has no disk: there is nothing to protect");
                continue;
            }
            let machine = self.described(&vm, &networks);
            machine.validate().map_err(|e| e.with("called", &called))?;
            if let Some(other) = found.insert(machine.instance.name.clone(), machine) {
                let (other, uuid) = (other.called(), &other.instance.name);
                let message = format!(
                    "{called} and {other} have one instance UUID, {uuid}: a copy that was registered by hand; give one of them \
                     another"
                );
                return Err(conflict(message).with("called", &called));
            }
        }
        Ok(found.into_values().collect())
    }

    pub(crate) fn described(&self, vm: &Vm, networks: &Networks) -> Machine {
        let (machine, details) = (&vm.machine, &vm.details);
        describe(&self.name, machine, details, &details.devices, vm.notes.mark.as_ref(), networks)
    }

    pub(crate) async fn datacenter_of(&self, datastores: &[Moref]) -> Result<Option<Found>> {
        datacenter_of(&self.vim, datastores).await
    }
}

/// Whether a machine that was read whole is one of the site's: chosen, where there is a choice, or enrolled. What is enrolled stays
/// so, also when it is not chosen any more.
pub(crate) fn belongs(machine: &Listed, appliance: &[Moref], chosen: Option<&BTreeSet<Moref>>) -> bool {
    let enrolled = || machine.details.as_ref().is_some_and(|details| details.extra.contains_key(MARK));
    let chosen = chosen.is_none_or(|chosen| chosen.contains(&machine.moref));
    is_protectable(machine, appliance) && (chosen || enrolled())
}

/// The folder of new machines: that of the appliance, unless it is in a vApp.
pub(crate) async fn landing_folder(vim: &Vim, appliance: &Listed, host: &Host) -> Result<Option<Moref>> {
    if let Some(folder) = appliance.parent.clone().filter(|parent| parent.kind == "Folder") {
        return Ok(Some(folder));
    }
    let found = datacenter_of(vim, &host.datastores).await?;
    Ok(found.and_then(|found| found.machines))
}

/// The datacenter that has one of these datastores.
pub(crate) async fn datacenter_of(vim: &Vim, datastores: &[Moref]) -> Result<Option<Found>> {
    let all = vim.datacenters().await?;
    let Some(found) = all.into_iter().find(|d| d.datastores.iter().any(|s| datastores.contains(s))) else {
        return Ok(None);
    };
    let folders = if vim.is_vcenter() { vim.folders().await? } else { vec![] };
    let (mut path, mut at): (String, Option<&Moref>) = (found.name.clone(), found.parent.as_ref());
    // No deeper than there are folders.
    for _ in 0..folders.len() {
        let above: Option<&Folder> = folders.iter().find(|f| Some(&f.moref) == at);
        let Some(above) = above else { break };
        path = format!("{}/{path}", above.name);
        at = above.parent.as_ref();
    }
    let path = if vim.is_vcenter() { path } else { "ha-datacenter".to_owned() };
    Ok(Some(Found { path, machines: found.machines }))
}
