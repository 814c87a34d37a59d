//! What is sent: verbs, addresses, versions and bodies, whole.

use crate::azure::{Azure, GROUP, Reply, Request, SAS, TOKEN, absent, disk, new_disk, say};
use serde_json::{Value, json};
use site_recovery_azure_arm::{
    Access, Generation, NewDisk, NewMachine, NewNic, NewSnapshot, Origin, OsType, Tags,
};

const COMPUTE: &str = "providers/Microsoft.Compute";
const NETWORK: &str = "providers/Microsoft.Network";

/// Everything is there, and done at once.
fn ready(request: &Request) -> Reply {
    assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    let path = request.path.split('?').next().unwrap();
    let name = path.rsplit('/').next().unwrap();
    let one = json!({"id": path, "name": name, "location": "westeurope", "properties": {"provisioningState": "Succeeded"}});
    match (request.verb.as_str(), name) {
        ("POST", "beginGetAccess") => say(200, json!({ "accessSAS": SAS })),
        ("POST", _) => say(200, Value::Null),
        ("DELETE", _) => say(204, Value::Null),
        ("GET", "disks" | "snapshots" | "virtualMachines" | "networkInterfaces" | "skus" | "usages") => {
            say(200, json!({ "value": [] }))
        }
        ("GET", "CheckIPAddressAvailability") => say(200, json!({ "available": true })),
        _ => say(200, one),
    }
}

/// The only request so far: its verb, its address and its body.
fn sent(azure: &Azure) -> (String, Value) {
    let mut all = azure.fake.requests();
    assert_eq!(all.len(), 1, "{:?}", azure.lines());
    let request = all.remove(0);
    let body =
        if request.body.is_empty() { Value::Null } else { serde_json::from_str(&request.body).unwrap() };
    (format!("{} {}", request.verb, request.path), body)
}

fn tags() -> Tags {
    Tags::from([("sr-op".into(), "a".into())])
}

fn compute_id(what: &str) -> String {
    format!("{GROUP}/{COMPUTE}/{what}")
}

