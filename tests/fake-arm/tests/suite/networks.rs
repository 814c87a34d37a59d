//! Networks, interfaces, addresses.

use crate::wire::{PLACE, Site};
use serde_json::{Value, json};

fn address(nic: &Value) -> &str {
    nic["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"].as_str().unwrap()
}

#[tokio::test]
async fn addresses_are_given_in_order_and_taken_once() {
    let site = Site::new().await;
    site.nic("a").await;
    assert_eq!(address(&site.get("networkInterfaces/a").await.ok()), "10.0.1.4");
    let said = site.put("networkInterfaces/b", &site.nic_body(Some("10.0.1.5"))).await;
    assert_eq!(said.status, 201);
    site.done(said).await;
    site.nic("c").await;
    assert_eq!(address(&site.get("networkInterfaces/c").await.ok()), "10.0.1.6");
    for (wanted, code) in [
        ("10.0.1.5", "PrivateIPAddressIsAllocated"),
        ("10.0.2.9", "PrivateIPAddressNotInSubnet"),
        ("10.0.1.3", "PrivateIPAddressInReservedRange"),
        ("10.0.1.255", "PrivateIPAddressInReservedRange"),
    ] {
        assert_eq!(site.put("networkInterfaces/x", &site.nic_body(Some(wanted))).await.code(), (400, code));
    }
    let again = site.put("networkInterfaces/b", &site.nic_body(Some("10.0.1.5"))).await;
    assert_eq!(again.status, 200);
    site.done(again).await;
    site.done(site.delete("networkInterfaces/b").await).await;
    site.done(site.put("networkInterfaces/x", &site.nic_body(Some("10.0.1.5"))).await).await;
    let mut lost = site.nic_body(None);
    lost["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"] =
        site.id("virtualNetworks/vnet/subnets/none").into();
    assert_eq!(site.put("networkInterfaces/y", &lost).await.code(), (400, "InvalidResourceReference"));
}

#[tokio::test]
async fn whether_an_address_is_free_is_told() {
    let site = Site::new().await;
    site.nic("a").await;
    let ask = async |address: &str| {
        site.get(&format!("virtualNetworks/vnet/CheckIPAddressAvailability?ipAddress={address}")).await.ok()
    };
    assert_eq!(ask("10.0.1.9").await["available"], true);
    let taken = ask("10.0.1.4").await;
    assert_eq!((&taken["available"], &taken["availableIPAddresses"][0]), (&json!(false), &json!("10.0.1.5")));
    assert_eq!(ask("10.0.1.1").await["isPlatformReserved"], true);
    assert_eq!(ask("10.0.77.1").await["available"], false);
    assert_eq!(site.get("virtualNetworks/vnet/CheckIPAddressAvailability").await.status, 400);
}

#[tokio::test]
async fn an_interface_in_use_stays() {
    let site = Site::new().await;
    site.machine().await;
    assert_eq!(site.delete("networkInterfaces/n").await.code(), (400, "NicInUse"));
    assert_eq!(site.delete("virtualNetworks/vnet").await.code(), (400, "InUseSubnetCannotBeDeleted"));
    site.done(site.delete("virtualMachines/m").await).await;
    site.done(site.delete("networkInterfaces/n").await).await;
    site.done(site.delete("virtualNetworks/vnet").await).await;
    assert_eq!(site.get("virtualNetworks/vnet/subnets/servers").await.status, 404);
}

#[tokio::test]
async fn a_network_is_made_with_its_subnets() {
    let site = Site::new().await;
    let body = json!({
        "location": PLACE,
        "properties": {
            "addressSpace": { "addressPrefixes": ["192.168.0.0/16"] },
            "subnets": [{ "name": "a", "properties": { "addressPrefix": "192.168.1.0/24" } }],
        },
    });
    assert_eq!(site.put("virtualNetworks/v", &body).await.status, 201);
    let outside = json!({ "properties": { "addressPrefix": "10.0.0.0/24" } });
    assert_eq!(site.put("virtualNetworks/v/subnets/b", &outside).await.code(), (400, "NetcfgInvalidSubnet"));
    let inside = json!({ "properties": { "addressPrefix": "192.168.2.0/24" } });
    assert_eq!(site.put("virtualNetworks/v/subnets/b", &inside).await.status, 201);
    let shown = site.get("virtualNetworks/v").await.ok();
    let names: Vec<_> =
        shown["properties"]["subnets"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        site.get("virtualNetworks/v/subnets/b").await.ok()["properties"]["addressPrefix"],
        "192.168.2.0/24"
    );
    let all = site.get("virtualNetworks/v/subnets").await.ok();
    assert_eq!(all["value"].as_array().unwrap().len(), 2);
}
