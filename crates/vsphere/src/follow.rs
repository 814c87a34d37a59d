//! Who gets the tag, and who loses it.

use site_recovery::{ErrorKind, Machine, Result, Source, SystemClock};
use site_recovery_vim::{Moref, Settings};
use site_recovery_vmware::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vmware_vsphere_rest::{MachineId, TagName, TagWatch, VCenter};

/// Follows a tag: protect what gains it, and ask what is to become of what loses it. Nothing is protected or given up by itself.
#[derive(Debug)]
pub struct Following {
    settings: Settings,
    tag: TagName,
    vcenter: Option<VCenter>,
    seen: BTreeSet<MachineId>,
    /// What those that had the tag are called at the site.
    names: BTreeMap<MachineId, String>,
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
        Self { settings, tag, vcenter: None, seen: BTreeSet::new(), names: BTreeMap::new() }
    }

    /// Looks, as often as one likes; the first time all that have the tag are gained. `site` is that of the same vCenter.
    ///
    /// # Errors
    /// `NotFound` for a tag that is not there; those of the connection and of discovery. What was not told is told at the next
    /// look.
    pub async fn look(&mut self, site: &Site) -> Result<Followed> {
        let vcenter = match &self.vcenter {
            Some(vcenter) => vcenter.clone(),
            None => VCenter::connect(&self.settings, Arc::new(SystemClock)).await?,
        };
        self.vcenter = Some(vcenter.clone());
        // What fails further on has seen nothing.
        let mut watch = TagWatch::resume(vcenter, self.tag.clone(), self.seen.iter().cloned());
        let changes = watch.look().await?;
        let mut followed = Followed::default();
        if !changes.added.is_empty() {
            let seen = site.discover().await?;
            for id in &changes.added {
                let moref = Moref::new("VirtualMachine", id.to_string());
                let name = match site.vim().machine(&moref).await {
                    Ok(machine) => machine.instance_uuid.unwrap_or_default().to_ascii_lowercase(),
                    // It came and went: the next look does not see it.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(e.into()),
                };
                let Some(machine) = seen.iter().find(|m| m.instance.name == name) else {
                    tracing::warn!(tag = %self.tag, machine = name, "a template or an appliance is not protected");
                    continue;
                };
                followed.gained.push(machine.clone());
                self.names.insert(id.clone(), name);
            }
        }
        followed.lost = changes.removed.iter().filter_map(|id| self.names.remove(id)).collect();
        self.seen.clone_from(watch.seen());
        Ok(followed)
    }
}
