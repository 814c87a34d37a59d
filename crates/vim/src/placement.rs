//! What keeps a machine where it is: overrides of DRS, of storage DRS, and of a host's autostart.

use crate::client::{Call, Vim};
use crate::collect::{Properties, is};
use crate::xml::{Xml, child, list, text};
use crate::{Error, Fault, Moref, Task};
use roxmltree::Node;

/// What DRS does with one machine, apart from what it does with all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Override {
    /// None of its own.
    None,
    /// It is not moved.
    Stays,
    /// It is moved, as this override says.
    Moves,
}

impl Override {
    /// Of the structure for this machine in a list; `key` names the machine.
    fn among<'a, 'i: 'a>(mut all: impl Iterator<Item = Node<'a, 'i>>, key: &str, machine: &Moref) -> Self {
        match all.find(|node| Moref::at(*node, key).is_some_and(|m| m.id == machine.id)) {
            None => Self::None,
            Some(node) if crate::xml::flag(node, "enabled") == Some(false) => Self::Stays,
            Some(_) => Self::Moves,
        }
    }

    /// How the list comes from one to the other; nothing where it need not change.
    fn operation(self, wanted: Self) -> Option<&'static str> {
        match (self, wanted) {
            (now, wanted) if now == wanted => None,
            (Self::None, _) => Some("add"),
            (_, Self::None) => Some("remove"),
            _ => Some("edit"),
        }
    }
}

impl Vim {
    /// What DRS of a cluster does with a machine. Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read; a cluster is vCenter's alone.
    pub async fn drs_override(&self, cluster: &Moref, machine: &Moref) -> Result<Override, Error> {
        let path = "configurationEx";
        let read = |p: &Properties<'_, '_>| {
            let all = p.node(path).into_iter().flat_map(|node| list(node, "drsVmConfig"));
            Ok(Override::among(all, "key", machine))
        };
        self.retrieve_one(cluster, &[path], read).await
    }

    /// Whether DRS of a cluster moves machines between hosts by itself. Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read; a cluster is vCenter's alone.
    pub async fn drs_moves(&self, cluster: &Moref) -> Result<bool, Error> {
        let path = "configurationEx";
        let read = |p: &Properties<'_, '_>| {
            let config = p.node(path).and_then(|node| child(node, "drsConfig"));
            Ok(config.is_some_and(is_automated))
        };
        self.retrieve_one(cluster, &[path], read).await
    }

    /// Sets it. Nothing is done where it is so. Privilege: `Host.Inventory.EditCluster`.
    ///
    /// # Errors
    /// Those of any change.
    pub async fn set_drs_override(
        &self,
        cluster: &Moref,
        machine: &Moref,
        wanted: Override,
    ) -> Result<Option<Task>, Error> {
        let now = self.drs_override(cluster, machine).await?;
        let Some(operation) = now.operation(wanted) else { return Ok(None) };
        let mut arguments = Xml::new();
        arguments.typed("spec", "ClusterConfigSpecEx", |x| {
            x.inside("drsVmConfigSpec", |x| override_spec(x, operation, "key", machine, wanted));
        });
        arguments.text("modify", true);
        self.start("ReconfigureComputeResource_Task", cluster, arguments).await.map(Some)
    }

    /// What storage DRS of a pod does with a machine. Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read; a pod is vCenter's alone.
    pub async fn storage_drs_override(&self, pod: &Moref, machine: &Moref) -> Result<Override, Error> {
        let path = "podStorageDrsEntry";
        let read = |p: &Properties<'_, '_>| {
            let config = p.node(path).and_then(|entry| child(entry, "storageDrsConfig"));
            let all = config.into_iter().flat_map(|config| list(config, "vmConfig"));
            Ok(Override::among(all, "vm", machine))
        };
        self.retrieve_one(pod, &[path], read).await
    }

