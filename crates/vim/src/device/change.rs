//! Changes of a machine's devices.

use super::{ControllerKind, Disk, DiskMode, Network, Nic, NicKind, Provisioning};
use crate::storage::whole_kib;
use crate::xml::Xml;
use crate::{DatastorePath, Error};

/// A change of a machine's devices. Keys of what is new are negative, and differ: others of the same call may name them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChange {
    /// A controller without anything at it.
    AddController {
        /// Negative.
        key: i32,
        /// What the guest sees.
        kind: ControllerKind,
        /// Which of its kind: 0 to 3.
        bus: u32,
    },
    /// A disk, of a file that is there or of a new one.
    AddDisk {
        /// Negative.
        key: i32,
        /// The key of the controller.
        controller: i32,
        /// Where at the controller.
        unit: u32,
        /// What it does with writes.
        mode: DiskMode,
        /// What it is made of.
        disk: NewDisk,
    },
    /// Makes a disk larger that no snapshot holds. Privilege: `VirtualMachine.Config.DiskExtend`.
    GrowDisk {
        /// As it is.
        disk: Disk,
        /// In bytes; whole KiB.
        capacity: u64,
    },
    /// Takes a disk away from the machine. Its files stay.
    DetachDisk(Disk),
    /// A network adapter.
    AddNic {
        /// Negative.
        key: i32,
        /// What the guest sees.
        kind: NicKind,
        /// Where it is plugged in.
        network: Network,
        /// Its address; without one the server makes one.
        mac: Option<String>,
        /// Whether it is plugged in when the machine is switched on.
        starts_connected: bool,
    },
    /// Plugs an adapter in elsewhere, or pulls it out, as the adapter given says.
    ChangeNic(Nic),
    /// Takes an adapter away.
    RemoveNic(Nic),
}

/// What a disk that is added is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewDisk {
    /// A file that is there.
    Existing {
        /// Its descriptor.
        file: DatastorePath,
        /// In bytes, where it is known: some servers keep what is said here.
        capacity: Option<u64>,
    },
    /// A new one.
    New {
        /// Its descriptor, or a datastore alone, for a name of the server's choice in the machine's folder there.
        file: DatastorePath,
        /// In bytes; whole KiB.
        capacity: u64,
        /// How its room is taken.
        provisioning: Provisioning,
    },
}

impl DeviceChange {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (key, rule) = match self {
            Self::AddController { key, .. } | Self::AddNic { key, .. } => {
                (*key, "keys of new devices are negative")
            }
            Self::GrowDisk { disk, capacity } if *capacity < disk.capacity => {
                let rule = "a disk that is there never becomes smaller";
                return Err(Error::invalid("capacity", capacity, rule, "make another one"));
            }
            Self::GrowDisk { capacity, .. } => return whole_kib(*capacity),
            Self::AddDisk { key, disk, controller, unit, .. } => {
                if let NewDisk::New { capacity, .. } = disk {
                    whole_kib(*capacity)?;
                }
                if *unit > 63 {
                    let rule = format!("0 to 63 at controller {controller}");
                    return Err(Error::invalid(
                        "unit",
                        format!("{unit}, beyond {rule}"),
                        "a controller has at most 64 units",
                        "choose a free one",
                    ));
                }
                (*key, "keys of new devices are negative")
            }
            Self::DetachDisk(_) | Self::ChangeNic(_) | Self::RemoveNic(_) => return Ok(()),
        };
        if key < 0 { Ok(()) } else { Err(Error::invalid("key", key, rule, "count down from -1")) }
    }

    pub(crate) fn write(&self, xml: &mut Xml) {
        xml.inside("deviceChange", |x| match self {
            Self::AddController { key, kind, bus } => {
                x.text("operation", "add").typed("device", kind.word(), |x| {
                    x.text("key", key).text("busNumber", bus);
                    if kind.is_scsi() {
                        x.text("sharedBus", "noSharing");
                    }
                });
            }
            Self::AddDisk { key, controller, unit, mode, disk } => {
                x.text("operation", "add");
                let made = matches!(disk, NewDisk::New { .. });
                x.maybe("fileOperation", made.then_some("create"));
                x.typed("device", "VirtualDisk", |x| disk.write(x, *key, *controller, *unit, mode));
            }
            Self::GrowDisk { disk, capacity } => {
                x.text("operation", "edit").typed("device", "VirtualDisk", |x| {
                    x.text("key", disk.key).typed("backing", "VirtualDiskFlatVer2BackingInfo", |x| {
                        x.text(
                            "fileName",
                            disk.backing.file.as_ref().map(ToString::to_string).unwrap_or_default(),
                        );
                        x.text("diskMode", disk.backing.mode.word());
                    });
                    x.text("controllerKey", disk.controller).maybe("unitNumber", disk.unit);
                    x.text("capacityInKB", capacity / 1024).text("capacityInBytes", capacity);
                });
            }
            Self::DetachDisk(disk) => {
                x.text("operation", "remove").typed("device", "VirtualDisk", |x| {
                    x.text("key", disk.key).text("controllerKey", disk.controller);
                    x.maybe("unitNumber", disk.unit).text("capacityInKB", disk.capacity / 1024);
                });
            }
            Self::AddNic { key, kind, network, mac, starts_connected } => {
                x.text("operation", "add").typed("device", kind.word(), |x| {
                    x.text("key", key);
                    network.write(x);
                    plug(x, *starts_connected, *starts_connected);
                    x.text("addressType", if mac.is_some() { "manual" } else { "generated" });
                    x.maybe("macAddress", mac.as_deref());
                });
            }
            Self::ChangeNic(nic) => nic_as_it_is(x, "edit", nic),
            Self::RemoveNic(nic) => nic_as_it_is(x, "remove", nic),
        });
    }
}

impl NewDisk {
    fn write(&self, xml: &mut Xml, key: i32, controller: i32, unit: u32, mode: &DiskMode) {
        let (file, capacity, provisioning) = match self {
            Self::Existing { file, capacity } => (file, capacity.unwrap_or_default(), None),
            Self::New { file, capacity, provisioning } => (file, *capacity, Some(*provisioning)),
        };
        xml.text("key", key).typed("backing", "VirtualDiskFlatVer2BackingInfo", |x| {
            x.text("fileName", file).text("diskMode", mode.word());
            if let Some(provisioning) = provisioning {
                x.text("thinProvisioned", provisioning == Provisioning::Thin);
                x.text("eagerlyScrub", provisioning == Provisioning::Eager);
            }
        });
        xml.text("controllerKey", controller).text("unitNumber", unit);
        // The schema asks for it in KiB; what is said in bytes counts.
        xml.text("capacityInKB", capacity / 1024);
        xml.maybe("capacityInBytes", Some(capacity).filter(|c| *c > 0));
    }
}

fn nic_as_it_is(xml: &mut Xml, operation: &str, nic: &Nic) {
    xml.text("operation", operation).typed("device", nic.kind.word(), |x| {
        x.text("key", nic.key);
        if let Some(network) = &nic.network {
            network.write(x);
        }
        plug(x, nic.starts_connected, nic.connected);
        x.maybe("addressType", nic.address_type.as_deref()).maybe("macAddress", nic.mac.as_deref());
    });
}

fn plug(xml: &mut Xml, starts: bool, now: bool) {
    xml.inside("connectable", |x| {
        x.text("startConnected", starts).text("allowGuestControl", true).text("connected", now);
    });
}
