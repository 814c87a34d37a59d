//! Who gets the tag, and who loses it.

use crate::at_vim;
use site_recovery::{Machine, Result, Source, SystemClock};
use site_recovery_vim::{Moref, Settings};
use site_recovery_vmware::Site;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OnceCell;
use vmware_vsphere_rest::{MachineId, TagName, TagWatch, VCenter};

/// Follows a tag: protect what gains it, and ask what is to become of what loses it. Nothing is protected or given up by itself.
#[derive(Debug)]
pub struct Following {
    settings: Settings,
    tag: TagName,
    vcenter: OnceCell<VCenter>,
    /// What has the tag, and what each is called at the site; nothing for what is not protected there.
    seen: BTreeMap<MachineId, Option<String>>,
}

/// What changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Followed {
    /// Machines that have the tag by now, as the site discovers them.
    pub gained: Vec<Machine>,
    /// Names, at the site, of machines that have it no more: it was taken off, or they are gone.
    pub lost: Vec<String>,
}

impl Following {
    pub(crate) fn new(settings: Settings, tag: TagName) -> Self {
        Self { settings, tag, vcenter: OnceCell::new(), seen: BTreeMap::new() }
    }

    /// Looks, as often as one likes; the first time all that have the tag are gained. `site` is that of the same vCenter.
    ///
    /// # Errors
    /// `NotFound` for a tag that is not there; those of the connection and of discovery. What was not told is told at the next
    /// look.
    pub async fn look(&mut self, site: &Site) -> Result<Followed> {
        let connect = || VCenter::connect(&self.settings, Arc::new(SystemClock));
        let vcenter = self.vcenter.get_or_try_init(connect).await?.clone();
        // What fails further on has seen nothing.
        let mut watch = TagWatch::resume(vcenter, self.tag.clone(), self.seen.keys().cloned());
        let changes = watch.look().await?;
        let gained =
            if changes.added.is_empty() { vec![] } else { self.gained(&changes.added, site).await? };
        let removed = changes.removed.iter();
        let lost = removed.filter_map(|id| self.seen.remove(id).flatten()).collect();
        let name = |machine: &Option<Machine>| machine.as_ref().map(|machine| machine.instance.name.clone());
        self.seen.extend(changes.added.into_iter().zip(gained.iter().map(name)));
        Ok(Followed { gained: gained.into_iter().flatten().collect(), lost })
    }

    /// Each of these as the site discovers it; nothing for what it does not.
    async fn gained(&self, added: &[MachineId], site: &Site) -> Result<Vec<Option<Machine>>> {
        let vim = site.vim();
        let all = vim.machines(&vim.content().root_folder).await?.into_iter();
        let uuids: BTreeMap<Moref, String> =
            all.filter_map(|m| Some((m.moref, m.instance_uuid?.to_ascii_lowercase()))).collect();
        let discovered = site.discover().await?;
        let one = |id| {
            let moref = at_vim(id);
            let uuid = uuids.get(&moref);
            let machine = uuid.and_then(|uuid| discovered.iter().find(|m| m.instance.name == *uuid));
            if machine.is_none() {
                tracing::warn!(tag = %self.tag, machine = %moref, "a template, an appliance, or what is gone is not protected");
            }
            machine.cloned()
        };
        Ok(added.iter().map(one).collect())
    }
}
