//! Snapshots of machines.

use crate::client::Vim;
use crate::collect::is;
use crate::device::Devices;
use crate::xml::{Xml, list, moment, text};
use crate::{Error, Moref, Task};
use roxmltree::Node;
use site_recovery::Timestamp;

/// A snapshot, and those that were taken after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which.
    pub moref: Moref,
    /// As it was given; several may have the same.
    pub name: String,
    /// For people.
    pub description: String,
    /// When it was taken, by the server's clock.
    pub taken: Option<Timestamp>,
    /// The guest was brought to rest for it.
    pub quiesced: bool,
    /// Those that were taken from here on.
    pub children: Vec<Snapshot>,
}

impl Snapshot {
    /// Of a `VirtualMachineSnapshotInfo`.
    pub(crate) fn roots(node: Node<'_, '_>) -> Vec<Self> {
        list(node, "rootSnapshotList").filter_map(Self::of).collect()
    }

    /// No deeper than a document may be.
    fn of(node: Node<'_, '_>) -> Option<Self> {
        Some(Self {
            moref: Moref::at(node, "snapshot")?,
            name: text(node, "name").unwrap_or_default().to_owned(),
            description: text(node, "description").unwrap_or_default().to_owned(),
            taken: text(node, "createTime").and_then(moment),
            quiesced: is(node, "quiesced"),
            children: list(node, "childSnapshotList").filter_map(Self::of).collect(),
        })
    }

    /// It, and all that were taken after it, the older ones first.
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Self::all));
        all
    }
}

impl Vim {
    /// The roots of a machine's tree of snapshots. Privilege: `System.Read`.
    ///
    /// # Errors
    /// [`ManagedObjectNotFound`](crate::Fault::ManagedObjectNotFound); those of any read.
    pub async fn snapshots(&self, machine: &Moref) -> Result<Vec<Snapshot>, Error> {
        let read = |p: &crate::collect::Properties<'_, '_>| {
            Ok(p.node("snapshot").map(Snapshot::roots).unwrap_or_default())
        };
        self.retrieve_one(machine, &["snapshot"], read).await
    }

    /// The devices of a machine as a snapshot holds them, with the change ids of its disks. Privilege: `System.Read`.
    ///
    /// # Errors
    /// As [`Vim::snapshots`].
    pub async fn snapshot_devices(&self, snapshot: &Moref) -> Result<Devices, Error> {
        let path = "config.hardware.device";
        self.retrieve_one(snapshot, &[path], |p| Ok(Devices::of(p.list(path, "VirtualDevice")))).await
    }

    /// Takes a snapshot without memory; with `quiesce` the guest's tools bring it to rest, and
    /// [`QuiesceFailed`](crate::Fault::QuiesceFailed) is the task's fault where they cannot. The task gives the snapshot.
    /// Privilege: `VirtualMachine.State.CreateSnapshot`.
    ///
    /// # Errors
    /// Those of any change.
    pub async fn create_snapshot(
        &self,
        machine: &Moref,
        name: &str,
        description: &str,
        quiesce: bool,
    ) -> Result<Task, Error> {
        let mut arguments = Xml::new();
        arguments.text("name", name).text("description", description);
        arguments.text("memory", false).text("quiesce", quiesce);
        self.start("CreateSnapshot_Task", machine, arguments).await
    }

    /// Removes a snapshot, not those that were taken after it; what it held goes into the disks. Privilege:
    /// `VirtualMachine.State.RemoveSnapshot`.
    ///
    /// # Errors
    /// [`ManagedObjectNotFound`](crate::Fault::ManagedObjectNotFound) where it is gone; those of any change.
    pub async fn remove_snapshot(&self, snapshot: &Moref) -> Result<Task, Error> {
        let mut arguments = Xml::new();
        arguments.text("removeChildren", false).text("consolidate", true);
        self.start("RemoveSnapshot_Task", snapshot, arguments).await
    }

    /// Takes a machine back to a snapshot. As no memory was kept, it is off afterwards. What stood above goes, unless another
    /// snapshot holds it. Its configuration goes back as well. Privilege: `VirtualMachine.State.RevertToSnapshot`.
    ///
    /// # Errors
    /// As [`Vim::remove_snapshot`].
    pub async fn revert(&self, snapshot: &Moref) -> Result<Task, Error> {
        let mut arguments = Xml::new();
        arguments.text("suppressPowerOn", true);
        self.start("RevertToSnapshot_Task", snapshot, arguments).await
    }

    /// Merges files that removed snapshots have left behind. Privilege: `VirtualMachine.State.RemoveSnapshot`.
    ///
    /// # Errors
    /// Those of any change.
    pub async fn consolidate(&self, machine: &Moref) -> Result<Task, Error> {
        self.start("ConsolidateVMDisks_Task", machine, Xml::new()).await
    }
}
