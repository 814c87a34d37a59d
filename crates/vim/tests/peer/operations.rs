//! What is asked of a server, element by element. That it is in the schema's order is looked at for each request by the fake.

use crate::fake::{Fake, Reply, answer, ended, fault, value};
use site_recovery::ErrorKind;
use site_recovery_vim::*;
use std::collections::BTreeSet;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn moref(kind: &str) -> Moref {
    Moref::new(kind, format!("{}-1", kind.to_lowercase()))
}

fn path(text: &str) -> DatastorePath {
    text.parse().unwrap()
}

fn disk() -> Disk {
    Disk {
        key: 2000,
        label: None,
        controller: 1000,
        unit: Some(3),
        capacity: 1 << 20,
        backing: Backing {
            kind: BackingKind::Flat,
            file: Some(path("[a] b/b.vmdk")),
            datastore: None,
            uuid: None,
            change_id: None,
            mode: DiskMode::Persistent,
            shared: false,
            thin: None,
            parents: vec![],
        },
    }
}

fn nic(network: Network) -> Nic {
    Nic {
        key: 4000,
        kind: NicKind::E1000e,
        mac: Some("00:50:56:01:02:03".into()),
        address_type: Some("assigned".into()),
        network: Some(network),
        connected: false,
        starts_connected: true,
    }
}

/// All that a specification can hold.
fn whole() -> ConfigSpec {
    let standard = || Network::Standard { name: "LAN <1>".into(), moref: Some(moref("Network")) };
    ConfigSpec {
        change_version: Some("7".into()),
        name: Some("웹/1 50%".into()),
        version: Some("vmx-19".into()),
        uuid: Some("u".into()),
        instance_uuid: Some("i".into()),
        guest_id: Some("ubuntu64Guest".into()),
        annotation: Some("of <site-recovery>".into()),
        files: Some(path("[a]")),
        disk_uuid: Some(true),
        cpus: Some(2),
        memory_mib: Some(4096),
        devices: vec![
            DeviceChange::AddController { key: -1, kind: ControllerKind::ParaVirtual, bus: 0 },
            DeviceChange::GrowDisk { disk: disk(), capacity: 2 << 20 },
            DeviceChange::AddController { key: -2, kind: ControllerKind::Nvme, bus: 0 },
            DeviceChange::AddController { key: -3, kind: ControllerKind::Ahci, bus: 0 },
            DeviceChange::AddController { key: -4, kind: ControllerKind::LsiLogicSas, bus: 1 },
            DeviceChange::AddController { key: -5, kind: ControllerKind::LsiLogic, bus: 2 },
            DeviceChange::AddController { key: -6, kind: ControllerKind::BusLogic, bus: 3 },
            DeviceChange::AddController { key: -7, kind: ControllerKind::Ide, bus: 1 },
            DeviceChange::AddDisk {
                key: -8,
                controller: -1,
                unit: 0,
                mode: DiskMode::IndependentNonpersistent,
                disk: NewDisk::Existing { file: path("[a] b/it's 1.vmdk"), capacity: Some(1 << 20) },
            },
            DeviceChange::AddDisk {
                key: -9,
                controller: -1,
                unit: 1,
                mode: DiskMode::Persistent,
                disk: NewDisk::New {
                    file: path("[a]"),
                    capacity: 3 << 20,
                    provisioning: Provisioning::Eager,
                },
            },
            DeviceChange::DetachDisk(disk()),
            DeviceChange::AddNic {
                key: -10,
                kind: NicKind::Vmxnet3,
                network: standard(),
                mac: Some("00:50:56:00:00:01".into()),
                starts_connected: true,
            },
            DeviceChange::ChangeNic(nic(Network::Distributed {
                switch_uuid: "50".into(),
                portgroup: "p".into(),
            })),
            DeviceChange::RemoveNic(nic(Network::Opaque { id: "o".into(), kind: "nsx".into() })),
        ],
        extra: vec![("disk.EnableUUID".into(), "TRUE".into()), ("gone".into(), String::new())],
        firmware: Some(Firmware::Efi { secure_boot: true }),
        change_tracking: Some(true),
    }
}

