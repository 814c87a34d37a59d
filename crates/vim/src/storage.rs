//! Disks and folders on datastores that no machine has.

use crate::client::{Call, Vim, returned};
use crate::device::Provisioning;
use crate::xml::Xml;
use crate::{DatastorePath, Error, Moref, Task};
use roxmltree::Node;

impl Vim {
    /// Makes a disk; its folder has to be there. Privileges: `Datastore.AllocateSpace`, `Datastore.FileManagement`.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a size that is not whole KiB; [`FileAlreadyExists`](crate::Fault::FileAlreadyExists);
    /// those of any change.
    pub async fn create_disk(
        &self,
        datacenter: &Moref,
        file: &DatastorePath,
        capacity: u64,
        provisioning: Provisioning,
    ) -> Result<Task, Error> {
        whole_kib(capacity)?;
        let kind = match provisioning {
            Provisioning::Thin => "thin",
            Provisioning::Thick => "preallocated",
            Provisioning::Eager => "eagerZeroedThick",
        };
        let mut arguments = Xml::new();
        arguments.text("name", file).moref("datacenter", datacenter);
        arguments.typed("spec", "FileBackedVirtualDiskSpec", |x| {
            x.text("diskType", kind).text("adapterType", "lsiLogic").text("capacityKb", capacity / 1024);
        });
        self.start("CreateVirtualDisk_Task", self.disks()?, arguments).await
    }

    /// Deletes a disk with all of its files. Privilege: `Datastore.FileManagement`.
    ///
    /// # Errors
    /// [`FileNotFound`](crate::Fault::FileNotFound), [`FileLocked`](crate::Fault::FileLocked) of the task; those of any change.
    pub async fn delete_disk(&self, datacenter: &Moref, file: &DatastorePath) -> Result<Task, Error> {
        self.start("DeleteVirtualDisk_Task", self.disks()?, named(datacenter, file)).await
    }

    /// The id that a disk's descriptor holds: `60 00 C2 9e …`. Privilege: `Datastore.FileManagement`.
    ///
    /// # Errors
    /// [`FileNotFound`](crate::Fault::FileNotFound); those of any read.
    pub async fn disk_uuid(&self, datacenter: &Moref, file: &DatastorePath) -> Result<String, Error> {
        let read = |node: Node<'_, '_>| {
            let text = returned(node)?.text().unwrap_or_default();
            if text.is_empty() { Err(Error::garbage("a disk has no uuid")) } else { Ok(text.to_owned()) }
        };
        self.call(Call::read("QueryVirtualDiskUuid", self.disks()?, named(datacenter, file)), read).await
    }

    /// Makes a folder on a datastore, with those that it is in. Privilege: `Datastore.FileManagement`.
    ///
    /// # Errors
    /// [`FileAlreadyExists`](crate::Fault::FileAlreadyExists); those of any change.
    pub async fn make_folder(&self, datacenter: &Moref, folder: &DatastorePath) -> Result<(), Error> {
        let mut arguments = named(datacenter, folder);
        arguments.text("createParentDirectories", true);
        self.call(Call::change("MakeDirectory", self.file_manager()?, arguments), |_| Ok(())).await
    }

    /// Deletes a file, or a folder with all in it. Not for disks of machines: [`Vim::delete_disk`]. Privilege:
    /// `Datastore.FileManagement`.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a datastore itself; those of any change.
    pub async fn delete_file(&self, datacenter: &Moref, file: &DatastorePath) -> Result<Task, Error> {
        if file.path().is_empty() {
            let rule = "a datastore itself is not deleted";
            return Err(Error::invalid("datastore path", file, rule, "name a file or a folder on it"));
        }
        self.start("DeleteDatastoreFile_Task", self.file_manager()?, named(datacenter, file)).await
    }

    fn disks(&self) -> Result<&Moref, Error> {
        self.content().virtual_disk_manager.as_ref().ok_or_else(|| lacks("virtualDiskManager"))
    }

    fn file_manager(&self) -> Result<&Moref, Error> {
        self.content().file_manager.as_ref().ok_or_else(|| lacks("fileManager"))
    }
}

pub(crate) fn whole_kib(capacity: u64) -> Result<(), Error> {
    if capacity > 0 && capacity.is_multiple_of(1024) {
        return Ok(());
    }
    Err(Error::invalid("capacity", capacity, "a disk has whole KiB, and one at least", "round it up"))
}

fn named(datacenter: &Moref, file: &DatastorePath) -> Xml {
    let mut arguments = Xml::new();
    arguments.text("name", file).moref("datacenter", datacenter);
    arguments
}

pub(crate) fn lacks(name: &'static str) -> Error {
    Error::Refused { method: name, fault: crate::Fault::NotSupported, words: "the server has none".into() }
}
