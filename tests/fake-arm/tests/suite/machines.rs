//! Machines: what they are made of, whether they run, what becomes of their disks.

use crate::wire::{PLACE, Site};
use fake_arm::{Config, Power};
use serde_json::{Value, json};

async fn state(site: &Site) -> Vec<String> {
    let view = site.get("virtualMachines/m/instanceView").await.ok();
    let codes =
        view["statuses"].as_array().unwrap().iter().map(|status| status["code"].as_str().unwrap().to_owned());
    codes.collect()
}

async fn disk(site: &Site, name: &str) -> Value {
    site.get(&format!("disks/{name}")).await.ok()
}

#[tokio::test]
async fn a_machine_that_is_made_runs() {
    let site = Site::new().await;
    site.empty_disk("os", true).await;
    site.nic("n").await;
    let body = site.machine_body(&["os"], "n");
    let said = site.put("virtualMachines/m", &body).await;
    assert_eq!(
        (said.status.as_u16(), &said.body["properties"]["provisioningState"]),
        (201, &json!("Creating"))
    );
    assert!(said.headers.contains_key("azure-asyncoperation"));
    assert!(site.fake.machine("m").write("os", 0, &[1; 512]).is_err());
    site.done(said).await;
    assert_eq!(state(&site).await, ["ProvisioningState/succeeded", "PowerState/running"]);
    site.fake.machine("m").write("os", 0, &[1; 512]).unwrap();
    let shown = disk(&site, "os").await;
    assert_eq!(
        (&shown["managedBy"], &shown["properties"]["diskState"]),
        (&json!(site.id("virtualMachines/m")), &json!("Attached"))
    );
    let nic = site.get("networkInterfaces/n").await.ok();
    assert_eq!(nic["properties"]["virtualMachine"]["id"], site.id("virtualMachines/m"));
    let machine = site.get("virtualMachines/m?$expand=instanceView").await.ok();
    assert!(machine["properties"]["vmId"].is_string());
    assert_eq!(machine["properties"]["instanceView"]["disks"][0]["name"], "os");
    let again = site.put("virtualMachines/m", &body).await;
    assert_eq!(again.status, 200);
    site.done(again).await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_claims_nothing() {
    let site = Site::with(Config { cores: 8, ..Config::default() }).await;
    for name in ["os", "a", "b", "c", "d", "e"] {
        site.empty_disk(name, name == "os").await;
    }
    site.nic("n").await;
    let refused = async |change: &dyn Fn(&mut Value)| {
        let mut body = site.machine_body(&["os", "a"], "n");
        change(&mut body["properties"]);
        let said = site.put("virtualMachines/m", &body).await;
        (said.status.as_u16(), said.body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let none = site.id("disks/none");
    let gone = |p: &mut Value| p["storageProfile"]["dataDisks"][0]["managedDisk"]["id"] = none.clone().into();
    assert_eq!(refused(&gone).await, is(404, "NotFound"));
    let size = |name: &'static str| move |p: &mut Value| p["hardwareProfile"]["vmSize"] = name.into();
    assert_eq!(refused(&size("Standard_Z9")).await, is(400, "InvalidParameter"));
    assert_eq!(refused(&size("Standard_M64s")).await, is(409, "SkuNotAvailable"));
    let os = |p: &mut Value| drop(p["storageProfile"]["osDisk"].as_object_mut().unwrap().remove("osType"));
    assert_eq!(refused(&os).await, is(400, "InvalidParameter"));
    let plain = site.id("disks/b");
    let data = |p: &mut Value| p["storageProfile"]["osDisk"]["managedDisk"]["id"] = plain.clone().into();
    assert_eq!(refused(&data).await, is(400, "InvalidParameter"));
    let profile = |p: &mut Value| p["osProfile"] = json!({ "computerName": "m" });
    assert_eq!(refused(&profile).await, is(400, "InvalidParameter"));
    let nic = site.id("networkInterfaces/none");
    let network = |p: &mut Value| p["networkProfile"]["networkInterfaces"][0]["id"] = nic.clone().into();
    assert_eq!(refused(&network).await, is(400, "InvalidResourceReference"));
    let bare = |p: &mut Value| drop(p.as_object_mut().unwrap().remove("networkProfile"));
    assert_eq!(refused(&bare).await, is(400, "InvalidParameter"));
    let set = |p: &mut Value| p["availabilitySet"]["id"] = json!("/none");
    assert_eq!(refused(&set).await, is(404, "NotFound"));
    let many: Vec<String> = ["a", "b", "c", "d", "e"].map(|name| site.id(&format!("disks/{name}"))).into();
    let five = |p: &mut Value| {
        let disk = |(lun, id): (usize, &String)| json!({ "lun": lun, "createOption": "Attach", "managedDisk": { "id": id } });
        p["storageProfile"]["dataDisks"] = many.iter().enumerate().map(disk).collect();
    };
    assert_eq!(refused(&five).await, is(409, "OperationNotAllowed"));
    let two = |p: &mut Value| {
        let first = p["storageProfile"]["dataDisks"][0].clone();
        p["storageProfile"]["dataDisks"] = json!([first, first]);
    };
    assert_eq!(refused(&two).await, is(400, "InvalidParameter"));
    for name in ["os", "a", "b"] {
        assert_eq!(disk(&site, name).await["properties"]["diskState"], "Unattached");
    }
    assert_eq!(site.get("virtualMachines/m").await.status, 404);
    site.done(site.put("virtualMachines/m", &site.machine_body(&["os", "a"], "n")).await).await;
}

#[tokio::test]
async fn the_quota_counts_machines_that_are_off() {
    let site = Site::with(Config { cores: 3, ..Config::default() }).await;
    site.machine().await;
    site.act("deallocate").await;
    site.empty_disk("os2", true).await;
    site.nic("n2").await;
    let body = site.machine_body(&["os2"], "n2");
    let said = site.put("virtualMachines/m2", &body).await;
    assert_eq!(said.code(), (409, "OperationNotAllowed"));
    assert!(said.body["error"]["message"].as_str().unwrap().contains("quota"));
    site.done(site.delete("virtualMachines/m").await).await;
    site.done(site.put("virtualMachines/m2", &body).await).await;
}

#[tokio::test]
async fn a_disk_has_one_owner() {
    let site = Site::new().await;
    site.machine().await;
    site.empty_disk("os2", true).await;
    site.nic("n2").await;
    let said = site.put("virtualMachines/m2", &site.machine_body(&["os2", "data"], "n2")).await;
    assert_eq!(said.code(), (409, "ConflictingUserInput"));
    let said = site.put("virtualMachines/m2", &site.machine_body(&["os2"], "n")).await;
    assert_eq!(said.code(), (400, "NicInUse"));
    site.sas("disks/os2", "Read").await;
    let said = site.put("virtualMachines/m2", &site.machine_body(&["os2"], "n2")).await;
    assert_eq!(said.code(), (409, "OperationNotAllowed"));
    assert_eq!(site.access("disks/data", "Read").await.code(), (409, "Conflict"));
}

#[tokio::test]
async fn a_generation_that_a_size_does_not_boot_is_refused() {
    let site = Site::new().await;
    let mut body = json!({
        "location": PLACE,
        "properties": { "creationData": { "createOption": "Empty" }, "diskSizeGB": 1, "osType": "Linux" },
    });
    body["properties"]["hyperVGeneration"] = "V1".into();
    site.done(site.put("disks/os", &body).await).await;
    site.nic("n").await;
    let mut machine = site.machine_body(&["os"], "n");
    machine["properties"]["hardwareProfile"]["vmSize"] = "Standard_D2s_v6".into();
    assert_eq!(site.put("virtualMachines/m", &machine).await.code(), (400, "BadRequest"));
}

#[tokio::test]
async fn power_changes_are_seen_at_the_disks() {
    let site = Site::new().await;
    site.machine().await;
    let time = |disk: &Value| disk["properties"]["LastOwnershipUpdateTime"].clone();
    let first = time(&disk(&site, "data").await);
    assert!(first.is_string());
    site.act("powerOff").await;
    assert_eq!(state(&site).await[1], "PowerState/stopped");
    let off = disk(&site, "data").await;
    assert_eq!((&off["properties"]["diskState"], time(&off)), (&json!("Attached"), first.clone()));
    assert!(site.fake.machine("m").write("data", 0, &[1; 512]).is_err());
    site.act("deallocate").await;
    assert_eq!(state(&site).await[1], "PowerState/deallocated");
    let reserved = disk(&site, "data").await;
    assert_eq!(reserved["properties"]["diskState"], "Reserved");
    assert_ne!(time(&reserved), first);
    assert_eq!(site.fake.machine("m").power(), Some(Power::Deallocated));
    assert_eq!(site.post("virtualMachines/m/powerOff", &Value::Null).await.status, 409);
    site.act("start").await;
    assert_ne!(time(&disk(&site, "data").await), time(&reserved));
    site.fake.machine("m").write("data", 0, &[1; 512]).unwrap();
}

#[tokio::test]
async fn a_start_that_nobody_sent_is_seen() {
    let site = Site::new().await;
    site.machine().await;
    site.act("deallocate").await;
    let before = disk(&site, "data").await["properties"]["LastOwnershipUpdateTime"].clone();
    site.sas("disks/data", "Read").await;
    assert!(site.fake.start_from_outside("m").is_err());
    assert_eq!(site.post("virtualMachines/m/start", &Value::Null).await.code(), (409, "Conflict"));
    site.end_access("disks/data").await;
    let requests = site.fake.recording().len();
    site.fake.start_from_outside("m").unwrap();
    assert_eq!(site.fake.recording().len(), requests);
    assert_eq!(state(&site).await[1], "PowerState/running");
    assert_ne!(disk(&site, "data").await["properties"]["LastOwnershipUpdateTime"], before);
    assert!(site.fake.start_from_outside("none").is_err());
}

#[tokio::test]
async fn a_guest_that_does_not_answer_is_waited_for() {
    let site = Site::with(Config { looks: 0, patience: 5, ..Config::default() }).await;
    site.machine().await;
    let machine = site.fake.machine("m");
    for hears in [true, false] {
        machine.deafen().unwrap();
        assert!(!machine.was_asked());
        assert_eq!(site.post("virtualMachines/m/powerOff", &Value::Null).await.status, 202);
        assert!(machine.was_asked() && machine.power() == Some(Power::Running));
        if hears {
            machine.hear();
        }
        let mut looks = 0;
        while machine.power() == Some(Power::Running) && looks < 10 {
            state(&site).await;
            looks += 1;
        }
        assert_eq!(looks, if hears { 0 } else { 6 });
        site.act("start").await;
    }
    // Its power is taken without a word to it.
    machine.deafen().unwrap();
    site.act("powerOff?skipShutdown=true").await;
    assert!(!machine.was_asked() && machine.power() == Some(Power::Stopped));
    assert!(site.fake.machine("none").deafen().is_err());
}

#[tokio::test]
async fn a_disk_grows_while_it_is_in_use() {
    let site = Site::new().await;
    site.machine().await;
    let size = disk(&site, "data").await["properties"]["diskSizeBytes"].as_u64().unwrap();
    assert!(site.fake.grow_from_outside("data", size).is_err());
    site.fake.grow_from_outside("data", size + 65536).unwrap();
    assert_eq!(disk(&site, "data").await["properties"]["diskSizeBytes"], size + 65536);
    assert_eq!(site.fake.disk("data").unwrap().size(), size + 65536);
}

#[tokio::test]
async fn disks_and_interfaces_outlive_their_machine_unless_it_was_wished() {
    let site = Site::new().await;
    site.machine().await;
    site.done(site.delete("virtualMachines/m").await).await;
    let left = disk(&site, "data").await;
    assert_eq!((&left["managedBy"], &left["properties"]["diskState"]), (&Value::Null, &json!("Unattached")));
    assert!(site.get("networkInterfaces/n").await.ok()["properties"]["virtualMachine"].is_null());
    let mut body = site.machine_body(&["os", "data"], "n");
    body["properties"]["storageProfile"]["osDisk"]["deleteOption"] = "Delete".into();
    body["properties"]["networkProfile"]["networkInterfaces"][0]["properties"] =
        json!({ "deleteOption": "Delete" });
    site.done(site.put("virtualMachines/m", &body).await).await;
    site.done(site.delete("virtualMachines/m?forceDeletion=true").await).await;
    let left: Vec<String> = site.fake.world().into_iter().map(|resource| resource.name).collect();
    assert_eq!(left, ["data", "vnet", "servers"]);
}

#[tokio::test]
async fn data_disks_come_and_go() {
    let site = Site::new().await;
    site.machine().await;
    site.empty_disk("more", false).await;
    let change = json!({
        "dataDisksToAttach": [{ "diskId": site.id("disks/more"), "lun": 5 }],
        "dataDisksToDetach": [{ "diskId": site.id("disks/data") }],
    });
    let said = site.post("virtualMachines/m/attachDetachDataDisks", &change).await;
    assert_eq!(said.status, 202);
    site.done(said).await;
    let machine = site.get("virtualMachines/m").await.ok();
    let disks = machine["properties"]["storageProfile"]["dataDisks"].as_array().unwrap().clone();
    assert_eq!((disks.len(), &disks[0]["lun"], &disks[0]["name"]), (1, &json!(5), &json!("more")));
    assert_eq!(disk(&site, "data").await["managedBy"], Value::Null);
    assert_eq!(disk(&site, "more").await["properties"]["diskState"], "Attached");
    site.fake.machine("m").write("more", 512, &[9; 512]).unwrap();
    assert!(site.fake.machine("m").write("data", 512, &[9; 512]).is_err());
    let none = json!({ "properties": { "storageProfile": { "dataDisks": [] } } });
    site.done(site.patch("virtualMachines/m", &none).await).await;
    assert_eq!(disk(&site, "more").await["managedBy"], Value::Null);
    assert_eq!(site.fake.disk("more").unwrap().read(512, 512), [9; 512]);
}

#[tokio::test]
async fn tags_of_a_machine_are_replaced_alone() {
    let site = Site::new().await;
    site.machine().await;
    site.done(site.patch("virtualMachines/m", &json!({ "tags": { "sr-op": "k" } })).await).await;
    let machine = site.get("virtualMachines/m").await.ok();
    assert_eq!(machine["tags"], json!({ "sr-op": "k" }));
    assert_eq!(machine["properties"]["storageProfile"]["dataDisks"][0]["name"], "data");
    assert_eq!(site.fake.machine("m").power(), Some(Power::Running));
}

#[tokio::test]
async fn a_set_with_machines_stays() {
    let site = Site::new().await;
    let set = json!({ "location": PLACE, "sku": { "name": "Aligned" }, "properties": { "platformFaultDomainCount": 2 } });
    assert_eq!(site.put("availabilitySets/s", &set).await.status, 200);
    site.empty_disk("os", true).await;
    site.nic("n").await;
    let mut body = site.machine_body(&["os"], "n");
    body["properties"]["availabilitySet"] = json!({ "id": site.id("availabilitySets/s") });
    site.done(site.put("virtualMachines/m", &body).await).await;
    assert_eq!(site.delete("availabilitySets/s").await.code(), (409, "OperationNotAllowed"));
    site.done(site.delete("virtualMachines/m").await).await;
    assert_eq!(site.delete("availabilitySets/s").await.status, 200);
}
