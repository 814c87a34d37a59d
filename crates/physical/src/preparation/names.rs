//! Names of devices that mean another disk elsewhere, or none.

use crate::inventory::Root;
use site_recovery::{Finding, Result, Severity};

/// What is mounted or started from by a name that hardware gives: `/dev/sda1` may be `/dev/vda1` elsewhere.
pub(crate) fn findings(root: &Root) -> Result<Vec<Finding>> {
    let mut found = vec![];
    let mut tell = |place: &str, names: Vec<&str>| {
        if !names.is_empty() {
            let cause =
                format!("{place} names {}, which may be called otherwise elsewhere", names.join(", "));
            let remedy = "name it by UUID= or LABEL=";
            found.push(Finding::new("preparation.device-name", Severity::Critical, cause, remedy));
        }
    };
    let table = root.text("/etc/fstab")?.unwrap_or_default();
    let lines = table.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    let entries = lines.map(|l| l.split_whitespace().collect::<Vec<_>>());
    // One that may be missing does not hold up the start.
    let must =
        entries.filter(|e| e.get(3).is_none_or(|o| !o.split(',').any(|o| o == "nofail" || o == "noauto")));
    let names = must.filter_map(|e| e.first().copied()).filter(|n| of_hardware(n)).collect();
    tell("/etc/fstab", names);
    let line = root.text("/proc/cmdline")?.unwrap_or_default();
    let words = line.split_whitespace().filter_map(|w| w.strip_prefix("root=").or(w.strip_prefix("resume=")));
    tell("the kernel's command line", words.filter(|n| of_hardware(n)).collect());
    Ok(found)
}

fn of_hardware(name: &str) -> bool {
    let Some(name) = name.strip_prefix("/dev/") else { return false };
    name.starts_with("disk/by-path/")
        || name.starts_with("disk/by-id/")
        || ["sd", "hd", "vd", "xvd", "nvme", "mmcblk", "cciss/"].iter().any(|driver| name.starts_with(driver))
}
