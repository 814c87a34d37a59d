//! What a machine is to be: for a new one, or for a change of one.

use crate::xml::Xml;
use crate::{DatastorePath, DeviceChange, Error};

/// A configuration, or the part of it that is to change: what is `None` stays, or is the server's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSpec {
    /// The version of the configuration that this change was made for; after another change it is refused with
    /// [`ConcurrentAccess`](crate::Fault::ConcurrentAccess).
    pub change_version: Option<String>,
    /// As people read it; any characters.
    pub name: Option<String>,
    /// Of the virtual hardware: `vmx-19`.
    pub version: Option<String>,
    /// Of the BIOS.
    pub uuid: Option<String>,
    /// Of the machine within vCenter.
    pub instance_uuid: Option<String>,
    /// `ubuntu64Guest`.
    pub guest_id: Option<String>,
    /// For people.
    pub annotation: Option<String>,
    /// The machine's folder, or a datastore alone, where the server makes one. A new machine needs it.
    pub files: Option<DatastorePath>,
    /// Whether the guest sees the disks' serial numbers (`disk.EnableUUID`).
    pub disk_uuid: Option<bool>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// In MiB.
    pub memory_mib: Option<u64>,
    /// What is added and taken away.
    pub devices: Vec<DeviceChange>,
    /// Keys and values; an empty value takes the key away.
    pub extra: Vec<(String, String)>,
    /// With secure boot, for UEFI.
    pub firmware: Option<Firmware>,
    /// Whether changes of the disks are tracked.
    pub change_tracking: Option<bool>,
}

/// What a machine boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Efi {
        /// Whether only what is signed boots.
        secure_boot: bool,
    },
}

impl ConfigSpec {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > 80) {
            let rule = "a machine's name has 1 to 80 characters";
            return Err(Error::invalid("name", format!("{:?}", self.name), rule, "choose another one"));
        }
        if self.extra.iter().any(|(key, _)| key.is_empty()) {
            return Err(Error::invalid("extra", "a value without a key", "each has a key", "name it"));
        }
        self.devices.iter().try_for_each(DeviceChange::check)
    }

    /// In the order of the schema.
    pub(crate) fn write(&self, xml: &mut Xml, name: &str) {
        xml.inside(name, |x| {
            x.maybe("changeVersion", self.change_version.as_deref());
            x.maybe("name", self.name.as_deref().map(crate::names::in_config));
            x.maybe("version", self.version.as_deref());
            x.maybe("uuid", self.uuid.as_deref());
            x.maybe("instanceUuid", self.instance_uuid.as_deref());
            x.maybe("guestId", self.guest_id.as_deref());
            x.maybe("annotation", self.annotation.as_deref());
            if let Some(files) = &self.files {
                x.inside("files", |x| {
                    x.text("vmPathName", files);
                });
            }
            if let Some(visible) = self.disk_uuid {
                x.inside("flags", |x| {
                    x.text("diskUuidEnabled", visible);
                });
            }
            x.maybe("numCPUs", self.cpus).maybe("memoryMB", self.memory_mib);
            for change in &self.devices {
                change.write(x);
            }
            for (key, value) in &self.extra {
                x.inside("extraConfig", |x| {
                    x.text("key", key).any_text("value", value);
                });
            }
            if let Some(Firmware::Efi { secure_boot }) = self.firmware {
                x.inside("bootOptions", |x| {
                    x.text("efiSecureBootEnabled", secure_boot);
                });
            }
            x.maybe("changeTrackingEnabled", self.change_tracking);
            x.maybe("firmware", self.firmware.map(|f| if f == Firmware::Bios { "bios" } else { "efi" }));
        });
    }
}
