//! What Azure asks of a machine that is replicated to it, as data: one table for each time at which it was published.
//!
//! Source: azure-docs, articles/site-recovery, `vmware-physical-azure-support-matrix.md`, as of 2018, 2019-10 and 2023.

use crate::vhd;
use serde::{Deserialize, Serialize};
use site_recovery::{DiskRole, DiskSpec, Finding, Firmware, Machine, Severity};
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;

/// Whose rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// The support matrix of 2018.
    #[serde(rename = "2018")]
    Of2018,
    /// That of October 2019.
    #[serde(rename = "2019")]
    Of2019,
    /// That of 2023, which still stands.
    #[default]
    #[serde(rename = "current")]
    Current,
}

/// The limits of a profile. Sizes in GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) system_disk_bios: u64,
    /// None: a machine with UEFI cannot come back, and is not taken.
    pub(crate) system_disk_uefi: Option<u64>,
    pub(crate) data_disks: usize,
    pub(crate) data_disk: u64,
    /// In MiB; a disk has to be larger.
    pub(crate) least_disk: u64,
    pub(crate) secure_boot: bool,
}

impl Profile {
    pub(crate) fn rules(self) -> Rules {
        let first = Rules {
            system_disk_bios: 2048,
            system_disk_uefi: None,
            data_disks: 64,
            data_disk: 4095,
            least_disk: 0,
            secure_boot: false,
        };
        match self {
            Self::Of2018 => first,
            Self::Of2019 => Rules { data_disk: 8192, ..first },
            Self::Current => {
                Rules { system_disk_uefi: Some(4095), data_disk: 32_767, least_disk: 1024, ..first }
            }
        }
    }
}

impl Rules {
    /// What of the machine Azure would not take.
    pub(crate) fn check(&self, machine: &Machine) -> Vec<Finding> {
        let mut found = vec![];
        let included: Vec<&DiskSpec> = machine.included().collect();
        let systems: Vec<_> = included.iter().filter(|disk| disk.role == DiskRole::System).collect();
        if systems.len() != 1 {
            let cause = format!("{} disks are said to be the one that it starts from", systems.len());
            found.push(refusal("azure.system_disk", cause, "mark exactly one disk as System"));
        }
        let data = included.len() - systems.len().min(1);
        if data > self.data_disks {
            let cause = format!("it has {data} data disks, Azure takes {}", self.data_disks);
            found.push(refusal("azure.disks", cause, "exclude some, or join them"));
        }
        for disk in included {
            found.extend(self.disk(disk, machine.firmware));
        }
        match machine.firmware {
            Firmware::Uefi { .. } if self.system_disk_uefi.is_none() => {
                let cause = "it starts by UEFI, which these rules know for migration alone".to_owned();
                found.push(refusal("azure.firmware", cause, "choose the current profile"));
            }
            Firmware::Uefi { secure_boot: true } if !self.secure_boot => {
                let cause = "secure boot is on, which a machine made of imported disks has not".to_owned();
                found.push(refusal(
                    "azure.secure_boot",
                    cause,
                    "switch secure boot off in the guest's firmware",
                ));
            }
            _ => {}
        }
        found
    }

    fn disk(&self, disk: &DiskSpec, firmware: Firmware) -> Option<Finding> {
        let (id, size) = (&disk.id, disk.size);
        let most = match (disk.role, firmware) {
            (DiskRole::System, Firmware::Bios) => self.system_disk_bios,
            (DiskRole::System, Firmware::Uefi { .. }) => {
                self.system_disk_uefi.unwrap_or(self.system_disk_bios)
            }
            (DiskRole::Data, _) => self.data_disk,
        };
        if size > most * GIB {
            let cause = format!("disk {id} has {size} bytes, at most {most} GiB are taken of its kind");
            return Some(refusal("azure.disk_size", cause, "shrink it, or exclude it"));
        }
        if self.least_disk > 0 && size <= self.least_disk << 20 {
            let cause = format!("disk {id} has {size} bytes, Azure wants more than {} MiB", self.least_disk);
            // Azure Site Recovery refuses it; Azure itself imports it all the same.
            return Some(Finding::new("azure.small_disk", Severity::Warning, cause, "grow it"));
        }
        None
    }
}

fn refusal(code: &str, cause: String, remedy: &str) -> Finding {
    Finding::new(code, Severity::Critical, cause, remedy)
}

/// What a site has, on which it depends how disks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Means {
    /// Whether the account is in the region.
    pub(crate) is_near: bool,
    /// Whether it has points of its own, in page blobs.
    pub(crate) points: bool,
    pub(crate) prepares: bool,
}