/// Every call that this crate can make, so that none escapes the look at its order.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_in_the_order_of_the_schema() {
    let fake = Fake::new(|r| match r.call() {
        "CurrentTime" => Some(answer(r.call(), "<returnval>2026-11-29T08:00:00Z</returnval>")),
        "RetrievePropertiesEx" => Some(answer(
            r.call(),
            "<returnval><token>t</token><objects><obj type=\"X\">x</obj><propSet><name>info</name><val><state>queued</state></val>\
             </propSet></objects></returnval>",
        )),
        "QueryChangedDiskAreas" => {
            Some(answer(r.call(), "<returnval><startOffset>0</startOffset><length>8</length></returnval>"))
        }
        "QueryVirtualDiskUuid" => Some(answer(r.call(), "<returnval>60 00</returnval>")),
        "ExportSnapshot" => Some(value(r.call(), "HttpNfcLease", "lease-1")),
        "WaitForUpdatesEx" => {
            let ready =
                "<changeSet><name>state</name><op>assign</op><val>ready</val></changeSet></objectSet>";
            let ended = ended("task-1", "<state>success</state>");
            Some(answer(r.call(), &ended.replace("</objectSet>", ready)))
        }
        _ => None,
    });
    let vim = fake.connect().await;
    let (machine, snapshot) = (moref("VirtualMachine"), moref("VirtualMachineSnapshot"));
    let (datacenter, cluster, pod) =
        (moref("Datacenter"), moref("ClusterComputeResource"), moref("StoragePod"));
    let autostart = moref("HostAutoStartManager");
    let place =
        Place { folder: moref("Folder"), pool: moref("ResourcePool"), host: Some(moref("HostSystem")) };
    let file = path("[a] b/b.vmdk");
    let mut tasks = vec![];
    vim.time().await.unwrap();
    vim.machine(&machine).await.unwrap();
    vim.machines_whole(&vim.content().root_folder).await.unwrap();
    vim.datacenters().await.unwrap();
    vim.folders().await.unwrap();
    vim.computes().await.unwrap();
    tasks.push(vim.create_snapshot(&machine, "dr", "d", true).await.unwrap());
    tasks.push(vim.remove_snapshot(&snapshot).await.unwrap());
    tasks.push(vim.consolidate(&machine).await.unwrap());
    vim.snapshot_devices(&snapshot).await.unwrap();
    let lease = vim.export_snapshot(&snapshot, LONG).await.unwrap();
    lease.progress(7).await.unwrap();
    lease.complete().await.unwrap();
    vim.export_snapshot(&snapshot, LONG).await.unwrap().abort().await.unwrap();
    vim.changed_areas(&machine, Some(&snapshot), 2000, 8, EVERYTHING).await.unwrap();
    tasks.push(vim.reconfigure(&machine, &whole()).await.unwrap());
    tasks.push(vim.create_machine(&place, &whole()).await.unwrap());
    tasks.push(vim.register(&place, &path("[a] b/b.vmx"), Some("a/b")).await.unwrap());
    tasks.push(vim.power_on(&machine, place.host.as_ref()).await.unwrap());
    tasks.push(vim.power_off(&machine).await.unwrap());
    tasks.push(vim.reset(&machine).await.unwrap());
    vim.shut_down_guest(&machine).await.unwrap();
    vim.unregister(&machine).await.unwrap();
    tasks.push(vim.destroy(&machine).await.unwrap());
    tasks.push(vim.create_disk(&datacenter, &file, 1 << 20, Provisioning::Thin).await.unwrap());
    tasks.push(vim.delete_disk(&datacenter, &file).await.unwrap());
    tasks.push(vim.revert(&moref("VirtualMachineSnapshot")).await.unwrap());
    vim.find("5029c9d2-0000-0000-0000-000000000001").await.unwrap();
    vim.newest_start(&machine).await.unwrap();
    assert_eq!(vim.disk_uuid(&datacenter, &file).await.unwrap(), "60 00");
    vim.make_folder(&datacenter, &path("[a] b/c")).await.unwrap();
    tasks.push(vim.delete_file(&datacenter, &path("[a] b/c")).await.unwrap());
    tasks.extend(vim.set_drs_override(&cluster, &machine, Override::Stays).await.unwrap());
    tasks.extend(vim.set_storage_drs_override(&pod, &machine, Override::Stays).await.unwrap());
    vim.set_autostart(&autostart, &machine, false).await.unwrap();
    vim.lacking(&machine, &["System.Read", "System.View"]).await.unwrap();
    for task in tasks {
        task.wait(LONG).await.unwrap();
        task.info().await.unwrap();
        task.cancel().await.unwrap();
    }
    vim.log_out().await.unwrap();

    let made: BTreeSet<String> =
        fake.calls().iter().map(|c| c.trim_end_matches("_Task").to_owned()).collect();
    let kinds = include_str!("../wsdl/sequences.txt").lines().filter_map(|line| line.split(':').next());
    let known: BTreeSet<String> =
        kinds.filter_map(|kind| kind.strip_suffix("RequestType")).map(str::to_owned).collect();
    assert_eq!(made, known);
}

