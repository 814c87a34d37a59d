//! All block devices of a system, and which lies on which.

use super::{LayerKind, Root};
use site_recovery::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A block device or partition, by the kernel's name.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) name: String,
    /// Major and minor number, as in `8:1`.
    pub(crate) number: String,
    pub(crate) size: u64,
    pub(crate) kind: LayerKind,
    /// What udev recognised on it.
    pub(crate) content: Option<String>,
    /// Whether the BIOS looks here for a boot loader.
    pub(crate) bios_boot: bool,
    /// What it is made of; for a partition, its disk.
    below: Vec<String>,
    /// The name that its maker gave it.
    given: Option<String>,
    /// `dm/uuid`: who made it, and of what.
    mapping: Option<String>,
}

/// All block devices.
#[derive(Debug)]
pub(crate) struct Blocks {
    all: BTreeMap<String, Block>,
}

impl Blocks {
    pub(crate) fn read(root: &Root) -> Result<Self> {
        let mut all = BTreeMap::new();
        for name in root.names("/sys/block")? {
            let dir = format!("/sys/block/{name}");
            if root.attribute(format!("{dir}/hidden")).as_deref() == Some("1") {
                continue; // a path of NVMe; its head is the device
            }
            let Some(mut device) = Block::read(root, &dir, &name) else { continue };
            device.below = root.names(format!("{dir}/slaves"))?;
            for part in root.names(&dir)?.into_iter().filter(|n| n.starts_with(&name)) {
                let dir = format!("{dir}/{part}");
                if root.has(format!("{dir}/partition"))
                    && let Some(mut found) = Block::read(root, &dir, &part)
                {
                    found.kind = LayerKind::Partition;
                    found.below = vec![name.clone()];
                    all.insert(part, found);
                }
            }
            all.insert(name, device);
        }
        Ok(Self { all })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Block> {
        self.all.get(name)
    }

    /// All but partitions, those of a driver in the order in which the kernel counts them: `sdz` is before `sdaa`.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Block> {
        let mut all: Vec<&Block> = self.all.values().filter(|b| b.kind != LayerKind::Partition).collect();
        all.sort_by_key(|b| (b.name.get(..2), b.name.len()));
        all.into_iter()
    }

    /// By major and minor number.
    pub(crate) fn numbered(&self, number: &str) -> Option<&Block> {
        self.all.values().find(|b| b.number == number)
    }

    /// By a path in `/dev`.
    pub(crate) fn at(&self, path: &str) -> Option<&Block> {
        let name = path.strip_prefix("/dev/")?;
        let mapped = name.strip_prefix("mapper/");
        self.all.values().find(|b| match mapped {
            Some(given) => b.given.as_deref() == Some(given),
            None => b.name.replace('!', "/") == name,
        })
    }

    /// What a device lies on, itself among it.
    pub(crate) fn below(&self, name: &str) -> BTreeSet<String> {
        self.reach(name, |block| block.below.clone())
    }

    /// What lies on a device, itself among it.
    pub(crate) fn above(&self, name: &str) -> BTreeSet<String> {
        self.reach(name, |block| {
            let on = |b: &&Block| b.below.contains(&block.name);
            self.all.values().filter(on).map(|b| b.name.clone()).collect()
        })
    }

    /// What lies on a device, the nearest first.
    pub(crate) fn upwards(&self, name: &str) -> Vec<&Block> {
        let mut found: Vec<&Block> = self.above(name).iter().filter_map(|n| self.get(n)).collect();
        found.sort_by_key(|b| (self.below(&b.name).intersection(&self.above(name)).count(), b.name.clone()));
        found
    }

    fn reach(&self, name: &str, next: impl Fn(&Block) -> Vec<String>) -> BTreeSet<String> {
        let (mut found, mut open) = (BTreeSet::new(), vec![name.to_owned()]);
        while let Some(name) = open.pop() {
            if let Some(block) = self.get(&name)
                && found.insert(name)
            {
                open.extend(next(block));
            }
        }
        found
    }

    /// The multipath map that this is a path of.
    pub(crate) fn map_over(&self, name: &str) -> Option<&Block> {
        self.all.values().find(|b| b.is_multipath() && b.below.iter().any(|n| n == name))
    }

    /// The names of mapped devices.
    pub(crate) fn volumes(&self) -> Vec<String> {
        self.all.values().filter_map(|b| b.given.clone()).collect()
    }
}

impl Block {
    fn read(root: &Root, dir: &str, name: &str) -> Option<Self> {
        let attribute = |of: &str| root.attribute(format!("{dir}/{of}"));
        let number = attribute("dev")?;
        let size = attribute("size")?.parse::<u64>().ok()?.checked_mul(512)?;
        let udev = root.attribute(format!("/run/udev/data/b{number}")).unwrap_or_default();
        let property = |key: &str| {
            let found = udev.lines().filter_map(|l| l.strip_prefix("E:")?.split_once('='));
            found.filter(|(k, _)| *k == key).map(|(_, v)| v.to_owned()).next()
        };
        let mapping = attribute("dm/uuid");
        let kind = match &mapping {
            Some(uuid) if uuid.starts_with("LVM-") => LayerKind::Volume,
            Some(uuid) if uuid.starts_with("CRYPT-") => LayerKind::Crypt,
            Some(uuid) if uuid.starts_with("DMRAID-") => LayerKind::Array,
            Some(uuid) if uuid.starts_with("part") => LayerKind::Partition,
            _ if root.has(format!("{dir}/md")) => LayerKind::Array,
            _ if root.has(format!("{dir}/dm")) || root.has(format!("{dir}/bcache")) => LayerKind::Mapping,
            _ => LayerKind::Whole,
        };
        let part = property("ID_PART_ENTRY_TYPE").is_some_and(|t| t == BIOS_BOOT);
        let active = property("ID_PART_ENTRY_FLAGS").is_some_and(|f| f == "0x80");
        Some(Self {
            name: name.to_owned(),
            number,
            size,
            kind,
            content: property("ID_FS_TYPE"),
            bios_boot: part || active,
            below: vec![],
            given: attribute("dm/name"),
            mapping,
        })
    }

    pub(crate) fn is_multipath(&self) -> bool {
        self.mapping.as_ref().is_some_and(|uuid| uuid.starts_with("mpath-"))
    }

    /// Where programs find it.
    pub(crate) fn device(&self) -> PathBuf {
        match &self.given {
            Some(given) => format!("/dev/mapper/{given}").into(),
            None => format!("/dev/{}", self.name.replace('!', "/")).into(),
        }
    }
}

/// The type of a GPT partition that holds GRUB for a BIOS (UEFI's list of types, as GRUB's manual gives it).
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
