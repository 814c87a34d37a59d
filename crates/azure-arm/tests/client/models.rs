//! What is read of Azure's documents. Fields that are not known are passed by, words that are not known are kept.

use crate::azure::{Azure, GROUP, say};
use serde_json::{Value, json};
use site_recovery_azure_arm::{
    AvailabilitySet, Disk, DiskState, Generation, Group, Machine, Network, Nic, OsType, Permission, Power,
    Provisioning, Size, Snapshot, StorageAccount, Subnet, Tags, Usage, View,
};

fn answering(document: Value) -> Azure {
    Azure::new(move |_| say(200, document.clone()))
}

fn tags() -> Tags {
    Tags::from([("department".into(), "Development".into())])
}

fn compute(what: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Compute/{what}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk() {
    let azure = answering(json!({
        "id": compute("disks/web"), "name": "web", "type": "Microsoft.Compute/disks", "location": "westus",
        "zones": ["1"], "tags": tags(), "sku": {"name": "Standard_LRS", "tier": "Standard"},
        "managedBy": compute("virtualMachines/vm"),
        "properties": {
            "osType": "Windows", "hyperVGeneration": "V2", "diskSizeGB": 200, "diskSizeBytes": 214_748_364_800_u64,
            "provisioningState": "Succeeded", "diskState": "ActiveSAS", "uniqueId": "u-1", "somethingNew": {"x": 1},
            "creationData": {"createOption": "Upload", "uploadSizeBytes": 214_748_365_312_u64},
            "LastOwnershipUpdateTime": "2021-09-24T20:36:12.82+00:00",
        },
    }));
    let expected = Disk {
        id: compute("disks/web"),
        name: "web".into(),
        location: "westus".into(),
        tags: tags(),
        size_bytes: 200 << 30,
        upload_bytes: Some((200 << 30) + 512),
        sku: "Standard_LRS".into(),
        os_type: Some(OsType::Windows),
        generation: Some(Generation::V2),
        zones: vec!["1".into()],
        state: DiskState::ActiveSas,
        provisioning: Provisioning::Succeeded,
        unique_id: Some("u-1".into()),
        managed_by: Some(compute("virtualMachines/vm")),
        last_ownership_update: Some("2021-09-24T20:36:12.82+00:00".into()),
    };
    assert_eq!(azure.arm.disks("rg").get("web").await.unwrap(), Some(expected));

    // The generated models take no such system, and no number of their own for this one's size.
    let odd = json!({
        "id": "i", "name": "odd", "location": "l",
        "properties": {"osType": "BSD", "diskSizeGB": 4, "diskState": "Dreaming", "provisioningState": "creating"},
    });
    let odd = answering(odd).arm.disks("rg").get("odd").await.unwrap().unwrap();
    assert_eq!(
        (odd.os_type, odd.size_bytes, odd.upload_bytes, odd.state, odd.provisioning),
        (
            Some(OsType::Other("BSD".into())),
            4 << 30,
            None,
            DiskState::Other("Dreaming".into()),
            Provisioning::Creating
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot() {
    let azure = answering(json!({
        "id": compute("snapshots/s"), "name": "s", "location": "westus", "tags": tags(),
        "properties": {
            "diskSizeBytes": 1_048_576, "timeCreated": "2016-12-28T04:41:35.079872+00:00", "provisioningState": "Succeeded",
            "incremental": true, "incrementalSnapshotFamilyId": "f-1", "completionPercent": 99.5,
            "creationData": {"createOption": "Copy", "sourceResourceId": compute("disks/web"), "sourceUniqueId": "u-1"},
        },
    }));
    let expected = Snapshot {
        id: compute("snapshots/s"),
        name: "s".into(),
        tags: tags(),
        size_bytes: 1 << 20,
        incremental: true,
        source_resource_id: Some(compute("disks/web")),
        source_unique_id: Some("u-1".into()),
        family_id: Some("f-1".into()),
        completion_percent: Some(99.5),
        provisioning: Provisioning::Succeeded,
        created: Some("2016-12-28T04:41:35.079872+00:00".into()),
    };
    assert_eq!(azure.arm.snapshots("rg").get("s").await.unwrap(), Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_and_how_it_is() {
    let nic = format!("{GROUP}/providers/Microsoft.Network/networkInterfaces/n");
    let azure = answering(json!({
        "id": compute("virtualMachines/vm"), "name": "vm", "location": "westus", "tags": tags(),
        "properties": {
            "vmId": "v-1", "provisioningState": "Updating", "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
            "storageProfile": {
                "dataDisks": [{"lun": 0, "managedDisk": {"id": "d-1"}}, {"lun": 1, "vhd": {"uri": "https://x"}}],
                "osDisk": {"osType": "Linux", "managedDisk": {"id": "d-0"}},
            },
            "networkProfile": {"networkInterfaces": [{"id": nic, "properties": {"primary": true}}]},
        },
    }));
    let expected = Machine {
        id: compute("virtualMachines/vm"),
        name: "vm".into(),
        location: "westus".into(),
        tags: tags(),
        size: "Standard_D2s_v5".into(),
        provisioning: Provisioning::Updating,
        vm_id: Some("v-1".into()),
        disks: vec!["d-0".into(), "d-1".into()],
        nics: vec![nic],
    };
    assert_eq!(azure.arm.machines("rg").get("vm").await.unwrap(), Some(expected));

    for (code, power) in [
        ("PowerState/running", Power::Running),
        ("PowerState/stopped", Power::Stopped),
        ("PowerState/deallocated", Power::Deallocated),
        ("PowerState/deallocating", Power::Deallocating),
        ("PowerState/dreaming", Power::Other("dreaming".into())),
        ("OSState/generalized", Power::Other(String::new())),
    ] {
        let statuses = vec!["ProvisioningState/succeeded".to_owned(), code.to_owned()];
        let document = json!({"statuses": statuses.iter().map(|code| json!({"code": code, "level": "Info"})).collect::<Vec<_>>()});
        let view = answering(document).arm.machines("rg").view("vm").await.unwrap();
        assert_eq!(view, Some(View { power, statuses }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks() {
    let azure = answering(json!({
        "id": "nic", "name": "n", "location": "westus", "tags": tags(),
        "properties": {
            "provisioningState": "Succeeded", "virtualMachine": {"id": "vm"}, "ipConfigurations": [
                {"name": "b", "properties": {"primary": false, "privateIPAddress": "10.0.0.9", "subnet": {"id": "other"}}},
                {"name": "a", "properties": {"primary": true, "privateIPAddress": "10.0.0.7", "subnet": {"id": "subnet"}}},
            ],
        },
    }));
    let expected = Nic {
        id: "nic".into(),
        name: "n".into(),
        location: "westus".into(),
        tags: tags(),
        address: Some("10.0.0.7".parse().unwrap()),
        subnet_id: Some("subnet".into()),
        machine: Some("vm".into()),
        provisioning: Provisioning::Succeeded,
    };
    assert_eq!(azure.arm.nics("rg").get("n").await.unwrap(), Some(expected));

    let one = json!({"id": "a", "name": "a", "properties": {"addressPrefix": "10.0.0.0/24"}});
    let two =
        json!({"id": "b", "name": "b", "properties": {"addressPrefixes": ["10.0.1.0/24", "fd00::/64"]}});
    let subnets = [
        Subnet { id: "a".into(), name: "a".into(), prefixes: vec!["10.0.0.0/24".into()] },
        Subnet { id: "b".into(), name: "b".into(), prefixes: vec!["10.0.1.0/24".into(), "fd00::/64".into()] },
    ];
    let id = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/n");
    let azure = answering(json!({"id": id, "location": "westus", "properties": {"subnets": [one, two]}}));
    let expected = Network { id: id.clone(), location: "westus".into(), subnets: subnets.to_vec() };
    assert_eq!(azure.arm.network(&id).await.unwrap(), Some(expected));
    let azure = answering(two);
    assert_eq!(azure.arm.subnet(&format!("{id}/subnets/b")).await.unwrap(), Some(subnets[1].clone()));
    let azure = answering(json!({"available": false, "availableIPAddresses": ["10.0.0.5"]}));
    assert!(!azure.arm.address_is_free(&id, "10.0.0.4".parse().unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_region_has() {
    let capability = |name: &str, value: &str| json!({"name": name, "value": value});
    let size = json!({
        "resourceType": "virtualMachines", "name": "Standard_D2s_v5", "family": "standardDSv5Family",
        "locations": ["westeurope"],
        "capabilities": [
            capability("vCPUs", "2"), capability("MemoryGB", "3.5"), capability("MaxDataDiskCount", "4"),
            capability("MaxNetworkInterfaces", "2"), capability("HyperVGenerations", "V1,V2"), capability("PremiumIO", "True"),
        ],
        "restrictions": [{"type": "Zone", "values": ["westeurope"], "reasonCode": "NotAvailableForSubscription"}],
    });
    let barred = json!({
        "resourceType": "virtualMachines", "name": "Standard_A0",
        "restrictions": [{"type": "Location", "reasonCode": "NotAvailableForSubscription"}],
    });
    let other = json!({"resourceType": "disks", "name": "Premium_LRS"});
    let expected = Size {
        name: "Standard_D2s_v5".into(),
        family: Some("standardDSv5Family".into()),
        cores: 2,
        memory_bytes: 7 << 29,
        data_disks: 4,
        nics: 2,
        generations: vec![Generation::V1, Generation::V2],
        premium: true,
        restricted: None,
    };
    let sizes = answering(json!({ "value": [other, size, barred] })).arm.sizes("westeurope").await.unwrap();
    assert_eq!(sizes[0], expected);
    assert_eq!((sizes.len(), sizes[1].restricted.as_deref()), (2, Some("NotAvailableForSubscription")));

    let usage = json!({"unit": "Count", "currentValue": 3, "limit": 10, "name": {"value": "cores", "localizedValue": "x"}});
    let usages = answering(json!({ "value": [usage] })).arm.usages("westeurope").await.unwrap();
    assert_eq!(usages, [Usage { name: "cores".into(), current: 3, limit: 10 }]);

    let set = json!({"id": "s", "location": "westus", "properties": {"virtualMachines": [{"id": "VM"}]}});
    let set = answering(set).arm.availability_set("rg", "s").await.unwrap();
    assert_eq!(
        set,
        Some(AvailabilitySet { id: "s".into(), location: "westus".into(), machines: vec!["VM".into()] })
    );
    let group = json!({"id": GROUP, "name": "rg", "location": "westus", "properties": {"provisioningState": "Succeeded"}});
    let group = answering(group).arm.group("rg").await.unwrap();
    assert_eq!(group, Some(Group { name: "rg".into(), location: "westus".into(), tags: Tags::new() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_and_what_may_be_done_with_it() {
    let id = format!("{GROUP}/providers/Microsoft.Storage/storageAccounts/vault");
    let account = json!({
        "id": id, "name": "vault", "location": "westeurope", "kind": "StorageV2",
        "sku": {"name": "Standard_ZRS", "tier": "Standard"}, "properties": {"isHnsEnabled": true, "accessTier": "Hot"},
    });
    let expected = StorageAccount {
        id: id.clone(),
        location: "westeurope".into(),
        kind: "StorageV2".into(),
        sku: "Standard_ZRS".into(),
        hierarchical: true,
    };
    assert_eq!(answering(account).arm.storage_account(&id).await.unwrap(), Some(expected));
    let plain = json!({"id": id, "location": "westeurope", "kind": "Storage", "properties": {}});
    assert!(!answering(plain).arm.storage_account(&id).await.unwrap().unwrap().hierarchical);

    // Older services say nothing of data.
    let roles = json!({ "value": [
        {"actions": ["*/read"], "notActions": [], "dataActions": [], "notDataActions": []},
        {"actions": ["Microsoft.Compute/disks/*"], "notActions": null},
    ] });
    let azure = answering(roles);
    let roles = azure.arm.permissions(&id).await.unwrap();
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let role = |actions: &[&str]| Permission { actions: all(actions), ..Permission::default() };
    assert_eq!(roles, [role(&["*/read"]), role(&["Microsoft.Compute/disks/*"])]);
    let asked = azure.fake.requests().remove(0).path;
    assert_eq!(asked, format!("{id}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"));
    assert!(azure.arm.permissions("/subscriptions/s/../x").await.is_err());
}
