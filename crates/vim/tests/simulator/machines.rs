//! Machines changed, made, registered and removed: looked at on the datastore, beside what the server says.

use crate::sim::{BOTH, LONG, Mode, Sim, first};
use bytes::Bytes;
use site_recovery::ErrorKind;
use site_recovery_vim::*;

/// Where a machine can be made.
pub(crate) async fn place(vim: &Vim) -> Place {
    let (host, compute) = (vim.hosts().await.unwrap(), vim.computes().await.unwrap());
    let compute = compute.into_iter().find(|c| !c.is_cluster()).unwrap();
    let folder = vim.datacenters().await.unwrap()[0].machines.clone().unwrap();
    let host = host.into_iter().find(|h| compute.hosts.contains(&h.moref)).unwrap();
    Place { folder, pool: compute.pool.unwrap(), host: Some(host.moref) }
}

pub(crate) fn spec(name: &str) -> ConfigSpec {
    let controller = DeviceChange::AddController { key: -1, kind: ControllerKind::ParaVirtual, bus: 0 };
    let disk = DeviceChange::AddDisk {
        key: -2,
        controller: -1,
        unit: 0,
        mode: DiskMode::Persistent,
        disk: NewDisk::New {
            file: DatastorePath::new("LocalDS_0", "").unwrap(),
            capacity: 2 << 20,
            provisioning: Provisioning::Thin,
        },
    };
    ConfigSpec {
        name: Some(name.into()),
        guest_id: Some("otherLinux64Guest".into()),
        files: Some(DatastorePath::new("LocalDS_0", "").unwrap()),
        cpus: Some(2),
        memory_mib: Some(512),
        devices: vec![controller, disk],
        extra: vec![("site-recovery.mark".into(), "<a & b>".into())],
        firmware: Some(Firmware::Efi { secure_boot: true }),
        ..ConfigSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_attached_to_registered_anew_and_removed() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let place = place(&vim).await;
        let name = "웹 1 \"a\" & 'b'";
        // The simulator makes no disk below a folder with `%` in its name.
        for odd in ["50%", "a/b", "c\\d"] {
            let bare = ConfigSpec { devices: vec![], ..spec(odd) };
            let made = vim.create_machine(&place, &bare).await.unwrap().object(LONG).await.unwrap();
            assert_eq!(vim.machine(&made).await.unwrap().name, odd);
            vim.destroy(&made).await.unwrap().wait(LONG).await.unwrap();
        }
        let made = vim.create_machine(&place, &spec(name)).await.unwrap().object(LONG).await.unwrap();
        let machine = vim.machine(&made).await.unwrap();
        let details = machine.details.unwrap();
        assert_eq!((machine.name.as_str(), machine.power), (name, Power::Off));
        assert_eq!(details.firmware, Some(Firmware::Efi { secure_boot: true }));
        assert_eq!((details.cpus, details.memory_mib), (2, 512));
        assert_eq!(details.extra["site-recovery.mark"], "<a & b>");
        let disk = details.devices.disks[0].clone();
        let controller = details.devices.controller_of(&disk).unwrap().clone();
        assert_eq!(
            (&controller.kind, disk.unit, disk.capacity),
            (&ControllerKind::ParaVirtual, Some(0), 2 << 20)
        );
        let twice = async { vim.create_machine(&place, &spec(name)).await?.wait(LONG).await };
        assert_eq!(twice.await.unwrap_err().kind(), ErrorKind::Conflict);

        // A disk of its own, attached, and taken away with its file left.
        let datacenter = vim.datacenters().await.unwrap()[0].moref.clone();
        let folder = DatastorePath::new("LocalDS_1", "웹 자료").unwrap();
        vim.make_folder(&datacenter, &folder).await.unwrap();
        let file = folder.join("it's 1.vmdk").unwrap();
        let task = vim.create_disk(&datacenter, &file, 1 << 20, Provisioning::Thin).await.unwrap();
        task.wait(LONG).await.unwrap();
        assert!(sim.local(&file).is_file());
        assert!(!vim.disk_uuid(&datacenter, &file).await.unwrap().is_empty());
        let attach = DeviceChange::AddDisk {
            key: -1,
            controller: controller.key,
            unit: details.devices.free_unit(&controller).unwrap(),
            mode: DiskMode::IndependentPersistent,
            disk: NewDisk::Existing { file: file.clone(), capacity: None },
        };
        let change = ConfigSpec { devices: vec![attach], ..ConfigSpec::default() };
        vim.reconfigure(&made, &change).await.unwrap().wait(LONG).await.unwrap();
        let now = vim.machine(&made).await.unwrap().details.unwrap();
        let added =
            now.devices.disks.iter().find(|d| d.backing.file.as_ref() == Some(&file)).unwrap().clone();
        assert_eq!(
            (added.unit, added.capacity, &added.backing.mode),
            (Some(1), 1 << 20, &DiskMode::IndependentPersistent)
        );
        let taken = async { vim.reconfigure(&made, &change).await?.wait(LONG).await };
        assert!(taken.await.is_err(), "the unit is in use");
        let change = ConfigSpec { devices: vec![DeviceChange::DetachDisk(added)], ..ConfigSpec::default() };
        vim.reconfigure(&made, &change).await.unwrap().wait(LONG).await.unwrap();
        assert_eq!(vim.machine(&made).await.unwrap().details.unwrap().devices.disks.len(), 1);
        assert!(sim.local(&file).is_file(), "its file stays");

        // On, off, and off again.
        vim.power_on(&made, None).await.unwrap().wait(LONG).await.unwrap();
        let running = vim.unregister(&made).await.unwrap_err();
        assert!(matches!(running.fault(), Some(Fault::InvalidPowerState { .. })), "{running:?}");
        vim.power_off(&made).await.unwrap().wait(LONG).await.unwrap();
        let off = async { vim.power_off(&made).await?.wait(LONG).await };
        assert!(matches!(off.await.unwrap_err().fault(), Some(Fault::InvalidPowerState { .. })));

        // Out of the inventory and in again.
        let vmx = machine.file.unwrap();
        vim.unregister(&made).await.unwrap();
        assert_eq!(vim.machine(&made).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(sim.local(&vmx).is_file());
        let again = vim.register(&place, &vmx, Some(name)).await.unwrap().object(LONG).await.unwrap();
        assert_eq!(vim.machine(&again).await.unwrap().details.unwrap().devices.disks.len(), 1);
        vim.destroy(&again).await.unwrap().wait(LONG).await.unwrap();
        assert!(!sim.local(disk.backing.file.as_ref().unwrap()).exists());

        vim.delete_disk(&datacenter, &file).await.unwrap().wait(LONG).await.unwrap();
        assert!(!sim.local(&file).exists());
        let note = folder.join("note 50%.txt").unwrap();
        vim.file(sim.datacenter(), note.clone()).put(Bytes::from_static(b"mark")).await.unwrap();
        assert_eq!(std::fs::read(sim.local(&note)).unwrap(), b"mark");
        vim.delete_file(&datacenter, &folder).await.unwrap().wait(LONG).await.unwrap();
        assert!(!sim.local(&folder).exists());
        vim.log_out().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_kept_where_it_is() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let vim = sim.connect().await;
    let machine = first(&vim).await.moref;
    let cluster = vim.computes().await.unwrap().into_iter().find(|c| c.is_cluster()).unwrap().moref;
    let pod = vim.folders().await.unwrap().into_iter().find(|f| f.moref.kind == "StoragePod").unwrap().moref;
    for wanted in [Override::Stays, Override::Moves, Override::None] {
        let task = vim.set_drs_override(&cluster, &machine, wanted).await.unwrap().expect("it changes");
        task.wait(LONG).await.unwrap();
        assert_eq!(vim.drs_override(&cluster, &machine).await.unwrap(), wanted);
        assert!(vim.set_drs_override(&cluster, &machine, wanted).await.unwrap().is_none());
        let task = vim.set_storage_drs_override(&pod, &machine, wanted).await.unwrap().expect("it changes");
        task.wait(LONG).await.unwrap();
        assert_eq!(vim.storage_drs_override(&pod, &machine).await.unwrap(), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_found_by_its_identifier_and_each_start_is_remembered() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        let uuid = machine.instance_uuid.clone().unwrap();
        assert_eq!(vim.find(&uuid).await.unwrap(), Some(machine.moref.clone()));
        assert_eq!(vim.find("5029c9d2-0000-0000-0000-000000000001").await.unwrap(), None);

        let at = async || vim.newest_start(&machine.moref).await.unwrap();
        let before = at().await;
        vim.power_off(&machine.moref).await.unwrap().wait(LONG).await.unwrap();
        let task = vim.create_snapshot(&machine.moref, "below", "", false).await.unwrap();
        let snapshot = task.object(LONG).await.unwrap();
        assert_eq!(at().await, before, "nothing was started");
        vim.power_on(&machine.moref, None).await.unwrap().wait(LONG).await.unwrap();
        let started = at().await.expect("a start");
        assert!(before.is_none_or(|b| b.key < started.key));

        // Back to below, which leaves it off.
        sim.write(&machine.name, 0, 4096).await;
        vim.revert(&snapshot).await.unwrap().wait(LONG).await.unwrap();
        let now = vim.machine(&machine.moref).await.unwrap();
        assert_eq!(now.power, Power::Off);
        let disk = &now.details.unwrap().devices.disks[0];
        let delta =
            sim.local(disk.backing.file.as_ref().unwrap()).to_str().unwrap().replace(".vmdk", "-delta.vmdk");
        assert!(
            std::fs::read(delta).unwrap()[..4096].iter().all(|b| *b == 0),
            "what was written since is gone"
        );
        assert_eq!(at().await, Some(started));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_grows_and_keeps_its_bytes() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        sim.write(&machine.name, 0, 4096).await;
        let disk = machine.details.unwrap().devices.disks[0].clone();
        let (file, capacity) = (disk.backing.file.clone().unwrap(), disk.capacity + (1 << 20));
        let less = DeviceChange::GrowDisk { disk: disk.clone(), capacity: 1024 };
        let less = ConfigSpec { devices: vec![less], ..ConfigSpec::default() };
        assert_eq!(vim.reconfigure(&machine.moref, &less).await.unwrap_err().kind(), ErrorKind::Invalid);
        let change = DeviceChange::GrowDisk { disk, capacity };
        let spec = ConfigSpec { devices: vec![change], ..ConfigSpec::default() };
        vim.reconfigure(&machine.moref, &spec).await.unwrap().wait(LONG).await.unwrap();
        let bytes = std::fs::read(sim.local(&file.flat().unwrap())).unwrap();
        assert_eq!(bytes.len() as u64, capacity);
        assert!(bytes[..4096].iter().all(|b| *b == 0xff) && bytes[8192..].iter().all(|b| *b == 0));
        let now = vim.machine(&machine.moref).await.unwrap().details.unwrap();
        assert_eq!(now.devices.disks[0].capacity, capacity);
    }
}
