//! Which block devices are the server's own disks, and how they are called for good.

use super::block::{Block, Blocks};
use super::mounts::Mounts;
use super::{Layer, Layout, LeftOut, Reach, Root, ServerDisk, WhyLeftOut};
use site_recovery::{Error, Result};
use site_recovery_register::not_found;
use std::path::{Path, PathBuf};

/// What is taken for a disk besides what hardware says.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) named: &'a [PathBuf],
    /// Whether those that are named are all.
    pub(crate) only: bool,
    /// Never, whoever names it.
    pub(crate) scratch: &'a [PathBuf],
}

impl Wanted<'_> {
    /// The disks, and what is none and why.
    ///
    /// # Errors
    /// `NotFound` for a disk that was named and is not there; `Invalid` for one that is scratch space.
    pub(crate) fn find(
        &self,
        root: &Root,
        blocks: &Blocks,
        mounts: &Mounts,
    ) -> Result<(Vec<ServerDisk>, Vec<LeftOut>)> {
        let (mut disks, mut left_out) = (vec![], vec![]);
        let mut unseen: Vec<&PathBuf> = self.named.iter().collect();
        for block in blocks.devices().filter(|b| b.size > 0) {
            let known = unseen.len();
            unseen.retain(|name| !is_called(root, block, name));
            let is_named = unseen.len() < known;
            let is_scratch = self.scratch.iter().any(|name| is_called(root, block, name));
            let why = match (is_scratch, is_named) {
                (true, true) => {
                    let rule = "scratch space is no disk of the server";
                    let remedy = "name another device as scratch space, or not this one as a disk";
                    return Err(Error::invalid("inventory.disks", block.device().display(), rule, remedy));
                }
                (true, false) => Some(WhyLeftOut::Scratch),
                (false, true) => None,
                (false, false) if self.only => Some(WhyLeftOut::NotNamed),
                (false, false) => no_disk(root, blocks, block),
            };
            match why {
                Some(why) => left_out.push(LeftOut { device: block.device(), why }),
                None => disks.push(disk(root, blocks, mounts, block)),
            }
        }
        match unseen.first() {
            Some(name) => {
                let message = format!(
                    "{} is named as a disk and is none now: set it up, or do not name it",
                    name.display()
                );
                Err(not_found(message).with("field", "inventory.disks"))
            }
            None => Ok((disks, left_out)),
        }
    }
}

/// Whether that is a device's path, a link to it, or the file behind it.
fn is_called(root: &Root, block: &Block, name: &Path) -> bool {
    let file = file_behind(root, block);
    let node = PathBuf::from(format!("/dev/{}", block.name.replace('!', "/")));
    let is = |n: &Path| n == block.device() || n == node || Some(n) == file.as_deref();
    is(name) || root.real(name).is_some_and(|n| is(&n))
}

/// Why a device is no disk of the server's own.
fn no_disk(root: &Root, blocks: &Blocks, block: &Block) -> Option<WhyLeftOut> {
    let is = |attribute: &str, value: &str| {
        root.attribute(format!("/sys/block/{}/{attribute}", block.name)).as_deref() == Some(value)
    };
    let place = root.link(format!("/sys/block/{}", block.name)).unwrap_or_default();
    let place = place.to_string_lossy();
    if block.is_multipath() {
        return None;
    }
    // Heads of NVMe with several paths stand below `virtual/nvme-subsystem`, and are hardware.
    if place.contains("/virtual/block/") || block.kind != super::LayerKind::Whole {
        return Some(WhyLeftOut::Virtual);
    }
    if blocks.map_over(&block.name).is_some() {
        return Some(WhyLeftOut::Path);
    }
    // 5: the SCSI type of a CD-ROM.
    if block.name.starts_with("sr") || is("device/type", "5") {
        return Some(WhyLeftOut::Optical);
    }
    if is("removable", "1") {
        return Some(WhyLeftOut::Removable);
    }
    is("ro", "1").then_some(WhyLeftOut::ReadOnly)
}

fn disk(root: &Root, blocks: &Blocks, mounts: &Mounts, block: &Block) -> ServerDisk {
    // A map of several paths has the identity of each of them.
    let below = blocks.below(&block.name);
    let hardware = below.iter().find(|n| block.is_multipath() && **n != block.name).unwrap_or(&block.name);
    let id = identity(root, hardware).or_else(|| {
        let file = file_behind(root, block)?;
        Some(format!("loop:{}", file.display()))
    });
    let layers =
        blocks.upwards(&block.name).into_iter().filter(|b| b.name != block.name || b.content.is_some());
    let layers = layers
        .map(|b| Layer { device: b.device(), kind: b.kind, size: b.size, content: b.content.clone() })
        .collect();
    let sector = root.attribute(format!("/sys/block/{}/queue/logical_block_size", block.name));
    ServerDisk {
        layout: Layout {
            stable: id.is_some(),
            reach: if block.is_multipath() { Reach::Multipath } else { reach(root, &block.name) },
            layers,
        },
        id: id.unwrap_or_else(|| block.name.clone()),
        device: block.device(),
        size: block.size,
        sector: sector.and_then(|s| s.parse().ok()).unwrap_or(512),
        role: mounts.role(root, blocks, block),
        file_systems: mounts.on(blocks, block),
    }
}

/// What the hardware calls itself: world-wide name, serial number, or what udev made of either.
fn identity(root: &Root, name: &str) -> Option<String> {
    let attribute = |of: &str| root.attribute(format!("/sys/block/{name}/{of}")).map(|v| in_one_word(&v));
    let told = ["wwid", "device/wwid", "device/serial", "serial"].into_iter().find_map(attribute);
    // Page 0x80 of SCSI's vital product data: a head of four bytes, then the serial number.
    let page = || {
        let page = std::fs::read(root.path(format!("/sys/block/{name}/device/vpd_pg80"))).ok()?;
        let serial = in_one_word(&String::from_utf8_lossy(page.get(4..)?));
        (!serial.is_empty()).then_some(serial)
    };
    told.or_else(page).or_else(|| by_udev(root, name))
}

/// Space within is underscore, as udev writes it; what cannot be printed is dropped.
fn in_one_word(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    plain.split_whitespace().collect::<Vec<_>>().join("_")
}

fn by_udev(root: &Root, name: &str) -> Option<String> {
    let names = root.names("/dev/disk/by-id").ok()?;
    let ours = |n: &&String| root.link_name(format!("/dev/disk/by-id/{n}")).as_deref() == Some(name);
    let mut ours: Vec<&String> = names.iter().filter(ours).collect();
    ours.sort_by_key(|n| !n.starts_with("wwn-"));
    ours.first().map(|n| (*n).clone())
}

/// The file behind a loop device.
fn file_behind(root: &Root, block: &Block) -> Option<PathBuf> {
    let file = root.attribute(format!("/sys/block/{}/loop/backing_file", block.name))?;
    // What the kernel appends; it could be anything's name then.
    (!file.ends_with(" (deleted)")).then(|| Path::new(&file).to_owned())
}

fn reach(root: &Root, name: &str) -> Reach {
    let place = root.link(format!("/sys/block/{name}")).unwrap_or_default();
    let place = place.to_string_lossy();
    let transport = root.attribute(format!("/sys/block/{name}/device/transport"));
    match transport.as_deref() {
        Some("tcp" | "rdma" | "fc") => Reach::Fabrics,
        _ if place.contains("/session") => Reach::Iscsi,
        _ if place.contains("/rport-") => Reach::FibreChannel,
        _ => Reach::Local,
    }
}
