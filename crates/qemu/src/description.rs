//! `machine.json`: what a machine of the site is made of, written by a person or by a recovery.

use serde::{Deserialize, Serialize};
use site_recovery::{DiskRole, Error, Firmware, OsFamily, Result};
use site_recovery_register::Told;
use std::collections::BTreeSet;
use std::path::Path;

/// Name of the file.
pub(crate) const FILE: &str = "machine.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) disks: Vec<DescribedDisk>,
    #[serde(default)]
    pub(crate) nics: Vec<DescribedNic>,
    #[serde(default = "one")]
    pub(crate) cpus: u32,
    /// Bytes.
    #[serde(default = "gibibyte")]
    pub(crate) memory: u64,
    /// A machine type of `qemu-system-* -machine help`.
    #[serde(default = "q35")]
    pub(crate) machine: String,
    /// A processor of `qemu-system-* -cpu help`.
    #[serde(default = "max")]
    pub(crate) cpu: String,
    #[serde(default)]
    pub(crate) firmware: DescribedFirmware,
    /// Whether the machine has a TPM 2.0, emulated by `swtpm`.
    #[serde(default)]
    pub(crate) tpm: bool,
    #[serde(default)]
    pub(crate) os: DescribedOs,
    /// Stable all round the circle; of the names of site and machine, where none is given.
    #[serde(default)]
    pub(crate) uuid: Option<String>,
    /// How the guest agent serves, where the guest has one.
    #[serde(default)]
    pub(crate) agent: Option<DescribedAgent>,
    /// SMBIOS fields of type 1, as `serial` or `family`.
    #[serde(default)]
    pub(crate) smbios: std::collections::BTreeMap<String, String>,
    /// Whether the first serial port is kept in `console.log`. The file grows without bound.
    #[serde(default)]
    pub(crate) console: bool,
    /// Further arguments for QEMU, as they are.
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedDisk {
    pub(crate) id: String,
    /// A file in the machine's `disks/`.
    pub(crate) file: String,
    #[serde(default)]
    pub(crate) format: Format,
    /// System for the first disk, data for the others, where none is given.
    #[serde(default)]
    pub(crate) role: Option<DescribedRole>,
    #[serde(default = "yes")]
    pub(crate) included: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Qcow2,
    Raw,
}

impl Format {
    /// QEMU's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DescribedRole {
    System,
    Data,
}

