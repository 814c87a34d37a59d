//! Virtual disks.

use crate::xml::{child, flag, number, text, typed};
use crate::{DatastorePath, Moref};
use roxmltree::Node;

/// A virtual disk of a machine, or of a snapshot of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Of this device in this machine; a snapshot has its own.
    pub key: i32,
    /// `Hard disk 1`.
    pub label: Option<String>,
    /// The key of the controller that it hangs at.
    pub controller: i32,
    /// Where at the controller.
    pub unit: Option<u32>,
    /// In bytes.
    pub capacity: u64,
    /// What it is made of.
    pub backing: Backing,
}

/// What a disk is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its format.
    pub kind: BackingKind,
    /// The descriptor. Of a machine with snapshots it is the last of the chain; it changes with each, so read it again before use.
    pub file: Option<DatastorePath>,
    /// Where that is.
    pub datastore: Option<Moref>,
    /// Of the disk, the same in all snapshots: `6000C29…`.
    pub uuid: Option<String>,
    /// The point to which changes are tracked. Take it from a snapshot; a running machine's is ahead of what is on disk.
    pub change_id: Option<String>,
    /// What it does with writes.
    pub mode: DiskMode,
    /// Whether several machines may write to it (`sharingMultiWriter`): no snapshots then.
    pub shared: bool,
    /// Whether it takes only the room that is used.
    pub thin: Option<bool>,
    /// The files below, from the next one down to the base.
    pub parents: Vec<DatastorePath>,
}

/// The format of a disk's backing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackingKind {
    /// One flat file, or a snapshot's on VMFS.
    Flat,
    /// A space-efficient snapshot.
    SeSparse,
    /// Sparse, as of hosted products.
    Sparse,
    /// A LUN, mapped: with `physical` compatibility it takes part in no snapshot.
    RawMapping {
        /// Passed through as it is.
        physical: bool,
    },
    /// Another, by its type.
    Other(String),
}

/// What a disk does with writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskMode {
    /// Keeps them, and takes part in snapshots.
    Persistent,
    /// Keeps them, and takes part in no snapshot.
    IndependentPersistent,
    /// Forgets them when the machine is switched off: a disk that is only read.
    IndependentNonpersistent,
    /// Another, by its word.
    Other(String),
}

impl DiskMode {
    fn of(word: &str) -> Self {
        match word {
            "persistent" | "" => Self::Persistent,
            "independent_persistent" => Self::IndependentPersistent,
            "independent_nonpersistent" => Self::IndependentNonpersistent,
            other => Self::Other(other.to_owned()),
        }
    }

    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Persistent => "persistent",
            Self::IndependentPersistent => "independent_persistent",
            Self::IndependentNonpersistent => "independent_nonpersistent",
            Self::Other(word) => word,
        }
    }

    /// Whether a snapshot of the machine holds the disk.
    pub fn in_snapshots(&self) -> bool {
        matches!(self, Self::Persistent)
    }
}

/// How the room of a new disk is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// When it is written to.
    Thin,
    /// At once, zeroed when it is written to.
    Thick,
    /// At once, zeroed at once.
    Eager,
}

impl Disk {
    pub(super) fn of(node: Node<'_, '_>, key: i32) -> Self {
        // Older hosts say it in KiB alone.
        let older = || number::<u64>(node, "capacityInKB").and_then(|kib| kib.checked_mul(1024));
        Self {
            key,
            label: text(node, "deviceInfo.label").map(str::to_owned),
            controller: number(node, "controllerKey").unwrap_or_default(),
            unit: number(node, "unitNumber"),
            capacity: number(node, "capacityInBytes").or_else(older).unwrap_or_default(),
            backing: child(node, "backing").map_or_else(Backing::unknown, Backing::of),
        }
    }
}

impl Backing {
    fn unknown() -> Self {
        Self {
            kind: BackingKind::Other(String::new()),
            file: None,
            datastore: None,
            uuid: None,
            change_id: None,
            mode: DiskMode::Other(String::new()),
            shared: false,
            thin: None,
            parents: vec![],
        }
    }

    fn of(node: Node<'_, '_>) -> Self {
        let kind = match typed(node).unwrap_or_default() {
            "VirtualDiskFlatVer2BackingInfo" | "VirtualDiskFlatVer1BackingInfo" => BackingKind::Flat,
            "VirtualDiskSeSparseBackingInfo" => BackingKind::SeSparse,
            "VirtualDiskSparseVer2BackingInfo" | "VirtualDiskSparseVer1BackingInfo" => BackingKind::Sparse,
            "VirtualDiskRawDiskMappingVer1BackingInfo" => {
                BackingKind::RawMapping { physical: text(node, "compatibilityMode") == Some("physicalMode") }
            }
            other => BackingKind::Other(other.to_owned()),
        };
        let words = |name| text(node, name).map(str::to_owned);
        let file = |node| text(node, "fileName").and_then(|name| name.parse().ok());
        let parents = std::iter::successors(child(node, "parent"), |parent| child(*parent, "parent"));
        Self {
            kind,
            file: file(node),
            datastore: Moref::at(node, "datastore"),
            uuid: words("uuid"),
            change_id: words("changeId"),
            mode: DiskMode::of(text(node, "diskMode").unwrap_or_default()),
            shared: text(node, "sharing").is_some_and(|s| s != "sharingNone"),
            thin: flag(node, "thinProvisioned"),
            parents: parents.filter_map(file).collect(),
        }
    }
}