macro_rules! sends {
    ($arm:ident => $call:expr, $line:expr, $body:expr) => {{
        let azure = Azure::new(ready);
        let $arm = &azure.arm;
        let out = $call;
        let (line, body) = sent(&azure);
        assert_eq!(line, $line);
        assert_eq!(body, $body);
        out
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_and_snapshots_are_asked_for_as_azure_writes_them() {
    let at = |verb: &str, what: &str| format!("{verb} {GROUP}/{COMPUTE}/{what}?api-version=2024-03-02");
    let group = json!({ "tags": {"sr-op": "a"} });
    let account = format!("{GROUP}/providers/Microsoft.Storage/storageAccounts/acc");
    let import = NewDisk {
        zone: Some("2".into()),
        os_type: Some(OsType::Linux),
        generation: Some(Generation::V2),
        from: Origin::Import {
            source_uri: "https://acc.blob.core.windows.net/c/d.vhd".into(),
            storage_account_id: account.clone(),
        },
        ..new_disk()
    };
    let body = json!({
        "location": "westeurope", "tags": {"sr-op": "a"}, "sku": {"name": "Premium_LRS"}, "zones": ["2"],
        "properties": {"osType": "Linux", "hyperVGeneration": "V2", "creationData": {
            "createOption": "Import", "sourceUri": "https://acc.blob.core.windows.net/c/d.vhd", "storageAccountId": account,
        }},
    });
    let made =
        sends!(arm => arm.disks("rg").put("web", &import).await.unwrap(), at("PUT", "disks/web"), body);
    assert!(made.at().is_none());
    assert_eq!(made.done().await.unwrap().name, "web");

    let upload = NewDisk { from: Origin::Upload { bytes: (3 << 40) + 512 }, ..new_disk() };
    let body = json!({
        "location": "westeurope", "tags": {"sr-op": "a"}, "sku": {"name": "Premium_LRS"},
        "properties": {"creationData": {"createOption": "Upload", "uploadSizeBytes": 3_298_534_883_840_u64}},
    });
    let _ = sends!(arm => arm.disks("rg").put("web", &upload).await.unwrap(), at("PUT", "disks/web"), body);
    let body = json!({
        "location": "westeurope", "tags": {"sr-op": "a"}, "sku": {"name": "Premium_LRS"},
        "properties": {"creationData": {"createOption": "Copy", "sourceResourceId": compute_id("snapshots/s")}},
    });
    let _ =
        sends!(arm => arm.disks("rg").put("web", &new_disk()).await.unwrap(), at("PUT", "disks/web"), body);

    let base = NewSnapshot {
        location: "westeurope".into(),
        tags: tags(),
        source_id: compute_id("disks/web"),
        incremental: true,
    };
    let body = json!({
        "location": "westeurope", "tags": {"sr-op": "a"}, "properties": {"incremental": true, "creationData": {
            "createOption": "Copy", "sourceResourceId": compute_id("disks/web"),
        }},
    });
    let _ =
        sends!(arm => arm.snapshots("rg").put("web", &base).await.unwrap(), at("PUT", "snapshots/web"), body);

    let read = json!({"access": "Read", "durationInSeconds": 3600});
    let write = json!({"access": "Write", "durationInSeconds": 60});
    macro_rules! both {
        ($calls:ident, $folder:literal) => {
            let one = concat!($folder, "/web");
            sends!(arm => arm.$calls("rg").get("web").await.unwrap().unwrap(), at("GET", one), Value::Null);
            let all = sends!(arm => arm.$calls("rg").list().await.unwrap(), at("GET", $folder), Value::Null);
            assert!(all.is_empty());
            let _ = sends!(arm => arm.$calls("rg").tag("web", &tags()).await.unwrap(), at("PATCH", one), group);
            let gone = sends!(arm => arm.$calls("rg").delete("web").await.unwrap(), at("DELETE", one), Value::Null);
            assert!(gone.at().is_none());
            let act = |act| at("POST", &format!("{one}/{act}"));
            let sas = sends!(arm => arm.$calls("rg").grant("web", Access::Read, 3600).await.unwrap(), act("beginGetAccess"), read);
            assert_eq!(sas.done().await.unwrap().expose(), SAS);
            let _ = sends!(arm => arm.$calls("rg").grant("web", Access::Write, 60).await.unwrap(), act("beginGetAccess"), write);
            let _ = sends!(arm => arm.$calls("rg").revoke("web").await.unwrap(), act("endGetAccess"), Value::Null);
        };
    }
    both!(disks, "disks");
    both!(snapshots, "snapshots");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_asked_for_as_azure_writes_them() {
    let at = |verb: &str, what: &str| {
        format!("{verb} {GROUP}/{COMPUTE}/virtualMachines{what}?api-version=2024-07-01")
    };
    let nic = |name| format!("{GROUP}/{NETWORK}/networkInterfaces/{name}");
    let web = NewMachine {
        location: "westeurope".into(),
        size: "Standard_D2s_v5".into(),
        os_disk: compute_id("disks/web-0"),
        os_type: OsType::Windows,
        data_disks: vec![(0, compute_id("disks/web-1")), (3, compute_id("disks/web-2"))],
        nics: vec![nic("a"), nic("b")],
        availability_set: Some(compute_id("availabilitySets/set")),
        zone: None,
        licence: Some("Windows_Server".into()),
        tags: tags(),
        boot_diagnostics: true,
    };
    let attached = |name| json!({"id": compute_id(&format!("disks/{name}"))});
    let body = json!({
        "location": "westeurope", "tags": {"sr-op": "a"},
        "properties": {
            "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
            "storageProfile": {
                "osDisk": {"osType": "Windows", "createOption": "Attach", "deleteOption": "Detach", "managedDisk": attached("web-0")},
                "dataDisks": [
                    {"lun": 0, "createOption": "Attach", "deleteOption": "Detach", "managedDisk": attached("web-1")},
                    {"lun": 3, "createOption": "Attach", "deleteOption": "Detach", "managedDisk": attached("web-2")},
                ],
            },
            "networkProfile": {"networkInterfaces": [
                {"id": nic("a"), "properties": {"primary": true, "deleteOption": "Detach"}},
                {"id": nic("b"), "properties": {"primary": false, "deleteOption": "Detach"}},
            ]},
            "availabilitySet": {"id": compute_id("availabilitySets/set")},
            "licenseType": "Windows_Server",
            "diagnosticsProfile": {"bootDiagnostics": {"enabled": true}},
        },
    });
    let _ = sends!(arm => arm.machines("rg").put("web", &web).await.unwrap(), at("PUT", "/web"), body);
    let alone = NewMachine { zone: Some("1".into()), availability_set: None, licence: None, ..web };
    let azure = Azure::new(ready);
    let _ = azure.arm.machines("rg").put("web", &alone).await.unwrap();
    let body = sent(&azure).1;
    assert_eq!((&body["zones"], &body["properties"]["availabilitySet"]), (&json!(["1"]), &Value::Null));

    sends!(arm => arm.machines("rg").get("web").await.unwrap().unwrap(), at("GET", "/web"), Value::Null);
    let all = sends!(arm => arm.machines("rg").list().await.unwrap(), at("GET", ""), Value::Null);
    assert!(all.is_empty());
    let view = sends!(arm => arm.machines("rg").view("web").await.unwrap().unwrap(), at("GET", "/web/instanceView"), Value::Null);
    assert_eq!(view.power.as_str(), "");
    let body = json!({ "tags": {"sr-op": "a"} });
    let _ = sends!(arm => arm.machines("rg").tag("web", &tags()).await.unwrap(), at("PATCH", "/web"), body);
    let _ = sends!(arm => arm.machines("rg").delete("web").await.unwrap(), at("DELETE", "/web"), Value::Null);
    let _ =
        sends!(arm => arm.machines("rg").start("web").await.unwrap(), at("POST", "/web/start"), Value::Null);
    let _ = sends!(arm => arm.machines("rg").deallocate("web").await.unwrap(), at("POST", "/web/deallocate"), Value::Null);
    for skip in [false, true] {
        let line = format!("{}&skipShutdown={skip}", at("POST", "/web/powerOff"));
        let _ = sends!(arm => arm.machines("rg").power_off("web", skip).await.unwrap(), line, Value::Null);
    }
    let body = json!({ "dataDisksToDetach": [{"diskId": compute_id("disks/web-1")}] });
    let disks = [compute_id("disks/web-1")];
    let line = at("POST", "/web/attachDetachDataDisks");
    let _ = sends!(arm => arm.machines("rg").detach("web", &disks).await.unwrap(), line, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_and_regions_are_asked_for_as_azure_writes_them() {
    let version = "?api-version=2023-11-01";
    let at = |verb: &str, what: &str| format!("{verb} {GROUP}/{NETWORK}/{what}{version}");
    let network = format!("{GROUP}/{NETWORK}/virtualNetworks/n");
    let subnet = format!("{network}/subnets/a");
    let fixed = NewNic {
        location: "westeurope".into(),
        subnet_id: subnet.clone(),
        address: Some("10.0.0.7".parse().unwrap()),
        tags: tags(),
        accelerated: false,
    };
    let body = |address: Value| {
        json!({
            "location": "westeurope", "tags": {"sr-op": "a"},
            "properties": {"enableAcceleratedNetworking": false, "ipConfigurations": [{"name": "primary", "properties": address}]},
        })
    };
    let address = json!({
        "primary": true, "privateIPAddressVersion": "IPv4", "privateIPAllocationMethod": "Static",
        "privateIPAddress": "10.0.0.7", "subnet": {"id": subnet},
    });
    let line = at("PUT", "networkInterfaces/web");
    let _ = sends!(arm => arm.nics("rg").put("web", &fixed).await.unwrap(), line.clone(), body(address));
    let any = NewNic { address: None, ..fixed };
    let address = json!({
        "primary": true, "privateIPAddressVersion": "IPv4", "privateIPAllocationMethod": "Dynamic", "subnet": {"id": subnet},
    });
    let _ = sends!(arm => arm.nics("rg").put("web", &any).await.unwrap(), line, body(address));
    let one = "networkInterfaces/web";
    sends!(arm => arm.nics("rg").get("web").await.unwrap().unwrap(), at("GET", one), Value::Null);
    sends!(arm => arm.nics("rg").list().await.unwrap(), at("GET", "networkInterfaces"), Value::Null);
    let _ = sends!(arm => arm.nics("rg").delete("web").await.unwrap(), at("DELETE", one), Value::Null);
    sends!(arm => arm.subnet(&subnet).await.unwrap().unwrap(), format!("GET {subnet}{version}"), Value::Null);
    sends!(arm => arm.network(&network).await.unwrap().unwrap(), format!("GET {network}{version}"), Value::Null);
    let line = format!("GET {network}/CheckIPAddressAvailability{version}&ipAddress=10.0.0.7");
    let free = sends!(arm => arm.address_is_free(&network, "10.0.0.7".parse().unwrap()).await.unwrap(), line, Value::Null);
    assert!(free);

    let root = GROUP.strip_suffix("/resourceGroups/rg").unwrap();
    let line = format!("GET {GROUP}?api-version=2021-04-01");
    sends!(arm => arm.group("rg").await.unwrap().unwrap(), line, Value::Null);
    let line =
        format!("GET {root}/{COMPUTE}/skus?api-version=2021-07-01&%24filter=location+eq+%27westeurope%27");
    sends!(arm => arm.sizes("westeurope").await.unwrap(), line, Value::Null);
    let line = format!("GET {root}/{COMPUTE}/locations/westeurope/usages?api-version=2024-07-01");
    sends!(arm => arm.usages("westeurope").await.unwrap(), line, Value::Null);
    let line = format!("GET {GROUP}/{COMPUTE}/availabilitySets/set?api-version=2024-07-01");
    sends!(arm => arm.availability_set("rg", "set").await.unwrap().unwrap(), line, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_none_and_is_deleted_already() {
    let azure = Azure::new(|_| absent());
    let arm = &azure.arm;
    assert_eq!(arm.disks("rg").get("web").await.unwrap(), None);
    assert_eq!(arm.machines("rg").view("web").await.unwrap(), None);
    assert_eq!(arm.group("rg").await.unwrap(), None);
    for gone in [
        arm.disks("rg").delete("web").await.unwrap(),
        arm.snapshots("rg").delete("web").await.unwrap(),
        arm.machines("rg").delete("web").await.unwrap(),
        arm.nics("rg").delete("web").await.unwrap(),
    ] {
        assert!(gone.at().is_none());
        gone.done().await.unwrap();
    }
    assert_eq!(azure.lines().len(), 7, "nothing is asked after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_all_its_pages() {
    let azure = Azure::new(|request| {
        let host = &request.headers["host"];
        let mut named = disk("Succeeded");
        if request.path.contains("skip=1") {
            named["name"] = json!("second");
            return say(200, json!({ "value": [named] }));
        }
        let next = format!("https://{host}{}&skip=1", request.path);
        say(200, json!({"value": [named], "nextLink": next}))
    });
    let disks = azure.arm.disks("rg").list().await.unwrap();
    assert_eq!(disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["web", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_breaks_a_rule_is_never_sent() {
    let azure = Azure::new(|_| say(200, disk("Succeeded")));
    let (disks, signed) = (
        azure.arm.disks("rg"),
        NewDisk {
            from: Origin::Import { source_uri: SAS.into(), storage_account_id: compute_id("disks/x") },
            ..new_disk()
        },
    );
    let other = NewDisk { from: Origin::Copy { source_id: "disks/x".into() }, ..new_disk() };
    for (error, field) in [
        (disks.put("web", &signed).await.unwrap_err(), "source_uri"),
        (disks.put("web", &other).await.unwrap_err(), "source_id"),
        (disks.put("web/../other", &new_disk()).await.unwrap_err(), "name"),
        (disks.delete("web?x").await.unwrap_err(), "name"),
        (disks.grant("web", Access::Read, 0).await.unwrap_err(), "seconds"),
        (azure.arm.disks("r/g").delete("web").await.unwrap_err(), "group"),
        (azure.arm.sizes("west' or '").await.unwrap_err(), "location"),
        (azure.arm.subnet("/elsewhere?x").await.unwrap_err(), "subnet"),
        (azure.arm.machines("rg").detach("web", &["x".into()]).await.unwrap_err(), "disks"),
    ] {
        let error = site_recovery::Error::from(error);
        assert_eq!((error.kind(), error.fact("field")), (site_recovery::ErrorKind::Invalid, Some(field)));
        assert!(!format!("{error:?} {signed:?}").contains("canary"));
    }
    assert_eq!(azure.lines(), Vec::<String>::new());
}
