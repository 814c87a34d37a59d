//! What is read of machines and of what they are on: as VMware's simulator wrote it (recorded), and as ESXi does (written by hand,
//! after the schema; no real host was at hand).

use crate::fake::{Fake, answer, fault};
use site_recovery::{Run, Timestamp};
use site_recovery_vim::{
    BackingKind, ControllerKind, DiskMode, Fault, Firmware, Missing, Moref, Network, NicKind, Override, Power,
};
use std::sync::atomic::{AtomicUsize, Ordering};

const ESXI: &str = include_str!("../recorded/machine_esxi.xml");
const SIMULATOR: &str = include_str!("../recorded/machine_simulator.xml");

fn serving(objects: &'static str) -> Fake {
    Fake::new(move |r| {
        (r.call() == "RetrievePropertiesEx")
            .then(|| answer(r.call(), &format!("<returnval>{objects}</returnval>")))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_esxi_is_read_whole() {
    let fake = serving(ESXI);
    let machine = fake.connect().await.machine(&Moref::new("VirtualMachine", "7")).await.unwrap();
    assert_eq!((machine.name.as_str(), machine.power), ("웹/1 50%", Power::On));
    assert_eq!(machine.file.as_ref().unwrap().to_string(), "[fast] web/web.vmx");
    let details = machine.details.unwrap();
    assert_eq!(details.firmware, Some(Firmware::Efi { secure_boot: true }));
    assert_eq!((details.cpus, details.memory_mib, details.version.as_deref()), (2, 4096, Some("vmx-19")));
    assert!(details.change_tracking && details.change_tracking_supported && !details.disk_uuid);
    assert!(details.tools.running);
    assert_eq!(details.question.as_deref(), Some("msg.uuid.altered: moved or copied?"));
    let addresses: Vec<_> = details.tools.addresses.iter().collect();
    assert_eq!(addresses, [(&4000, &vec!["192.0.2.10".to_owned(), "2001:db8::10".to_owned()])]);
    assert_eq!(details.disabled_methods, ["MigrateVM_Task", "RelocateVM_Task"]);
    assert_eq!(details.extra["disk.EnableUUID"], "TRUE");
    assert_eq!(details.datastores, [Moref::new("Datastore", "ds-1")]);

    let controllers: Vec<_> =
        details.devices.controllers.iter().map(|c| (c.key, &c.kind, c.bus, c.shared)).collect();
    let wanted = [
        (1000, &ControllerKind::ParaVirtual, 0, false),
        (1001, &ControllerKind::LsiLogicSas, 1, true),
        (31000, &ControllerKind::Nvme, 0, false),
    ];
    assert_eq!(controllers, wanted);
    let [root, raw] = &details.devices.disks[..] else { panic!("{:?}", details.devices.disks) };
    assert_eq!((root.key, root.unit, root.capacity), (2000, Some(0), 10 << 30));
    assert_eq!(details.devices.controller_of(root).unwrap().key, 1000);
    assert_eq!(details.devices.free_unit(&details.devices.controllers[0]), Some(1));
    assert_eq!(root.backing.file.as_ref().unwrap().to_string(), "[fast] web/web-000002.vmdk");
    let parents: Vec<_> = root.backing.parents.iter().map(ToString::to_string).collect();
    assert_eq!(parents, ["[fast] web/web-000001.vmdk", "[fast] web/web.vmdk"]);
    assert_eq!(root.backing.change_id.as_deref(), Some("52 de ad be/7"));
    assert!(root.backing.mode.in_snapshots() && !root.backing.shared && root.backing.thin == Some(true));
    assert_eq!(raw.backing.kind, BackingKind::RawMapping { physical: true });
    assert_eq!((raw.capacity, &raw.backing.mode), (2 << 30, &DiskMode::IndependentPersistent));
    assert!(raw.backing.shared);

    let [nic] = &details.devices.nics[..] else { panic!("{:?}", details.devices.nics) };
    assert_eq!(
        (&nic.kind, nic.mac.as_deref(), nic.connected),
        (&NicKind::Vmxnet3, Some("00:50:56:01:02:03"), true)
    );
    let wanted = Network::Distributed { switch_uuid: "50 11".into(), portgroup: "dvportgroup-9".into() };
    assert_eq!(nic.network, Some(wanted));
    assert_eq!(
        details.devices.others,
        [(600, "VirtualKeyboard".to_owned()), (3000, "VirtualNewInVersion10".into())]
    );

    let [first] = &details.snapshots[..] else { panic!("{:?}", details.snapshots) };
    let names: Vec<_> = first.all().iter().map(|s| (s.name.as_str(), s.quiesced)).collect();
    assert_eq!(names, [("before & after", false), ("dr", true)]);
    assert_eq!(first.taken, Some(Timestamp(1_795_939_200_250)));
    assert_eq!(details.current_snapshot, Some(Moref::new("VirtualMachineSnapshot", "7-snapshot-2")));
    let denied = Fault::NoPermission { privilege: Some("VirtualMachine.Config.X".into()), object: None };
    assert_eq!(machine.missing, [Missing { path: "config.annotation".into(), fault: denied }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_the_simulator_is_read_whole() {
    let fake = serving(SIMULATOR);
    let machine = fake.connect().await.machine(&Moref::new("VirtualMachine", "vm-67")).await.unwrap();
    let details = machine.details.unwrap();
    assert_eq!((machine.name.as_str(), machine.power), ("DC0_H0_VM0", Power::On));
    let [disk] = &details.devices.disks[..] else { panic!("{:?}", details.devices.disks) };
    assert_eq!((disk.key, disk.capacity, &disk.backing.kind), (203, 64 << 20, &BackingKind::Flat));
    assert!(matches!(details.devices.nics[0].network, Some(Network::Distributed { .. })));
    assert_eq!((details.snapshots.len(), details.disabled_methods.len()), (0, 0));
    assert!(!details.change_tracking && machine.missing.is_empty());
}

/// VMware's simulator writes enumerations that it does not set as empty elements.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_word_says_nothing() {
    let objects = SIMULATOR.replace(">poweredOn<", "><").replace(">persistent<", "><");
    let fake = Fake::new(move |r| {
        (r.call() == "RetrievePropertiesEx")
            .then(|| answer(r.call(), &format!("<returnval>{objects}</returnval>")))
    });
    let machine = fake.connect().await.machine(&Moref::new("VirtualMachine", "vm-67")).await.unwrap();
    assert_eq!(machine.power, Power::Unknown);
    assert_eq!(machine.details.unwrap().devices.disks[0].backing.mode, DiskMode::Persistent);
}

/// A machine may be removed while others are read: a server fails the whole call for it.
#[tokio::test(flavor = "multi_thread")]
async fn machines_that_vanish_while_others_are_read_spoil_nothing() {
    let gone = |id: &str| fault("ManagedObjectNotFound", &format!("<obj type=\"VirtualMachine\">{id}</obj>"));
    let times = AtomicUsize::new(0);
    let fake = Fake::new(move |r| match r.call() {
        "RetrievePropertiesEx" if times.fetch_add(1, Ordering::SeqCst) < 2 => Some(gone("vm-9")),
        "RetrievePropertiesEx" => Some(answer(r.call(), &format!("<returnval>{SIMULATOR}</returnval>"))),
        _ => None,
    });
    let vim = fake.connect().await;
    assert_eq!(vim.machines(&vim.content().root_folder).await.unwrap().len(), 1);
    assert_eq!(fake.seen("DestroyView").len(), 3);
    // What is asked for by name is not there, and that is the answer.
    let fake = Fake::new(move |r| (r.call() == "RetrievePropertiesEx").then(|| gone("vm-1")));
    let vim = fake.connect().await;
    vim.machine(&Moref::new("VirtualMachine", "vm-1")).await.unwrap_err();
    assert_eq!(fake.seen("RetrievePropertiesEx").len(), 1);
    vim.machines(&vim.content().root_folder).await.unwrap_err();
    assert_eq!(fake.seen("RetrievePropertiesEx").len(), 5, "it is not tried for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn datastores_say_which_host_may_write() {
    let fake = serving(
        "<objects><obj type=\"Datastore\">ds-1</obj>\
         <propSet><name>name</name><val>a%2fb</val></propSet>\
         <propSet><name>summary.type</name><val>NFS41</val></propSet>\
         <propSet><name>summary.capacity</name><val>1000</val></propSet>\
         <propSet><name>summary.freeSpace</name><val>10</val></propSet>\
         <propSet><name>summary.accessible</name><val>true</val></propSet>\
         <propSet><name>host</name><val xsi:type=\"ArrayOfDatastoreHostMount\">\
           <DatastoreHostMount><key type=\"HostSystem\">h-1</key><mountInfo><accessMode>readWrite</accessMode></mountInfo></DatastoreHostMount>\
           <DatastoreHostMount><key type=\"HostSystem\">h-2</key><mountInfo><accessMode>readOnly</accessMode><mounted>true</mounted><accessible>true</accessible></mountInfo></DatastoreHostMount>\
           <DatastoreHostMount><key type=\"HostSystem\">h-3</key><mountInfo><accessMode>readWrite</accessMode><accessible>false</accessible></mountInfo></DatastoreHostMount>\
         </val></propSet></objects>",
    );
    let [store] = &fake.connect().await.datastores().await.unwrap()[..] else { panic!("one") };
    assert_eq!((store.name.as_str(), store.kind.as_deref(), store.free), ("a/b", Some("NFS41"), 10));
    let mounts: Vec<_> =
        store.mounts.iter().map(|m| (m.host.id.as_str(), m.writable, m.accessible)).collect();
    assert_eq!(mounts, [("h-1", true, true), ("h-2", false, true), ("h-3", true, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn port_groups_are_joined_with_their_switches() {
    let object = |kind: &str, id: &str, sets: &str| {
        format!("<objects><obj type=\"{kind}\">{id}</obj>{sets}</objects>")
    };
    let set = |name: &str, val: &str| format!("<propSet><name>{name}</name>{val}</propSet>");
    let fake = Fake::new(move |r| {
        let networks = object("Network", "n-1", &set("name", "<val>LAN</val>"))
            + &object("DistributedVirtualPortgroup", "dvpg-1", &set("name", "<val>web</val>"));
        let switches = object("DistributedVirtualSwitch", "dvs-1", &set("uuid", "<val>50 11</val>"));
        let switch =
            set("config.distributedVirtualSwitch", "<val type=\"DistributedVirtualSwitch\">dvs-1</val>");
        let groups =
            object("DistributedVirtualPortgroup", "dvpg-1", &(set("key", "<val>dvpg-1</val>") + &switch));
        let body = r.body.split("<propSet><type>").nth(1)?;
        let objects = match body.split('<').next()? {
            "Network" => networks,
            "DistributedVirtualSwitch" => switches,
            _ => groups,
        };
        (r.call() == "RetrievePropertiesEx")
            .then(|| answer(r.call(), &format!("<returnval>{objects}</returnval>")))
    });
    let found = fake.connect().await.networks().await.unwrap();
    let backings: Vec<_> = found.into_iter().map(|n| n.backing.unwrap()).collect();
    let lan = Network::Standard { name: "LAN".into(), moref: Some(Moref::new("Network", "n-1")) };
    assert_eq!(
        backings,
        [lan, Network::Distributed { switch_uuid: "50 11".into(), portgroup: "dvpg-1".into() }]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_areas_are_put_together_from_their_pages() {
    let fake = Fake::new(|r| {
        let page = match r.text("startOffset").as_deref() {
            Some("0") => {
                "<startOffset>0</startOffset><length>1000</length><changedArea><start>0</start><length>64</length></changedArea>"
            }
            Some("1000") => {
                "<startOffset>1000</startOffset><length>24</length><changedArea><start>1000</start><length>24</length></changedArea>"
            }
            _ => return None,
        };
        Some(answer(r.call(), &format!("<returnval>{page}</returnval>")))
    });
    let vim = fake.connect().await;
    let (machine, snapshot) =
        (Moref::new("VirtualMachine", "vm-1"), Moref::new("VirtualMachineSnapshot", "s-1"));
    let found = vim.changed_areas(&machine, Some(&snapshot), 2000, 1024, "52 de/7").await.unwrap();
    assert_eq!(found, [Run::new(0, 64), Run::new(1000, 24)]);
    let asked = fake.seen("QueryChangedDiskAreas");
    assert_eq!((asked.len(), asked[0].text("changeId").unwrap().as_str()), (2, "52 de/7"));
    // The disk is smaller than it was thought to be.
    assert!(vim.changed_areas(&machine, Some(&snapshot), 2000, 999, "*").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_changed_areas_without_progress_are_an_error_and_no_loop() {
    let fake = Fake::new(|r| {
        let page = "<returnval><startOffset>0</startOffset><length>0</length></returnval>";
        (r.call() == "QueryChangedDiskAreas").then(|| answer(r.call(), page))
    });
    let machine = Moref::new("VirtualMachine", "vm-1");
    let error = fake.connect().await.changed_areas(&machine, None, 2000, 1024, "*").await.unwrap_err();
    assert_eq!(error.kind(), site_recovery::ErrorKind::Corrupt);
    assert_eq!(fake.seen("QueryChangedDiskAreas").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_end_are_an_error() {
    let fake = Fake::new(|r| {
        let call = r.call();
        call.ends_with("RetrievePropertiesEx")
            .then(|| answer(call, "<returnval><token>again</token></returnval>"))
    });
    let error = fake.connect().await.hosts().await.unwrap_err();
    assert_eq!(error.kind(), site_recovery::ErrorKind::Corrupt);
    assert_eq!(fake.seen("ContinueRetrievePropertiesEx").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_there_is_not_found() {
    let fake = Fake::new(|_| None);
    let gone = Moref::new("VirtualMachine", "vm-9");
    let error = fake.connect().await.machine(&gone).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::ManagedObjectNotFound { object: Some(gone) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_and_licences_are_read() {
    let fake = Fake::new(|r| match r.call() {
        "HasPrivilegeOnEntities" => {
            assert_eq!(r.text("sessionId").as_deref(), Some("key-1"));
            let right = |id: &str, granted: bool| {
                format!(
                    "<privAvailability><privId>{id}</privId><isGranted>{granted}</isGranted></privAvailability>"
                )
            };
            let inside = right("System.Read", true) + &right("Datastore.Browse", false);
            Some(answer(
                r.call(),
                &format!("<returnval><entity type=\"Folder\">f</entity>{inside}</returnval>"),
            ))
        }
        "RetrievePropertiesEx" => Some(answer(
            r.call(),
            "<returnval><objects><obj type=\"LicenseManager\">l</obj><propSet><name>licenses</name>\
             <val xsi:type=\"ArrayOfLicenseManagerLicenseInfo\"><LicenseManagerLicenseInfo><licenseKey>SECRET</licenseKey>\
             <editionKey>esx.hypervisor</editionKey><name>Hypervisor</name>\
             <properties><key>feature</key><value xsi:type=\"KeyValue\"><key>vsmp</key><value>Up to 8-way vSMP</value></value></properties>\
             <properties><key>other</key><value xsi:type=\"xsd:string\">x</value></properties>\
             </LicenseManagerLicenseInfo></val></propSet></objects></returnval>",
        )),
        _ => None,
    });
    let vim = fake.connect().await;
    let wanted = ["System.Read", "Datastore.Browse", "Never.Heard.Of"];
    let lacking = vim.lacking(&Moref::new("Folder", "f"), &wanted).await.unwrap();
    assert_eq!(lacking, ["Datastore.Browse", "Never.Heard.Of"]);
    let both = [Moref::new("Folder", "f"), Moref::new("Folder", "g")];
    let lacking = vim.lacking_on(&both, &wanted).await.unwrap();
    assert_eq!(lacking[&both[0]], ["Datastore.Browse", "Never.Heard.Of"]);
    assert_eq!(lacking[&both[1]], wanted, "of whom nothing is said");
    let [licence] = &vim.licences().await.unwrap()[..] else { panic!("one") };
    assert_eq!(
        (licence.name.as_str(), licence.features.first().unwrap().as_str()),
        ("Hypervisor", "Up to 8-way vSMP")
    );
    assert!(!format!("{licence:?}").contains("SECRET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_and_autostart_are_read() {
    let fake = serving(
        "<objects><obj type=\"X\">x</obj><propSet><name>configurationEx</name><val xsi:type=\"ClusterConfigInfoEx\">\
         <drsConfig><enabled>true</enabled></drsConfig>\
         <drsVmConfig><key type=\"VirtualMachine\">vm-1</key><enabled>false</enabled></drsVmConfig>\
         <drsVmConfig><key type=\"VirtualMachine\">vm-2</key></drsVmConfig></val></propSet>\
         <propSet><name>podStorageDrsEntry</name><val><storageDrsConfig>\
         <podConfig><enabled>true</enabled><defaultVmBehavior>manual</defaultVmBehavior></podConfig><vmConfig><vm type=\"VirtualMachine\">vm-1</vm>\
         <enabled>true</enabled></vmConfig></storageDrsConfig></val></propSet>\
         <propSet><name>config</name><val><defaults><enabled>true</enabled></defaults><powerInfo><key type=\"VirtualMachine\">vm-1</key>\
         <startAction>powerOn</startAction></powerInfo></val></propSet></objects>",
    );
    let vim = fake.connect().await;
    let (cluster, pod, manager) = (
        Moref::new("ClusterComputeResource", "c"),
        Moref::new("StoragePod", "p"),
        Moref::new("HostAutoStartManager", "a"),
    );
    assert!(vim.drs_moves(&cluster).await.unwrap(), "where it does not say otherwise, it moves them");
    assert!(!vim.storage_drs_moves(&pod).await.unwrap(), "it only recommends");
    for (id, drs, storage, starts) in [
        ("vm-1", Override::Stays, Override::Moves, true),
        ("vm-2", Override::Moves, Override::None, false),
        ("vm-3", Override::None, Override::None, false),
    ] {
        let machine = Moref::new("VirtualMachine", id);
        assert_eq!(vim.drs_override(&cluster, &machine).await.unwrap(), drs);
        assert_eq!(vim.storage_drs_override(&pod, &machine).await.unwrap(), storage);
        assert_eq!(vim.autostart(&manager, &machine).await.unwrap(), starts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_clock_is_off_is_told_with_its_sign() {
    let fake = Fake::new(|r| {
        (r.call() == "CurrentTime").then(|| answer(r.call(), "<returnval>1970-01-02T00:00:00Z</returnval>"))
    });
    let skew = fake.connect().await.skew().await.unwrap();
    assert!(skew < -1_000_000_000_000, "{skew}");
}
