//! What a server knows of itself.

use serde::{Deserialize, Serialize};
use site_recovery::{Epoch, Error, ErrorKind, Generation, Instance, MachineId, Result, RoleName};
use site_recovery_register::durable;
use std::path::Path;

/// What a server knows of itself: on its own disk, written when it is enrolled, and anew when something lands on it.
///
/// It comes back with the disks, so it proves nothing: it is what the other side is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The timeline.
    pub machine: MachineId,
    /// The site where it stands.
    pub site: RoleName,
    /// Its name there.
    pub name: String,
    /// The promotion that brought it up.
    pub generation: Generation,
    /// The authority under which this was written.
    pub epoch: Epoch,
}

impl Mark {
    /// How its file is called, in the directory of the agent's own state.
    pub const FILE: &str = "guard-mark.json";

    /// The mark of an instance.
    pub fn of(instance: &Instance, epoch: &Epoch) -> Self {
        let Instance { machine, site, name, generation } = instance.clone();
        Self { machine, site, name, generation, epoch: epoch.clone() }
    }

    /// As an instance.
    pub fn instance(&self) -> Instance {
        let Self { machine, site, name, generation, .. } = self.clone();
        Instance { machine, site, name, generation }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `NotFound` where there is none: then nobody has enrolled the server, and nobody guards it; `Corrupt`; those of the
    /// file system.
    pub fn read(path: &Path) -> Result<Self> {
        durable::read(path)?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("{} is not there: the server is not enrolled", path.display()),
            )
        })
    }

    /// Writes it, durably. Whoever lands a server does so on its disks, before it starts: with an older generation it stays
    /// off the network.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> Result<()> {
        durable::write(path, self)
    }
}
