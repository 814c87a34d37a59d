//! Machines: on and off, changed, made, registered, removed.

use crate::client::{Call, Vim};
use crate::xml::Xml;
use crate::{ConfigSpec, DatastorePath, Error, Fault, Moref, Task};
use std::time::Duration;

/// Where a new machine goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of machines: a datacenter's [`machines`](crate::Datacenter::machines), or one below.
    pub folder: Moref,
    /// Of the host or its cluster.
    pub pool: Moref,
    /// Without one the cluster chooses, where it may.
    pub host: Option<Moref>,
}

/// Whether a server takes changes at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writes {
    /// It does.
    Allowed,
    /// Its licence allows none, as that of a host without a paid one: it reads, and nothing else.
    Restricted,
    /// It refused for another reason, which says nothing about its licence.
    Refused(Fault),
}

impl Vim {
    /// Switches a machine on, where it is or on a host. Privilege: `VirtualMachine.Interact.PowerOn`.
    ///
    /// # Errors
    /// Those of any change; [`InvalidPowerState`](Fault::InvalidPowerState), of the call or of the task, where it is on.
    pub async fn power_on(&self, machine: &Moref, host: Option<&Moref>) -> Result<Task, Error> {
        let mut arguments = Xml::new();
        arguments.maybe_moref("host", host);
        self.start("PowerOnVM_Task", machine, arguments).await
    }

    /// Cuts a machine's power. Privilege: `VirtualMachine.Interact.PowerOff`.
    ///
    /// # Errors
    /// Those of any change; [`InvalidPowerState`](Fault::InvalidPowerState), of the call or of the task, where it is off.
    pub async fn power_off(&self, machine: &Moref) -> Result<Task, Error> {
        self.start("PowerOffVM_Task", machine, Xml::new()).await
    }

    /// Resets a machine. Privilege: `VirtualMachine.Interact.Reset`.
    ///
    /// # Errors
    /// Those of any change.
    pub async fn reset(&self, machine: &Moref) -> Result<Task, Error> {
        self.start("ResetVM_Task", machine, Xml::new()).await
    }

    /// Asks the guest to shut down, and waits for nothing: see [`Vim::wait_for_power`]. Privilege:
    /// `VirtualMachine.Interact.PowerOff`.
    ///
    /// # Errors
    /// [`ToolsUnavailable`](Fault::ToolsUnavailable); those of any change.
    pub async fn shut_down_guest(&self, machine: &Moref) -> Result<(), Error> {
        self.call(Call::change("ShutdownGuest", machine, Xml::new()), |_| Ok(())).await
    }

    /// Changes a machine. Privileges by what changes: `VirtualMachine.Config.ChangeTracking`, `.AdvancedConfig` (extra keys),
    /// `.AddExistingDisk`, `.AddNewDisk`, `.RemoveDisk`, `.AddRemoveDevice`, `.EditDevice`, `.Settings`, `.Rename`;
    /// `Datastore.AllocateSpace` for new disks, `Network.Assign` for adapters.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), before anything is sent; those of any change.
    pub async fn reconfigure(&self, machine: &Moref, spec: &ConfigSpec) -> Result<Task, Error> {
        spec.check()?;
        let mut arguments = Xml::new();
        spec.write(&mut arguments, "spec");
        self.start("ReconfigVM_Task", machine, arguments).await
    }

    /// Makes a machine; the task gives it. Privileges: `VirtualMachine.Inventory.Create`, `Resource.AssignVMToPool`, and those
    /// of [`Vim::reconfigure`] for what it has.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), before anything is sent; [`DuplicateName`](Fault::DuplicateName); those of any change.
    pub async fn create_machine(&self, place: &Place, spec: &ConfigSpec) -> Result<Task, Error> {
        spec.check()?;
        if spec.name.is_none() || spec.files.is_none() {
            let rule = "a new machine has a name, and a place for its files";
            return Err(Error::invalid("spec", "without one of them", rule, "give name and files"));
        }
        let mut arguments = Xml::new();
        spec.write(&mut arguments, "config");
        arguments.moref("pool", &place.pool).maybe_moref("host", place.host.as_ref());
        self.start("CreateVM_Task", &place.folder, arguments).await
    }

    /// Takes a machine whose files are there into the inventory; the task gives it. Without a name it has that of its file.
    /// Privileges: `VirtualMachine.Inventory.Register`, `Resource.AssignVMToPool`.
    ///
    /// # Errors
    /// [`DuplicateName`](Fault::DuplicateName) also where it is registered already; those of any change.
    pub async fn register(
        &self,
        place: &Place,
        file: &DatastorePath,
        name: Option<&str>,
    ) -> Result<Task, Error> {
        let mut arguments = Xml::new();
        arguments.text("path", file).maybe("name", name.map(crate::names::in_argument));
        arguments.text("asTemplate", false).moref("pool", &place.pool);
        arguments.maybe_moref("host", place.host.as_ref());
        self.start("RegisterVM_Task", &place.folder, arguments).await
    }

    /// Takes a machine that is off out of the inventory. Its files stay. Privilege: `VirtualMachine.Inventory.Unregister`.
    ///
    /// # Errors
    /// [`InvalidPowerState`](Fault::InvalidPowerState); those of any change.
    pub async fn unregister(&self, machine: &Moref) -> Result<(), Error> {
        self.call(Call::change("UnregisterVM", machine, Xml::new()), |_| Ok(())).await
    }

    /// Removes a machine that is off, with the files of all disks that it has just then. Privilege:
    /// `VirtualMachine.Inventory.Delete`.
    ///
    /// # Errors
    /// [`InvalidPowerState`](Fault::InvalidPowerState); those of any change.
    pub async fn destroy(&self, machine: &Moref) -> Result<Task, Error> {
        self.start("Destroy_Task", machine, Xml::new()).await
    }

    /// Whether the server takes changes, by one that changes nothing: an empty specification for some machine, which leaves
    /// no more than an entry among its tasks. Privilege: any of [`Vim::reconfigure`].
    ///
    /// # Errors
    /// Those of any change, but for faults: these are the answer.
    pub async fn probe_writes(&self, machine: &Moref, limit: Duration) -> Result<Writes, Error> {
        let outcome = match self.reconfigure(machine, &ConfigSpec::default()).await {
            Ok(task) => task.wait(limit).await.map(drop),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(Writes::Allowed),
            Err(Error::Refused { fault: Fault::RestrictedVersion, .. }) => Ok(Writes::Restricted),
            Err(Error::Refused { fault, .. }) if fault != Fault::NotAuthenticated => {
                Ok(Writes::Refused(fault))
            }
            Err(error) => Err(error),
        }
    }
}