impl From<DescribedRole> for DiskRole {
    fn from(role: DescribedRole) -> Self {
        match role {
            DescribedRole::System => Self::System,
            DescribedRole::Data => Self::Data,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DescribedFirmware {
    #[default]
    Bios,
    Uefi,
    UefiSecure,
}

impl From<DescribedFirmware> for Firmware {
    fn from(firmware: DescribedFirmware) -> Self {
        match firmware {
            DescribedFirmware::Bios => Self::Bios,
            DescribedFirmware::Uefi => Self::Uefi { secure_boot: false },
            DescribedFirmware::UefiSecure => Self::Uefi { secure_boot: true },
        }
    }
}

impl From<Firmware> for DescribedFirmware {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Bios => Self::Bios,
            Firmware::Uefi { secure_boot: false } => Self::Uefi,
            Firmware::Uefi { secure_boot: true } => Self::UefiSecure,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DescribedOs {
    Linux,
    Windows,
    #[default]
    Other,
}

impl From<DescribedOs> for OsFamily {
    fn from(os: DescribedOs) -> Self {
        match os {
            DescribedOs::Linux => Self::Linux,
            DescribedOs::Windows => Self::Windows,
            DescribedOs::Other => Self::Other,
        }
    }
}

impl From<OsFamily> for DescribedOs {
    fn from(os: OsFamily) -> Self {
        match os {
            OsFamily::Linux => Self::Linux,
            OsFamily::Windows => Self::Windows,
            OsFamily::Other => Self::Other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DescribedAgent {
    /// It freezes file systems.
    Freezes,
    /// Its hooks make applications agree before file systems are frozen (`qemu-ga -F`).
    Hooks,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedNic {
    pub(crate) id: String,
    /// As the UUID.
    #[serde(default)]
    pub(crate) mac: Option<String>,
    /// A network of the site. Without one the NIC is there, and its cable is out.
    #[serde(default)]
    pub(crate) network: Option<String>,
    #[serde(default)]
    pub(crate) addresses: Vec<String>,
}

impl Description {
    /// Reads the description of the machine in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// `Invalid`, naming field, value, rule and remedy.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.told("read", &path)?,
        };
        Self::parse(&text).map(Some).map_err(|e| e.with("file", path.display()))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let described: Self = serde_json::from_slice(text).map_err(|e| {
            let rule = "a description as docs/qemu.md tells";
            Error::invalid(FILE, e, rule, "mend the text at the place named")
        })?;
        described.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.disks.is_empty() {
            return Err(Error::invalid("disks", "empty", "a machine has a disk", "add one with id and file"));
        }
        let (mut ids, mut files) = (BTreeSet::new(), BTreeSet::new());
        for (at, disk) in self.disks.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if disk.file.is_empty() || disk.file.starts_with('.') || !disk.file.chars().all(plain) {
                let rule = "the name of a file in disks/: letters, digits, dot, hyphen, underscore";
                return Err(Error::invalid("disks.file", &disk.file, rule, "move the image there"));
            }
            if !ids.insert(&disk.id) {
                return Err(twice("disks.id", &disk.id));
            }
            if !files.insert(&disk.file) {
                return Err(twice("disks.file", &disk.file));
            }
            if self.role(at) == DiskRole::System && !disk.included {
                let rule = "the system disk is always replicated";
                return Err(Error::invalid("disks.included", false, rule, "include it"));
            }
        }
        if let Some(uuid) = self.uuid.as_ref().filter(|u| !is_uuid(u)) {
            let rule = "32 hexadecimal digits, as 8-4-4-4-12";
            return Err(Error::invalid("uuid", uuid, rule, "write it so, or leave it out"));
        }
        let mut nics = BTreeSet::new();
        if let Some(nic) = self.nics.iter().find(|n| !nics.insert(&n.id)) {
            return Err(twice("nics.id", &nic.id));
        }
        for mac in self.nics.iter().filter_map(|n| n.mac.as_ref()) {
            if !is_mac(mac) {
                let rule = "six bytes in hexadecimal, as aa:bb:cc:dd:ee:ff";
                return Err(Error::invalid("nics.mac", mac, rule, "write it so, or leave it out"));
            }
        }
        if self.cpus == 0 || self.memory < 1 << 20 {
            let rule = "at least one processor and one MiB of memory";
            return Err(Error::invalid(
                "cpus, memory",
                format!("{}, {}", self.cpus, self.memory),
                rule,
                "raise them",
            ));
        }
        for (field, value) in [("machine", &self.machine), ("cpu", &self.cpu)] {
            if value.is_empty() || value.starts_with('-') {
                return Err(Error::invalid(field, value, "a name that QEMU lists", "ask QEMU for `help`"));
            }
        }
        const SMBIOS: [&str; 7] = ["manufacturer", "product", "version", "serial", "uuid", "sku", "family"];
        if let Some(key) = self.smbios.keys().find(|k| !SMBIOS.contains(&k.as_str()) || *k == "uuid") {
            let rule = "one of manufacturer, product, version, serial, sku, family";
            return Err(Error::invalid("smbios", key, rule, "name one of them"));
        }
        Ok(self)
    }

    /// What the disk at this place is for.
    pub(crate) fn role(&self, at: usize) -> DiskRole {
        let first = if at == 0 { DescribedRole::System } else { DescribedRole::Data };
        self.disks[at].role.unwrap_or(first).into()
    }
}

fn twice(field: &'static str, value: &str) -> Error {
    Error::invalid(field, format!("{value:?} twice"), "each is there once", "rename one of them")
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn one() -> u32 {
    1
}

fn gibibyte() -> u64 {
    1 << 30
}

fn q35() -> String {
    "q35".into()
}

fn max() -> String {
    "max".into()
}

fn yes() -> bool {
    true
}
