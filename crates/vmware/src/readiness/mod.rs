//! Whether the whole circle would work here. What the server says is read by [`Look`], and judged by functions over plain data: one
//! file for each thing that is judged.
//!
//! Not repeated is what others tell: the engine of snapshots of the machine and of its guest, the master target of its retention
//! volume and of what has landed by it.

mod appliance;
mod host;
mod look;
mod machines;
mod place;
mod reading;
mod rights;
mod server;

pub(crate) use look::Look;
pub use rights::{On, RIGHTS, Right, Way};
pub(crate) use server::kind;

/// As many as are told by name.
const NAMED: usize = 5;

/// Names as people read them: the first ones, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.collect();
    let first = all[..all.len().min(NAMED)].join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Plain data as a server that is well would give it.

    use site_recovery::Finding;
    use site_recovery_vim::{
        Backing, BackingKind, Controller, ControllerKind, Details, Devices, Disk, DiskMode, Host, Machine,
        Moref, Power, Snapshot, Tools,
    };

    pub(super) fn codes(found: &[Finding]) -> Vec<&str> {
        found.iter().map(|finding| finding.code.as_str()).collect()
    }

    pub(crate) fn machine(name: &str) -> Machine {
        Machine {
            moref: Moref::new("VirtualMachine", "vm-1"),
            name: name.into(),
            parent: None,
            power: Power::On,
            host: None,
            connection: Some("connected".into()),
            template: false,
            uuid: None,
            instance_uuid: Some("5029c9d2-1e0c-4a4b-9d53-0d8c2c7a9f10".into()),
            file: "[one] web/web.vmx".parse().ok(),
            details: Some(Box::new(details())),
            missing: vec![],
        }
    }

    fn details() -> Details {
        Details {
            pool: None,
            datastores: vec![],
            networks: vec![],
            disabled_methods: vec![],
            consolidation_needed: false,
            question: None,
            boot_time: None,
            change_version: None,
            version: Some("vmx-19".into()),
            firmware: None,
            guest_id: None,
            guest_name: None,
            annotation: None,
            disk_uuid: false,
            change_tracking_supported: true,
            change_tracking: false,
            cpus: 1,
            memory_mib: 1024,
            devices: Devices::default(),
            extra: Default::default(),
            tools: Tools { running: true, ..Tools::default() },
            snapshots: vec![],
            current_snapshot: None,
        }
    }

    pub(crate) fn controller(key: i32, kind: ControllerKind, bus: u32) -> Controller {
        Controller { key, kind, bus, shared: false, devices: vec![] }
    }

    pub(crate) fn disk(key: i32, controller: i32, unit: u32) -> Disk {
        let backing = Backing {
            kind: BackingKind::Flat,
            file: "[one] web/web.vmdk".parse().ok(),
            datastore: None,
            uuid: None,
            change_id: None,
            mode: DiskMode::Persistent,
            shared: false,
            thin: None,
            parents: vec![],
        };
        Disk { key, label: None, controller, unit: Some(unit), capacity: 1 << 20, backing }
    }

    pub(super) fn snapshot(name: &str) -> Snapshot {
        Snapshot {
            moref: Moref::new("VirtualMachineSnapshot", "snapshot-1"),
            name: name.into(),
            description: String::new(),
            taken: None,
            quiesced: false,
            children: vec![],
        }
    }

    pub(super) fn host(name: &str) -> Host {
        Host {
            moref: Moref::new("HostSystem", "host-1"),
            name: name.into(),
            parent: None,
            connection: Some("connected".into()),
            maintenance: false,
            version: None,
            uuid: None,
            managed_by: None,
            autostart: None,
            datastores: vec![Moref::new("Datastore", "datastore-1")],
            networks: vec![Moref::new("Network", "network-1")],
        }
    }

    #[test]
    fn a_long_list_is_told_by_its_beginning() {
        let all: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(super::listed(all.iter().map(String::as_str)), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(super::listed(["a", "b"].into_iter()), "a, b");
    }
}