    /// Whether storage DRS of a pod moves disks between its datastores by itself. Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read; a pod is vCenter's alone.
    pub async fn storage_drs_moves(&self, pod: &Moref) -> Result<bool, Error> {
        let path = "podStorageDrsEntry";
        let read = |p: &Properties<'_, '_>| {
            let config = p.node(path).and_then(|entry| child(entry, "storageDrsConfig"));
            let config = config.and_then(|config| child(config, "podConfig"));
            Ok(config.is_some_and(is_automated))
        };
        self.retrieve_one(pod, &[path], read).await
    }

    /// Sets it. Nothing is done where it is so. Privilege: `StoragePod.Config`.
    ///
    /// # Errors
    /// [`NotSupported`](Fault::NotSupported) on a host; those of any change.
    pub async fn set_storage_drs_override(
        &self,
        pod: &Moref,
        machine: &Moref,
        wanted: Override,
    ) -> Result<Option<Task>, Error> {
        let Some(manager) = &self.content().storage_resource_manager else {
            let (method, words) = ("ConfigureStorageDrsForPod_Task", "it is vCenter's".into());
            return Err(Error::Refused { method, fault: Fault::NotSupported, words });
        };
        let now = self.storage_drs_override(pod, machine).await?;
        let Some(operation) = now.operation(wanted) else { return Ok(None) };
        let mut arguments = Xml::new();
        arguments.moref("pod", pod).inside("spec", |x| {
            x.inside("vmConfigSpec", |x| override_spec(x, operation, "vm", machine, wanted));
        });
        arguments.text("modify", true);
        self.start("ConfigureStorageDrsForPod_Task", manager, arguments).await.map(Some)
    }

    /// Whether a machine is among those that a host starts when it starts itself. Whether it starts any at all is a setting of the
    /// host's own, which may change. `autostart` is the [host's manager](crate::Host::autostart). Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn autostart(&self, autostart: &Moref, machine: &Moref) -> Result<bool, Error> {
        let path = "config";
        let read = |p: &Properties<'_, '_>| {
            let config = p.node(path);
            let mut all = config.into_iter().flat_map(|config| list(config, "powerInfo"));
            let ours = all.find(|info| Moref::at(*info, "key").is_some_and(|m| m.id == machine.id));
            let starts = |info| text(info, "startAction").is_some_and(|a| a.eq_ignore_ascii_case("powerOn"));
            Ok(ours.is_some_and(starts))
        };
        self.retrieve_one(autostart, &[path], read).await
    }

    /// Sets whether a host starts a machine when it starts itself. Whether it starts any at all stays as it is. Privilege:
    /// `Host.Config.AutoStart`.
    ///
    /// # Errors
    /// Those of any change.
    pub async fn set_autostart(&self, autostart: &Moref, machine: &Moref, starts: bool) -> Result<(), Error> {
        let mut arguments = Xml::new();
        arguments.inside("spec", |x| {
            x.inside("powerInfo", |x| {
                x.moref("key", machine).text("startOrder", -1).text("startDelay", -1);
                x.text("waitForHeartbeat", "systemDefault");
                x.text("startAction", if starts { "powerOn" } else { "none" });
                x.text("stopDelay", -1).text("stopAction", "systemDefault");
            });
        });
        self.call(Call::change("ReconfigureAutostart", autostart, arguments), |_| Ok(())).await
    }
}

/// What is not said is taken for the worst.
fn is_automated(config: Node<'_, '_>) -> bool {
    is(config, "enabled")
        && !matches!(text(config, "defaultVmBehavior"), Some("manual" | "partiallyAutomated"))
}

fn override_spec(xml: &mut Xml, operation: &str, key: &str, machine: &Moref, wanted: Override) {
    xml.text("operation", operation);
    if wanted == Override::None {
        xml.any_moref("removeKey", machine);
    } else {
        xml.inside("info", |x| {
            x.moref(key, machine).text("enabled", wanted == Override::Moves);
        });
    }
}
