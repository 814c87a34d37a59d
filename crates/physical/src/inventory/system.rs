//! The system as a whole: name, processors, memory, firmware, and the drivers that it starts with.

use super::Root;
use super::archive::{Archive, in_kernel, module};
use site_recovery::{Error, ErrorKind, Firmware, Result};
use std::collections::BTreeSet;

/// The UEFI variable that tells whether Secure Boot is on (UEFI specification, *Globally Defined Variables*): four bytes of
/// attributes, then its value.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Drivers of disks and adapters that other places give to a machine, as Linux calls them: Hyper-V and Azure, QEMU, VMware,
/// and IDE.
const ELSEWHERE: [&str; 20] = [
    "hv_vmbus",
    "hv_storvsc",
    "hv_netvsc",
    "hid_hyperv",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_pci",
    "vmw_pvscsi",
    "vmxnet3",
    "mptspi",
    "mptsas",
    "ata_piix",
    "ata_generic",
    "ahci",
    "nvme",
    "sd_mod",
    "e1000",
    "e1000e",
    "pci_hyperv",
];

pub(crate) fn name(root: &Root) -> Result<String> {
    let now = root.text("/proc/sys/kernel/hostname")?;
    let name = now.or(root.text("/etc/hostname")?).unwrap_or_default();
    Ok(name.lines().next().unwrap_or_default().to_owned())
}

/// `0-3,8`
pub(crate) fn cpus(root: &Root) -> Result<u32> {
    let text = root.must("/sys/devices/system/cpu/online")?;
    let count = |part: &str| -> Option<u32> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        to.checked_sub(from)?.checked_add(1)
    };
    let counts: Option<Vec<u32>> = text.split(',').map(count).collect();
    counts.map(|c| c.iter().sum()).ok_or_else(|| strange("processors", &text))
}

pub(crate) fn memory(root: &Root) -> Result<u64> {
    let text = root.must("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib = line.trim().strip_suffix("kB").and_then(|n| n.trim().parse::<u64>().ok());
    kib.and_then(|n| n.checked_mul(1024)).ok_or_else(|| strange("memory", line))
}

fn strange(what: &str, text: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the kernel tells its {what} in a way that is not known: {text:?}"),
    )
}

pub(crate) fn firmware(root: &Root) -> Result<Firmware> {
    if !root.has("/sys/firmware/efi") {
        return Ok(Firmware::Bios);
    }
    // Firmware without Secure Boot has no such variable.
    let value = std::fs::read(root.path(SECURE_BOOT)).ok();
    Ok(Firmware::Uefi { secure_boot: value.is_some_and(|v| v.get(4) == Some(&1)) })
}

pub(crate) fn os_name(root: &Root) -> Result<Option<String>> {
    for file in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(text) = root.text(file)? {
            let told = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
            return Ok(told.map(|name| name.trim_matches(['"', '\'']).to_owned()));
        }
    }
    Ok(None)
}

/// Release of the kernel that runs.
pub(crate) fn kernel(root: &Root) -> Result<Option<String>> {
    root.text("/proc/sys/kernel/osrelease")
}

/// Drivers for the hardware of other places that the system starts with: those in the initramfs of the kernel that runs, and
/// those in the kernel itself. `None` where neither is there to be read.
pub(crate) fn boot_drivers(root: &Root) -> Result<Option<Vec<String>>> {
    let Some(kernel) = kernel(root)? else { return Ok(None) };
    let built = built_in(root, &kernel)?;
    let packed = match initramfs(root, &kernel)? {
        // An archive that cannot be read tells nothing: what is in the kernel alone is no answer.
        Some(path) => match Archive::read(&root.path(path)) {
            Ok(archive) => Some(archive.modules().collect::<BTreeSet<_>>()),
            Err(e) => {
                tracing::warn!(error = %e, "the initramfs cannot be read");
                return Ok(None);
            }
        },
        None => None,
    };
    if built.is_none() && packed.is_none() {
        return Ok(None);
    }
    let all: BTreeSet<String> = built.into_iter().chain(packed).flatten().collect();
    Ok(Some(ELSEWHERE.iter().filter(|d| all.contains(**d)).map(|d| (*d).to_owned()).collect()))
}

/// Drivers in the kernel itself.
pub(crate) fn built_in(root: &Root, kernel: &str) -> Result<Option<BTreeSet<String>>> {
    let text = root.text(format!("/lib/modules/{kernel}/modules.builtin"))?;
    Ok(text.map(|text| text.lines().filter_map(module).map(|m| in_kernel(&m)).collect()))
}

/// Where the initramfs of a kernel stands, as a path of the system.
pub(crate) fn initramfs(root: &Root, kernel: &str) -> Result<Option<String>> {
    let mut places = vec![
        format!("/boot/initrd.img-{kernel}"),    // Debian, Ubuntu
        format!("/boot/initramfs-{kernel}.img"), // Red Hat
        format!("/boot/initrd-{kernel}"),        // SUSE
    ];
    // Boot loader specification: a directory per machine and kernel.
    if let Some(machine) = root.text("/etc/machine-id")?.filter(|m| !m.is_empty()) {
        let parts = ["/boot", "/efi", "/boot/efi"];
        places.extend(parts.map(|p| format!("{p}/{machine}/{kernel}/initrd")));
    }
    Ok(places.into_iter().find(|p| root.has(p)))
}
