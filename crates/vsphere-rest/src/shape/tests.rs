use super::*;
use crate::{
    Cluster, Details, Folder, FolderKind, Host, Machine, Power, Tag, TagName, TaggedObjects, Unusable,
};
use serde_json::json;

fn shaped(dialect: Dialect, request: Request<'_>) -> (String, Option<Value>) {
    let base = Url::parse("https://a").expect("an address");
    let (method, url, body) = request.shaped(dialect, &base).expect("it has a shape");
    let address = url.as_str().strip_prefix("https://a").expect("of the server").to_owned();
    (format!("{method} {address}"), body)
}

/// In both.
fn addresses(make: impl Fn() -> Request<'static>) -> [String; 2] {
    [Dialect::Api, Dialect::Rest].map(|dialect| shaped(dialect, make()).0)
}

#[test]
fn addresses_have_the_shape_of_their_dialect() {
    let list = || Request::get("", "vcenter/vm").filter("names", ["a b&c", "웹"]).filter("hosts", []);
    let names = ["names=a+b%26c&names=%EC%9B%B9", "filter.names.1=a+b%26c&filter.names.2=%EC%9B%B9"];
    assert_eq!(
        addresses(list),
        [format!("GET /api/vcenter/vm?{}", names[0]), format!("GET /rest/vcenter/vm?{}", names[1])]
    );
    let start = || Request::post("", "vcenter/vm").of("vm-1").part("power").action("start");
    assert_eq!(
        addresses(start),
        ["POST /api/vcenter/vm/vm-1/power?action=start", "POST /rest/vcenter/vm/vm-1/power/start"]
    );
    let guest = || Request::post("", "vcenter/vm").of("vm-1").part("guest/power").action("shutdown");
    let path = "vcenter/vm/vm-1/guest/power?action=shutdown";
    assert_eq!(addresses(guest), [format!("POST /api/{path}"), format!("POST /rest/{path}")]);
    let tag = || Request::post("", "cis/tagging/tag-association").of("urn:t:1").action("attach");
    assert_eq!(
        addresses(tag),
        [
            "POST /api/cis/tagging/tag-association/urn:t:1?action=attach",
            "POST /rest/com/vmware/cis/tagging/tag-association/id:urn:t:1?~action=attach",
        ]
    );
    let make = || Request::post("", "cis/tagging/tag").body(json!({ "name": "gold" }));
    assert_eq!(shaped(Dialect::Api, make()).1, Some(json!({ "name": "gold" })));
    assert_eq!(shaped(Dialect::Rest, make()).1, Some(json!({ "create_spec": { "name": "gold" } })));
}

#[test]
fn an_identifier_is_one_part_of_an_address_or_refused() {
    let get = |id: &'static str| Request::get("", "vcenter/vm").of(id);
    assert_eq!(shaped(Dialect::Api, get("../host?x#y%2f")).0, "GET /api/vcenter/vm/..%2Fhost%3Fx%23y%252f");
    let base = Url::parse("https://a").expect("an address");
    for bad in ["", ".", "..", "a\nb"] {
        let error = get(bad).shaped(Dialect::Api, &base).expect_err(bad);
        assert!(matches!(error, Error::Invalid(Unusable { field: "id", .. })), "{error:?}");
    }
    let many = vec!["a-long-name-of-a-machine"; 2_000];
    let error = Request::get("", "vcenter/vm").filter("names", many).shaped(Dialect::Api, &base);
    assert!(matches!(error.expect_err("too long"), Error::Invalid(Unusable { field: "filter", .. })));
}

/// The same value in both shapes.
fn both<T: DeserializeOwned + PartialEq + std::fmt::Debug>(api: Value, rest: Value) -> T {
    let found: T = value(Dialect::Api, "test", api.to_string().as_bytes()).expect("api");
    let older: T =
        value(Dialect::Rest, "test", json!({ "value": rest }).to_string().as_bytes()).expect("rest");
    assert_eq!(found, older);
    found
}

#[test]
fn lists_pass_by_what_is_new_and_keep_words_that_are_new() {
    let rows = json!([
        { "vm": "vm-1", "name": "웹 \"1\"", "power_state": "POWERED_OFF", "cpu_count": 2, "memory_size_MiB": 4096, "new": {} },
        { "vm": "vm-2", "name": "b", "power_state": "HIBERNATED" },
    ]);
    let found: Vec<Machine> = both(rows.clone(), rows);
    assert_eq!(
        (found[0].name.as_str(), &found[0].power, found[0].memory_mib),
        ("웹 \"1\"", &Power::Off, Some(4096))
    );
    assert_eq!((&found[1].power, found[1].cpus), (&Power::Other("HIBERNATED".into()), None));
    assert_eq!(serde_json::to_value(&found[1].power).expect("it can be written"), "HIBERNATED");
    let rows = json!([{ "folder": "group-v3", "name": "vm", "type": "VIRTUAL_MACHINE" }]);
    let found: Vec<Folder> = both(rows.clone(), rows);
    assert_eq!(found[0].kind, FolderKind::Machines);
    let rows = json!([{ "host": "host-1", "name": "h", "connection_state": "NOT_RESPONDING" }]);
    assert_eq!(both::<Vec<Host>>(rows.clone(), rows)[0].power, None);
    let rows = json!([{ "cluster": "domain-c8", "name": "c", "ha_enabled": true, "drs_enabled": false }]);
    assert!(both::<Vec<Cluster>>(rows.clone(), rows)[0].ha_enabled);
    assert_eq!(both::<Option<Vec<Host>>>(json!(null), json!(null)), None);
}