async fn sent(call: &str, make: impl AsyncFn(&Vim)) -> String {
    let fake = Fake::new(|_| None);
    make(&fake.connect().await).await;
    let [one] = &fake.seen(call)[..] else { panic!("{:?}", fake.calls()) };
    let body = one.body.split_once("</_this>").unwrap().1;
    body.split_once(&format!("</{call}>")).unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_attached_made_and_taken_away_without_touching_files() {
    let changes = vec![
        DeviceChange::AddDisk {
            key: -1,
            controller: 1000,
            unit: 2,
            mode: DiskMode::IndependentNonpersistent,
            disk: NewDisk::Existing { file: path("[a] b/b.vmdk"), capacity: None },
        },
        DeviceChange::AddDisk {
            key: -2,
            controller: 1000,
            unit: 3,
            mode: DiskMode::Persistent,
            disk: NewDisk::New { file: path("[a]"), capacity: 1 << 20, provisioning: Provisioning::Thin },
        },
        DeviceChange::DetachDisk(disk()),
    ];
    let spec = ConfigSpec { devices: changes, ..ConfigSpec::default() };
    let body = sent("ReconfigVM_Task", async |vim| {
        let _ = vim.reconfigure(&moref("VirtualMachine"), &spec).await.unwrap();
    })
    .await;
    let wanted = "<spec>\
        <deviceChange><operation>add</operation><device xsi:type=\"VirtualDisk\"><key>-1</key>\
        <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[a] b/b.vmdk</fileName>\
        <diskMode>independent_nonpersistent</diskMode></backing>\
        <controllerKey>1000</controllerKey><unitNumber>2</unitNumber><capacityInKB>0</capacityInKB></device></deviceChange>\
        <deviceChange><operation>add</operation><fileOperation>create</fileOperation><device xsi:type=\"VirtualDisk\"><key>-2</key>\
        <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[a]</fileName><diskMode>persistent</diskMode>\
        <thinProvisioned>true</thinProvisioned><eagerlyScrub>false</eagerlyScrub></backing>\
        <controllerKey>1000</controllerKey><unitNumber>3</unitNumber><capacityInKB>1024</capacityInKB>\
        <capacityInBytes>1048576</capacityInBytes></device></deviceChange>\
        <deviceChange><operation>remove</operation><device xsi:type=\"VirtualDisk\"><key>2000</key>\
        <controllerKey>1000</controllerKey><unitNumber>3</unitNumber><capacityInKB>1024</capacityInKB></device></deviceChange>\
        </spec>";
    assert_eq!(body, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_without_memory_and_removed_alone() {
    let machine = moref("VirtualMachine");
    let body = sent("CreateSnapshot_Task", async |vim| {
        let _ = vim.create_snapshot(&machine, "a & b", "", true).await.unwrap();
    })
    .await;
    assert_eq!(
        body,
        "<name>a &amp; b</name><description></description><memory>false</memory><quiesce>true</quiesce>"
    );
    let body = sent("RemoveSnapshot_Task", async |vim| {
        let _ = vim.remove_snapshot(&moref("VirtualMachineSnapshot")).await.unwrap();
    })
    .await;
    assert_eq!(body, "<removeChildren>false</removeChildren><consolidate>true</consolidate>");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_escaped_for_the_inventory_and_for_xml() {
    let place = Place { folder: moref("Folder"), pool: moref("ResourcePool"), host: None };
    let body = sent("RegisterVM_Task", async |vim| {
        let _ = vim.register(&place, &path("[a] b/b.vmx"), Some("웹/1 <50%>")).await.unwrap();
    })
    .await;
    assert!(body.contains("<path>[a] b/b.vmx</path><name>웹%2f1 &lt;50%25&gt;</name>"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_is_added_changed_taken_away_or_left() {
    let machine = moref("VirtualMachine");
    for (now, wanted, sent) in [
        (
            "",
            Override::Stays,
            "<operation>add</operation><info><key type=\"VirtualMachine\">virtualmachine-1</key><enabled>false</enabled></info>",
        ),
        (
            "true",
            Override::Stays,
            "<operation>edit</operation><info><key type=\"VirtualMachine\">virtualmachine-1</key><enabled>false</enabled></info>",
        ),
        (
            "false",
            Override::None,
            "<operation>remove</operation><removeKey xsi:type=\"ManagedObjectReference\" type=\"VirtualMachine\">virtualmachine-1</removeKey>",
        ),
        ("false", Override::Stays, ""),
    ] {
        let entry = format!(
            "<drsVmConfig><key type=\"VirtualMachine\">virtualmachine-1</key><enabled>{now}</enabled></drsVmConfig>"
        );
        let entry = if now.is_empty() { String::new() } else { entry };
        let fake = Fake::new(move |r| {
            let set = format!("<propSet><name>configurationEx</name><val>{entry}</val></propSet>");
            let inside = format!("<returnval><objects><obj type=\"X\">x</obj>{set}</objects></returnval>");
            (r.call() == "RetrievePropertiesEx").then(|| answer(r.call(), &inside))
        });
        let task =
            fake.connect().await.set_drs_override(&moref("ClusterComputeResource"), &machine, wanted).await;
        assert_eq!(task.unwrap().is_some(), !sent.is_empty());
        let asked = fake.seen("ReconfigureComputeResource_Task");
        assert_eq!(asked.len(), usize::from(!sent.is_empty()));
        for request in asked {
            let whole = format!("<drsVmConfigSpec>{sent}</drsVmConfigSpec></spec><modify>true</modify>");
            assert!(request.body.contains(&whole), "{}", request.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_licence_that_allows_no_changes_is_found_by_one_that_changes_nothing() {
    let call = |r: &crate::fake::Request| r.call() == "ReconfigVM_Task";
    let machine = moref("VirtualMachine");
    let at_once = Fake::new(move |r| call(r).then(|| fault("RestrictedVersion", "")));
    assert_eq!(at_once.connect().await.probe_writes(&machine, LONG).await.unwrap(), Writes::Restricted);
    let later = Fake::new(move |r| {
        let error = "<state>error</state><error><fault xsi:type=\"RestrictedVersion\"/></error>";
        (r.call() == "WaitForUpdatesEx").then(|| answer(r.call(), &ended("task-1", error)))
    });
    assert_eq!(later.connect().await.probe_writes(&machine, LONG).await.unwrap(), Writes::Restricted);
    let denied = Fake::new(move |r| call(r).then(|| fault("NoPermission", "")));
    let wanted = Writes::Refused(Fault::NoPermission { privilege: None, object: None });
    assert_eq!(denied.connect().await.probe_writes(&machine, LONG).await.unwrap(), wanted);
    let fine = Fake::new(|_| None);
    assert_eq!(fine.connect().await.probe_writes(&machine, LONG).await.unwrap(), Writes::Allowed);
    assert!(fine.seen("ReconfigVM_Task")[0].body.contains("</_this><spec></spec>"), "it changes nothing");
    let lost = Fake::new(move |r| call(r).then_some(Reply::Break));
    assert!(lost.connect().await.probe_writes(&machine, LONG).await.unwrap_err().may_have_been_done());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_do_is_refused_before_anything_is_sent() {
    let fake = Fake::new(|_| None);
    let vim = fake.connect().await;
    let before = fake.calls().len();
    let machine = moref("VirtualMachine");
    let new_disk = |key, unit, capacity| DeviceChange::AddDisk {
        key,
        controller: 1000,
        unit,
        mode: DiskMode::Persistent,
        disk: NewDisk::New { file: path("[a]"), capacity, provisioning: Provisioning::Thin },
    };
    for (change, field) in [
        (new_disk(5, 0, 1024), "key"),
        (new_disk(-1, 64, 1024), "unit"),
        (new_disk(-1, 0, 1000), "capacity"),
        (new_disk(-1, 0, 0), "capacity"),
        (DeviceChange::AddController { key: 0, kind: ControllerKind::Nvme, bus: 0 }, "key"),
    ] {
        let spec = ConfigSpec { devices: vec![change], ..ConfigSpec::default() };
        let error = site_recovery::Error::from(vim.reconfigure(&machine, &spec).await.unwrap_err());
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some(field)));
    }
    let named = |name: &str| ConfigSpec { name: Some(name.into()), ..ConfigSpec::default() };
    for spec in [named(""), named(&"x".repeat(81))] {
        assert!(vim.reconfigure(&machine, &spec).await.is_err());
    }
    let place = Place { folder: moref("Folder"), pool: moref("ResourcePool"), host: None };
    assert!(vim.create_machine(&place, &named("a")).await.is_err(), "no place for its files");
    let datacenter = moref("Datacenter");
    assert!(vim.create_disk(&datacenter, &path("[a] b.vmdk"), 1000, Provisioning::Thin).await.is_err());
    assert!(vim.delete_file(&datacenter, &path("[a]")).await.is_err(), "a datastore itself");
    assert_eq!(fake.calls().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_lacks_is_not_supported() {
    let fake = Fake::new(|r| {
        let content = "<returnval><rootFolder type=\"Folder\">ha-folder-root</rootFolder>\
            <propertyCollector type=\"PropertyCollector\">ha-property-collector</propertyCollector>\
            <viewManager type=\"ViewManager\">ViewManager</viewManager>\
            <about><fullName>VMware ESXi 8.0.3</fullName><apiType>HostAgent</apiType><apiVersion>8.0.3.0</apiVersion></about>\
            <sessionManager type=\"SessionManager\">ha-sessionmgr</sessionManager></returnval>";
        (r.call() == "RetrieveServiceContent").then(|| answer(r.call(), content))
    });
    let vim = fake.connect().await;
    assert_eq!((vim.is_vcenter(), &vim.about().product), (false, &Product::Host));
    assert_eq!(fake.seen("Login")[0].text("_this").as_deref(), Some("ha-sessionmgr"));
    assert_eq!(fake.seen("Login")[0].headers["soapaction"], "urn:vim25/8.0.3.0");
    let machine = moref("VirtualMachine");
    let lacks =
        vim.set_storage_drs_override(&moref("StoragePod"), &machine, Override::Stays).await.unwrap_err();
    assert_eq!(lacks.kind(), ErrorKind::Unsupported);
    assert!(vim.licences().await.unwrap().is_empty());
    assert_eq!(
        vim.lacking(&machine, &["System.Read"]).await.unwrap_err().fault(),
        Some(&Fault::NotSupported)
    );
}

#[test]
fn futures_can_be_sent_to_other_threads() {
    fn sent<T: Send>(_: T) {}
    fn all(vim: &Vim, machine: &Moref, file: &DatastoreFile, task: &Task) {
        sent(vim.machines(machine));
        sent(vim.machine(machine));
        sent(vim.networks());
        sent(vim.changed_areas(machine, None, 1, 2, "*"));
        sent(vim.lacking(machine, &[]));
        sent(vim.wait_for_power(machine, Power::Off, LONG));
        sent(vim.probe_writes(machine, LONG));
        sent(file.read(0, &mut []));
        sent(task.wait(LONG));
        sent(vim.log_out());
    }
    let _ = all;
}