/// Which disks are uploaded, and what of them cannot be had.
pub(crate) fn uploads(machine: &Machine, means: Means) -> Vec<Finding> {
    let through = "they go through this process, which takes longer and leaves the account's region";
    let mut found = vec![];
    if !means.is_near {
        let cause = "the account is in another region: disks are uploaded, not imported".to_owned();
        found.push(Finding::new("azure.upload", Severity::Info, cause, through));
    }
    for disk in machine.included().filter(|disk| !vhd::fits_a_blob(disk.size)) {
        let large = format!("disk {} has {} bytes, and no page blob has more than 8 TiB", disk.id, disk.size);
        if means.points {
            let cause = format!("{large}: the points of this site are page blobs");
            let remedy = "keep its points elsewhere and open the site without these, or exclude the disk";
            found.push(refusal("azure.disk_size", cause, remedy));
            continue;
        }
        if means.is_near {
            let cause = format!("{large}: it is uploaded, not imported");
            found.push(Finding::new("azure.upload", Severity::Info, cause, through));
        }
        if means.prepares {
            let cause = format!("{large}: the preparation is not given this disk");
            let remedy = "see to it that the guest starts without changes on this disk";
            found.push(Finding::new("azure.preparation", Severity::Warning, cause, remedy));
        }
    }
    found
}

/// Boot drivers without which a guest does not find its disk, or the network, on Azure's hypervisor.
const DRIVERS: [&str; 2] = ["hv_storvsc", "hv_vmbus"];

/// What guest preparation would have to do, as far as the guest's facts tell.
pub(crate) fn preparation(machine: &Machine, prepares: bool) -> Option<Finding> {
    let drivers = machine.guest.boot_drivers.as_ref()?;
    let has = |name: &str| {
        drivers.iter().any(|driver| driver.trim_start_matches("hv_") == name.trim_start_matches("hv_"))
    };
    let missing: Vec<_> = DRIVERS.into_iter().filter(|name| !has(name)).collect();
    let no_dhcp = machine.guest.dhcp == Some(false);
    if missing.is_empty() && !no_dhcp {
        return None;
    }
    let mut lacks = missing.iter().map(|name| format!("the driver {name} at boot")).collect::<Vec<_>>();
    lacks.extend(no_dhcp.then(|| "DHCP".to_owned()));
    let cause = format!("the guest lacks {}", lacks.join(", "));
    Some(if prepares {
        let remedy = "nothing: it is prepared at failover, which takes longer by that";
        Finding::new("azure.preparation", Severity::Info, cause, remedy)
    } else {
        let remedy = "give the site a preparation, or prepare the guest ahead";
        Finding::new("azure.preparation", Severity::Warning, cause, remedy)
    })
}

/// Names that Azure keeps for itself (Azure Resource Manager, reserved resource names).
const RESERVED: [&str; 14] = [
    "azure",
    "edge",
    "exchange",
    "live",
    "microsoft",
    "office",
    "onedrive",
    "onenote",
    "outlook",
    "powerpoint",
    "sharepoint",
    "skype",
    "windows",
    "xbox",
];

/// Kinds of disks that are made of a page blob.
pub(crate) const DISK_KINDS: [&str; 5] =
    ["Standard_LRS", "StandardSSD_LRS", "StandardSSD_ZRS", "Premium_LRS", "Premium_ZRS"];

pub(crate) fn is_disk_kind(kind: &str) -> bool {
    DISK_KINDS.contains(&kind)
}

/// Whether Azure takes it as the name of a disk.
pub(crate) fn is_resource_name(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 80 && name.chars().all(inside) && first && ends(name.chars().last())
}

/// As many as Azure takes of a resource, without those of ours.
const TAGS: usize = 50 - 5;

/// What of these tags Azure would not take.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut found = vec![];
    if tags.len() > TAGS {
        let rule = format!("{TAGS}, beside those that the site writes");
        found.push(Finding::setting("tags", tags.len(), &rule, "leave some out"));
    }
    for (name, value) in tags {
        let bad = |c: char| "<>%&\\?/".contains(c) || c.is_control();
        let begins = |word: &str| name.to_ascii_lowercase().starts_with(word);
        let kept = ["microsoft", "azure", "windows", "sr-"].into_iter().any(begins);
        if name.is_empty() || name.len() > 512 || name.chars().any(bad) || kept {
            let rule =
                "1-512 letters, none of <>%&\\?/, and not beginning with microsoft, azure, windows or sr-";
            found.push(Finding::setting("tags", name, rule, "choose another name"));
        }
        if value.len() > 256 {
            found.push(Finding::setting("tags", name, "its value has at most 256 letters", "shorten it"));
        }
    }
    found
}

pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(disks: &[(DiskRole, u64)], firmware: Firmware) -> Machine {
        let json = serde_json::json!({
            "instance": { "machine": "m", "site": "s", "name": "web", "generation": 0 }, "disks": [], "nics": [],
            "cpus": 1, "memory": 1 << 30, "firmware": "Bios", "os": "Linux", "platform": "Virtual",
            "guest": { "os_name": null, "boot_drivers": null, "dhcp": null, "agent": null, "snapshots": null },
        });
        let mut machine: Machine = serde_json::from_value(json).expect("a machine");
        machine.firmware = firmware;
        for (number, (role, size)) in disks.iter().enumerate() {
            let id = format!("d{number}").into();
            machine.disks.push(DiskSpec { id, size: *size, role: *role, included: true });
        }
        machine
    }

    fn codes(profile: Profile, machine: &Machine) -> Vec<String> {
        let blocking = profile.rules().check(machine).into_iter().filter(Finding::blocks);
        blocking.map(|finding| finding.code).collect()
    }

    #[test]
    fn each_time_has_its_own_limits_at_their_edges() {
        use DiskRole::{Data, System};
        let none: [&str; 0] = [];
        let uefi = Firmware::Uefi { secure_boot: false };
        for (profile, disks, firmware, expected) in [
            (Profile::Of2018, vec![(System, 2048 * GIB)], Firmware::Bios, &none[..]),
            (Profile::Of2018, vec![(System, 2048 * GIB + 512)], Firmware::Bios, &["azure.disk_size"]),
            (Profile::Of2018, vec![(System, GIB), (Data, 4096 * GIB)], Firmware::Bios, &["azure.disk_size"]),
            (Profile::Of2019, vec![(System, GIB), (Data, 8192 * GIB)], Firmware::Bios, &none),
            (Profile::Of2019, vec![(System, GIB), (Data, 8193 * GIB)], Firmware::Bios, &["azure.disk_size"]),
            (Profile::Of2019, vec![(System, GIB)], uefi, &["azure.firmware"]),
            (Profile::Current, vec![(System, 4095 * GIB), (Data, 32_767 * GIB)], uefi, &none),
            (Profile::Current, vec![(System, GIB), (Data, 32_768 * GIB)], uefi, &["azure.disk_size"]),
            (Profile::Current, vec![(System, 2049 * GIB)], Firmware::Bios, &["azure.disk_size"]),
            (Profile::Current, vec![(Data, GIB)], uefi, &["azure.system_disk"]),
            (
                Profile::Current,
                vec![(System, GIB)],
                Firmware::Uefi { secure_boot: true },
                &["azure.secure_boot"],
            ),
        ] {
            assert_eq!(codes(profile, &machine(&disks, firmware)), expected, "{profile:?} {disks:?}");
        }
        let mut many = vec![(System, GIB)];
        many.extend([(Data, GIB); 65]);
        assert_eq!(codes(Profile::Current, &machine(&many, uefi)), ["azure.disks"]);
        many.pop();
        assert_eq!(codes(Profile::Current, &machine(&many, uefi)), none);
    }

    #[test]
    fn a_disk_that_no_page_blob_holds_is_uploaded_where_its_points_are_not_page_blobs() {
        use DiskRole::{Data, System};
        let small = machine(&[(System, GIB), (Data, 8191 * GIB)], Firmware::Bios);
        let large = machine(&[(System, GIB), (Data, 8192 * GIB)], Firmware::Bios);
        let told = |machine: &Machine, is_near, points, prepares| -> Vec<(String, Severity)> {
            let found = uploads(machine, Means { is_near, points, prepares });
            found.into_iter().map(|finding| (finding.code, finding.severity)).collect()
        };
        let upload = ("azure.upload".to_owned(), Severity::Info);
        let unprepared = ("azure.preparation".to_owned(), Severity::Warning);
        assert_eq!(told(&small, true, true, true), []);
        assert_eq!(told(&small, false, true, true), vec![upload.clone()]);
        assert_eq!(told(&large, true, true, false), [("azure.disk_size".to_owned(), Severity::Critical)]);
        assert_eq!(told(&large, true, false, false), vec![upload.clone()]);
        assert_eq!(told(&large, true, false, true), [upload.clone(), unprepared.clone()]);
        assert_eq!(told(&large, false, false, true), [upload, unprepared]);
    }

    #[test]
    fn a_guest_without_drivers_or_dhcp_is_told() {
        let mut machine = machine(&[(DiskRole::System, GIB)], Firmware::Bios);
        assert_eq!(preparation(&machine, false), None, "nothing is known of it");
        machine.guest.boot_drivers = Some(vec!["virtio_blk".into(), "hv_vmbus".into()]);
        let told = preparation(&machine, false).expect("told");
        assert_eq!(told.severity, Severity::Warning);
        assert!(told.cause.contains("hv_storvsc") && !told.cause.contains("hv_vmbus"), "{}", told.cause);
        assert_eq!(preparation(&machine, true).expect("told").severity, Severity::Info);
        machine.guest.boot_drivers = Some(DRIVERS.map(str::to_owned).into());
        assert_eq!(preparation(&machine, false), None);
        machine.guest.dhcp = Some(false);
        assert!(preparation(&machine, false).expect("told").cause.contains("DHCP"));
    }
}