#[test]
fn details_are_maps_below_api_and_lists_below_rest() {
    let disk = json!({ "label": "Hard disk 1", "type": "SCSI", "scsi": { "bus": 0, "unit": 0 }, "capacity": 17179869184u64,
        "backing": { "type": "VMDK_FILE", "vmdk_file": "[fast] web/web-000001.vmdk" } });
    let nic = json!({ "label": "Network adapter 1", "type": "VMXNET3", "mac_address": "00:50:56:aa:bb:cc", "state": "CONNECTED",
        "backing": { "type": "STANDARD_PORTGROUP", "network": "network-9", "network_name": "VM Network" } });
    let mut api = json!({
        "name": "web", "power_state": "POWERED_ON", "guest_OS": "UBUNTU_64", "instant_clone_frozen": false,
        "hardware": { "version": "VMX_21", "upgrade_policy": "NEVER", "upgrade_status": "NONE" },
        "identity": { "bios_uuid": "42-1", "instance_uuid": "50-1", "name": "web" },
        "boot": { "type": "EFI" }, "cdroms": {}, "disks": { "2000": disk }, "nics": { "4000": nic },
    });
    let mut rest = api.clone();
    rest["disks"] = json!([{ "key": "2000", "value": disk }]);
    rest["nics"] = json!([{ "key": "4000", "value": nic }]);
    let found: Details = both(api.clone(), rest);
    let disk = &found.disks["2000"];
    assert_eq!((disk.capacity, disk.bus.as_deref()), (Some(16 << 30), Some("SCSI")));
    assert_eq!(
        disk.backing.as_ref().and_then(|b| b.vmdk_file.as_deref()),
        Some("[fast] web/web-000001.vmdk")
    );
    assert_eq!(found.nics["4000"].mac_address.as_deref(), Some("00:50:56:aa:bb:cc"));
    assert_eq!((found.guest_os.as_str(), found.hardware.version.as_str()), ("UBUNTU_64", "VMX_21"));
    // An older server says less.
    for name in ["identity", "disks", "nics"] {
        api.as_object_mut().expect("an object").remove(name);
    }
    let bare: Details = both(api.clone(), api);
    assert!(bare.identity.is_none() && bare.disks.is_empty() && bare.nics.is_empty());
}

#[test]
fn tags_and_what_they_are_attached_to() {
    let tag =
        json!({ "id": "urn:1", "category_id": "urn:c", "name": "gold", "description": null, "used_by": [] });
    assert_eq!(both::<Tag>(tag.clone(), tag).description, "");
    let rows = json!([{ "tag_id": "urn:1", "object_ids": [{ "type": "VirtualMachine", "id": "vm-1" }, { "type": "Folder", "id": "f" }] },
                      { "tag_id": "urn:2", "object_ids": null }]);
    let found: Vec<TaggedObjects> = both(rows.clone(), rows);
    let machines: Vec<_> = found[0].objects.iter().map(|o| o.machine().map(|m| m.to_string())).collect();
    assert_eq!((machines, found[1].objects.len()), (vec![Some("vm-1".into()), None], 0));
    let name: TagName = "dr=gold=1".parse().expect("a name");
    assert_eq!(
        (name.category.as_str(), name.tag.as_str(), name.to_string().as_str()),
        ("dr", "gold=1", "dr=gold=1")
    );
    for bad in ["", "dr", "=gold", "dr="] {
        assert!(bad.parse::<TagName>().expect_err(bad).to_string().contains("write it as dr=gold"));
    }
}

#[test]
fn refusals_are_told_by_type_in_both_shapes_and_keep_their_words() {
    let messages = json!([{ "id": "a.b", "default_message": "no\nsuch thing", "args": [] }, { "id": "c" }]);
    let words = [
        "unauthenticated",
        "unauthorized",
        "not_found",
        "already_in_desired_state",
        "service_unavailable",
        "not_allowed_in_current_state",
        "resource_busy",
        "invalid_argument",
        "already_exists",
        "something_new",
    ];
    for word in words {
        let api = json!({ "error_type": word.to_uppercase(), "messages": messages, "data": null });
        let rest = json!({ "type": format!("com.vmware.vapi.std.errors.{word}"), "value": { "messages": messages } });
        let found = refusal(api.to_string().as_bytes()).expect(word);
        assert_eq!(refusal(rest.to_string().as_bytes()).as_ref(), Some(&found));
        assert_eq!(
            (found.0.as_str(), &found.1),
            (word.to_uppercase().as_str(), &vec!["no such thing".to_owned()])
        );
        assert_eq!(matches!(found.0, Refusal::Other(_)), word == "something_new");
    }
    for none in ["", "null", "[]", "{}", "<html>", r#"{"type":"com.other"}"#, r#"{"error_type":5}"#] {
        assert_eq!(refusal(none.as_bytes()), None, "{none}");
    }
    let bare = refusal(br#"{"type":"com.vmware.vapi.std.errors.not_found","value":null}"#);
    assert_eq!(bare, Some((Refusal::NotFound, vec![])));
}

#[test]
fn c1_what_makes_no_sense_is_named_without_its_bytes() {
    let bad = ["", "{", "[{\"vm\":\"canary\"}]", "\"canary\"", "{\"canary\"", &"[".repeat(100_000)];
    for bad in bad {
        for dialect in [Dialect::Api, Dialect::Rest] {
            let error = value::<Vec<Machine>>(dialect, "list machines", bad.as_bytes()).expect_err("no list");
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains("list machines") && !shown.contains("canary") && shown.len() < 400,
                "{shown}"
            );
        }
    }
}
