//! What is there, in both dialects.

use crate::sim::{BOTH, Mode, Sim, machines};
use serde_json::json;
use site_recovery::ErrorKind;
use vmware_vsphere_rest::{
    Connection, DatastoreKind, Error, Filter, FolderKind, MachineFilter, MachineId, NetworkKind, Power,
};

fn names<T>(rows: &[T], name: impl Fn(&T) -> &str) -> Vec<String> {
    rows.iter().map(|row| name(row).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_listed() {
    for dialect in BOTH {
        let Some(sim) = Sim::start(Mode::VCenter) else { return };
        let vcenter = sim.connect(dialect).await;
        let all = Filter::default();
        let datacenters = vcenter.datacenters(&all).await.unwrap();
        assert_eq!(names(&datacenters, |d| &d.name), ["DC0"]);
        let within = Filter { datacenters: vec![datacenters[0].id.clone()], ..Filter::default() };
        let hosts = vcenter.hosts(&within).await.unwrap();
        assert_eq!(hosts.len(), 4);
        assert!(hosts.iter().all(|h| h.connection == Connection::Connected));
        assert_eq!(names(&vcenter.clusters(&within).await.unwrap(), |c| &c.name), ["DC0_C0"]);
        let stores = vcenter.datastores(&all).await.unwrap();
        assert_eq!(names(&stores, |d| &d.name), ["LocalDS_0", "LocalDS_1"]);
        assert!(stores.iter().all(|d| d.kind == DatastoreKind::Vmfs && d.capacity >= d.free_space));
        let networks = vcenter.networks(&all).await.unwrap();
        assert!(networks.iter().any(|n| n.kind == NetworkKind::Standard));
        assert!(networks.iter().any(|n| n.kind == NetworkKind::Distributed), "{networks:?}");
        let named = Filter { names: vec!["vm".into()], ..Filter::default() };
        let folders = vcenter.folders(&named).await.unwrap();
        assert_eq!((folders.len(), &folders[0].kind), (1, &FolderKind::Machines));
        let host = json!({ "host": hosts[0].name, "state": "notResponding" });
        sim.tell("host", host).await;
        let named = Filter { names: vec![hosts[0].name.clone()], ..Filter::default() };
        assert_eq!(vcenter.hosts(&named).await.unwrap()[0].connection, Connection::NotResponding);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_filtered_by_what_they_are_and_where() {
    for dialect in BOTH {
        let Some(sim) = Sim::start(Mode::VCenter) else { return };
        let odd = "웹 \"1\" & 'b' + #?=";
        sim.tell("machine-create", json!({ "name": odd, "on": false })).await;
        let vcenter = sim.connect(dialect).await;
        let found = async |filter: MachineFilter| {
            let mut found = names(&vcenter.machines(&filter).await.unwrap(), |m| &m.name);
            found.sort();
            found
        };
        let none = MachineFilter::default;
        let all = machines(&vcenter).await;
        assert_eq!(all.len(), 3);
        assert_eq!(found(MachineFilter { power: vec![Power::Off], ..none() }).await, [odd]);
        assert_eq!(found(MachineFilter { power: vec![Power::On], ..none() }).await.len(), 2);
        assert_eq!(found(MachineFilter { power: vec![Power::On, Power::Off], ..none() }).await.len(), 3);
        let wanted = vec![odd.to_owned(), "DC0_H0_VM0".to_owned(), "nobody".to_owned()];
        assert_eq!(found(MachineFilter { names: wanted, ..none() }).await, ["DC0_H0_VM0", odd]);
        let ids = vec![all[0].id.clone()];
        assert_eq!(found(MachineFilter { machines: ids, ..none() }).await, ["DC0_C0_RP0_VM0"]);
        let cluster = vcenter.clusters(&Filter::default()).await.unwrap()[0].id.clone();
        assert_eq!(found(MachineFilter { clusters: vec![cluster], ..none() }).await, ["DC0_C0_RP0_VM0"]);
        let host = Filter { names: vec!["DC0_H0".into()], ..Filter::default() };
        let host = vcenter.hosts(&host).await.unwrap()[0].id.clone();
        let there = MachineFilter { hosts: vec![host], power: vec![Power::On], ..none() };
        assert_eq!(found(there).await, ["DC0_H0_VM0"]);
        let folder = Filter { names: vec!["vm".into()], ..Filter::default() };
        let folder = vcenter.folders(&folder).await.unwrap()[0].id.clone();
        assert_eq!(found(MachineFilter { folders: vec![folder], ..none() }).await.len(), 3);
        let datacenter = vcenter.datacenters(&Filter::default()).await.unwrap()[0].id.clone();
        assert_eq!(found(MachineFilter { datacenters: vec![datacenter], ..none() }).await.len(), 3);
        // A name is found again by what a list says.
        sim.tell("machine-create", json!({ "name": "100% a/b", "on": false })).await;
        let kept = machines(&vcenter).await.remove(0).name;
        assert!(kept.starts_with("100%"), "{kept}");
        assert_eq!(found(MachineFilter { names: vec![kept.clone()], ..none() }).await, [kept]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_told_with_its_devices() {
    for dialect in BOTH {
        let Some(sim) = Sim::start(Mode::VCenter) else { return };
        let vcenter = sim.connect(dialect).await;
        let row = machines(&vcenter).await.remove(0);
        let machine = vcenter.machine(&row.id).await.unwrap();
        assert_eq!((&machine.name, &machine.power), (&row.name, &Power::On));
        // What the simulator itself says of the disk, around the API.
        let disks = sim.tell("disks", json!({ "machine": row.name })).await;
        let disk = &machine.disks[&disks[0]["key"].to_string()];
        assert_eq!(machine.disks.len(), disks.as_array().unwrap().len());
        assert_eq!((disk.capacity, disks[0]["capacity"].as_u64()), (Some(4 << 20), Some(4 << 20)));
        assert_eq!(disk.backing.as_ref().unwrap().vmdk_file.as_deref(), disks[0]["vmdk"].as_str());
        let nic = machine.nics.values().next().unwrap();
        assert!(nic.mac_address.is_some() && nic.backing.as_ref().unwrap().network.is_some(), "{nic:?}");
        assert!(machine.hardware.version.starts_with("VMX_") && !machine.guest_os.is_empty());
        assert!(machine.identity.unwrap().instance_uuid.is_some());
        let gone = vcenter.machine(&MachineId::new("vm-99999")).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_vcenter_has_no_such_api() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    let error = sim.try_connect().await.unwrap_err();
    assert!(matches!(error, Error::NoApi { .. }), "{error:?}");
}
