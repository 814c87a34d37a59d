//! What is there.

use crate::sim::{BOTH, Mode, Sim, first};
use site_recovery_vim::{Moref, Network, Power, Product, Writes};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_found_on_vcenter_and_on_a_host() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let product = if mode == Mode::VCenter { Product::VCenter } else { Product::Host };
        assert_eq!((&vim.about().product, vim.about().api_version.as_str()), (&product, "8.0.3.0"));
        assert!(vim.skew().await.unwrap().abs() < 60_000);

        let machines = vim.machines_whole(&vim.content().root_folder).await.unwrap();
        let mut names: Vec<_> = machines.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        let wanted = match mode {
            Mode::VCenter => ["DC0_C0_RP0_VM0", "DC0_H0_VM0"],
            Mode::Esxi => ["ha-host_VM0", "ha-host_VM1"],
        };
        assert_eq!(names, wanted);
        for machine in &machines {
            assert!(
                machine.missing.is_empty() && machine.uuid.is_some() && machine.host.is_some(),
                "{machine:?}"
            );
            assert_eq!(machine.power, Power::On);
            let details = machine.details.as_ref().unwrap();
            let [disk] = &details.devices.disks[..] else { panic!("{details:?}") };
            assert_eq!(disk.capacity, 4 << 20);
            assert!(details.devices.controller_of(disk).is_some());
            assert!(sim.local(disk.backing.file.as_ref().unwrap()).is_file());
            assert!(details.devices.nics.iter().all(|nic| nic.mac.is_some() && nic.network.is_some()));
            assert!(details.change_tracking_supported && !details.change_tracking);
            assert!(details.version.is_some() && details.memory_mib > 0 && details.cpus > 0);
        }

        let (datacenters, hosts) = (vim.datacenters().await.unwrap(), vim.hosts().await.unwrap());
        assert_eq!(datacenters[0].name, sim.datacenter());
        assert_eq!(hosts.len(), if mode == Mode::VCenter { 4 } else { 1 });
        assert!(hosts.iter().all(|h| h.connection.as_deref() == Some("connected") && h.version.is_some()));
        let computes = vim.computes().await.unwrap();
        assert_eq!(computes.iter().any(|c| c.is_cluster()), mode == Mode::VCenter);
        assert!(computes.iter().all(|c| c.pool.is_some() && !c.hosts.is_empty()));
        assert!(!vim.folders().await.unwrap().is_empty());
        let datastores = vim.datastores().await.unwrap();
        for store in &datastores {
            assert!(store.accessible && store.capacity > 0 && !store.mounts.is_empty(), "{store:?}");
            assert!(store.mounts.iter().all(|m| m.writable && m.accessible));
        }
        let names: Vec<_> = datastores.iter().map(|d| d.name.clone()).collect();
        assert!(sim.datastores.keys().all(|name| names.contains(name)));
        let networks = vim.networks().await.unwrap();
        let distributed = networks.iter().any(|n| matches!(n.backing, Some(Network::Distributed { .. })));
        assert_eq!(distributed, mode == Mode::VCenter, "{networks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_machines_come_in_pages_and_each_once() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let mut settings = sim.settings.clone();
    settings.limits.page = 3;
    for n in 0..8 {
        let body = serde_json::json!({ "name": format!("웹 {n} \"a\" & 'b'"), "on": false });
        sim.tell("machine-create", body).await;
    }
    let vim = site_recovery_vim::Vim::connect(&settings, std::sync::Arc::new(site_recovery::SystemClock))
        .await
        .unwrap();
    sim.tell("calls", serde_json::json!({ "reset": true })).await;
    let found = vim.machines(&vim.content().root_folder).await.unwrap();
    let mut morefs: Vec<_> = found.iter().map(|m| &m.moref).collect();
    morefs.sort();
    morefs.dedup();
    assert_eq!((found.len(), morefs.len()), (10, 10));
    assert!(found.iter().any(|m| m.name == "웹 7 \"a\" & 'b'"));
    let calls = sim.tell("calls", serde_json::json!({})).await.to_string();
    assert!(calls.contains("ContinueRetrievePropertiesEx"), "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_and_writes_are_told() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        let wanted = ["VirtualMachine.State.CreateSnapshot", "Datastore.FileManagement"];
        assert_eq!(vim.lacking(&machine.moref, &wanted).await.unwrap(), [""; 0]);
        assert_eq!(vim.probe_writes(&machine.moref, crate::sim::LONG).await.unwrap(), Writes::Allowed);
        sim.tell("settings", serde_json::json!({ "restricted": true })).await;
        assert_eq!(vim.probe_writes(&machine.moref, crate::sim::LONG).await.unwrap(), Writes::Restricted);
        let gone = vim.machine(&Moref::new("VirtualMachine", "vm-99999")).await.unwrap_err();
        assert_eq!(gone.kind(), site_recovery::ErrorKind::NotFound, "{gone}");
    }
}
