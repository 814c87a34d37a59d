//! Who is let in, how operations go, how lists go on.

use crate::wire::{PLACE, Site};
use fake_arm::Config;
use serde_json::{Value, json};
use std::time::Duration;

fn empty(gib: u64) -> Value {
    json!({
        "location": PLACE,
        "properties": { "creationData": { "createOption": "Empty" }, "diskSizeGB": gib },
    })
}

#[tokio::test]
async fn a_request_needs_a_token_a_version_and_a_place() {
    let site = Site::new().await;
    let bare = site.client.get(site.url("disks/d")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    let whole = site.url("disks/d");
    let without = whole.split('?').next().unwrap();
    let said = site.send("GET", without, None).await.unwrap();
    assert_eq!(said.code(), (400, "MissingApiVersionParameter"));
    let other = whole.replace("2024-03-02", "2019-03-01");
    assert_eq!(site.send("GET", &other, None).await.unwrap().code(), (400, "NoRegisteredProviderFound"));
    assert_eq!(site.get("disks/d").await.code(), (404, "ResourceNotFound"));
    let swapped = whole.replace(&site.subscription, "rg");
    assert_eq!(site.send("GET", &swapped, None).await.unwrap().code(), (404, "SubscriptionNotFound"));
    let group = whole.replace("resourceGroups/rg", "resourceGroups/none");
    assert_eq!(site.send("GET", &group, None).await.unwrap().code(), (404, "ResourceGroupNotFound"));
    let sites =
        format!("/subscriptions/{}/resourceGroups/rg/providers/Microsoft.Web/sites/s", site.subscription);
    assert_eq!(site.get(&sites).await.code(), (404, "InvalidResourceType"));
    let broken = site.client.put(&whole).bearer_auth("t").body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn a_group_is_told() {
    let site = Site::new().await;
    let path = format!("/subscriptions/{}/resourcegroups/RG", site.subscription);
    assert_eq!(site.get(&path).await.ok()["location"], PLACE);
    let path = format!("/subscriptions/{}/resourcegroups/none", site.subscription);
    assert_eq!(site.get(&path).await.code(), (404, "ResourceGroupNotFound"));
}

#[tokio::test]
async fn a_disk_is_followed_by_its_operation() {
    let site = Site::new().await;
    let said = site.put("disks/d", &empty(1)).await;
    assert_eq!(said.status, 202);
    assert_eq!(said.body["properties"]["provisioningState"], "Updating");
    assert_eq!(said.header("retry-after"), "0");
    let url = said.header("azure-asyncoperation").to_owned();
    let look = || async { site.send("GET", &url, None).await.unwrap().ok() };
    assert_eq!(look().await["status"], "InProgress");
    let end = look().await;
    assert_eq!(end["status"], "Succeeded");
    assert!(end["endTime"].is_string() && end["error"].is_null(), "{end}");
    assert_eq!(site.get("disks/d").await.ok()["properties"]["diskState"], "Unattached");
    let forged = format!("{}&s=0", url.split("&s=").next().unwrap());
    assert_eq!(site.send("GET", &forged, None).await.unwrap().status, 404);
}

#[tokio::test]
async fn a_disk_is_followed_by_its_location() {
    let site = Site::with(Config { looks: 2, ..Config::default() }).await;
    let said = site.put("disks/d", &empty(1)).await;
    let url = said.header("location").to_owned();
    assert!(url.contains("monitor=true"), "{url}");
    for _ in 0..2 {
        let look = site.send("GET", &url, None).await.unwrap();
        assert_eq!((look.status.as_u16(), look.body), (202, Value::Null));
        assert!(look.headers.contains_key("location"));
    }
    let end = site.send("GET", &url, None).await.unwrap();
    assert_eq!((end.status.as_u16(), &end.body["name"]), (200, &json!("d")));
}

#[tokio::test]
async fn a_disk_is_followed_by_looks_at_itself() {
    let site = Site::new().await;
    site.put("disks/d", &empty(1)).await;
    assert_eq!(site.get("disks/d").await.ok()["properties"]["provisioningState"], "Updating");
    assert_eq!(site.get("disks/d").await.ok()["properties"]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn a_second_put_conflicts_while_the_first_goes_on() {
    let site = Site::with(Config { looks: 0, ..Config::default() }).await;
    site.put("disks/d", &empty(1)).await;
    assert_eq!(site.put("disks/d", &empty(1)).await.code(), (409, "Conflict"));
    let said = site.put("disks/d", &empty(1)).await;
    assert_eq!(said.status, 202);
    site.done(said).await;
    let other = json!({
        "location": PLACE,
        "properties": { "creationData": { "createOption": "Copy", "sourceResourceId": site.id("disks/d") } },
    });
    assert_eq!(site.put("disks/d", &other).await.code(), (409, "PropertyChangeNotAllowed"));
}

#[tokio::test]
async fn a_delete_ends_without_a_body_and_again_does_nothing() {
    let site = Site::new().await;
    site.empty_disk("d", false).await;
    let said = site.delete("disks/d").await;
    assert_eq!((said.status.as_u16(), &said.body), (202, &Value::Null));
    let url = said.header("location").to_owned();
    assert_eq!(site.send("GET", &url, None).await.unwrap().status, 202);
    assert_eq!(site.send("GET", &url, None).await.unwrap().status, 204);
    assert_eq!(site.get("disks/d").await.status, 404);
    assert_eq!(site.delete("disks/d").await.status, 204);
}

#[tokio::test]
async fn a_list_goes_on_page_by_page() {
    let site = Site::with(Config { page: 2, looks: 0, ..Config::default() }).await;
    for name in ["a", "b", "c", "d", "e"] {
        site.empty_disk(name, false).await;
    }
    let everywhere = format!("/subscriptions/{}/providers/Microsoft.Compute/disks", site.subscription);
    for path in [site.id("disks"), everywhere] {
        let (mut url, mut names, mut pages) = (site.url(&path), vec![], 0);
        while !url.is_empty() {
            let page = site.send("GET", &url, None).await.unwrap().ok();
            names.extend(page["value"].as_array().unwrap().iter().map(|disk| disk["name"].clone()));
            url = page["nextLink"].as_str().unwrap_or_default().to_owned();
            pages += 1;
        }
        assert_eq!((names, pages), (vec![json!("a"), json!("b"), json!("c"), json!("d"), json!("e")], 3));
    }
}

#[tokio::test]
async fn names_are_one_in_any_case_and_nulls_are_nothing() {
    let site = Site::with(Config { looks: 0, ..Config::default() }).await;
    let mut body = empty(1);
    body["properties"]["timeCreated"] = Value::Null;
    body["tags"] = json!({ "who": "me" });
    site.done(site.put("disks/Disk", &body).await).await;
    let disk = site.get("disks/dISK").await.ok();
    assert_eq!((disk["name"].as_str(), disk["tags"]["who"].as_str()), (Some("Disk"), Some("me")));
    assert!(disk["properties"]["timeCreated"].is_string());
    site.done(site.patch("disks/disk", &json!({ "tags": { "a": "b" } })).await).await;
    assert_eq!(site.get("disks/disk").await.ok()["tags"], json!({ "a": "b" }));
}

#[tokio::test]
async fn sizes_and_usages_are_told() {
    let site = Site::new().await;
    let of = |rest: &str| format!("/subscriptions/{}/providers/Microsoft.Compute/{rest}", site.subscription);
    let filter = of("skus?$filter=location%20eq%20'westeurope'");
    let skus = site.get(&filter).await.ok();
    let all = skus["value"].as_array().unwrap();
    let sku = |name: &str| all.iter().find(|sku| sku["name"] == name).unwrap();
    let most = json!({ "name": "MaxDataDiskCount", "value": "4" });
    assert!(sku("Standard_D2s_v5")["capabilities"].as_array().unwrap().contains(&most));
    assert_eq!(sku("Standard_M64s")["restrictions"][0]["reasonCode"], "NotAvailableForSubscription");
    let elsewhere = site.get(&of("skus?$filter=location%20eq%20'mars'")).await.ok();
    assert_eq!(elsewhere["value"], json!([]));
    site.machine().await;
    let usages = site.get(&of("locations/westeurope/usages")).await.ok();
    let usages = usages["value"].as_array().unwrap();
    let now =
        |name: &str| usages.iter().find(|u| u["name"]["value"] == name).unwrap()["currentValue"].clone();
    assert_eq!(
        (now("cores"), now("virtualMachines"), now("standardDSv5Family")),
        (json!(2), json!(1), json!(2))
    );
}

#[tokio::test]
async fn the_recording_tells_what_was_asked_at_once_and_what_after_another_answer() {
    let latency = Duration::from_millis(200);
    let site = Site::with(Config { latency, ..Config::default() }).await;
    tokio::join!(site.get("disks/a"), site.get("disks/b"));
    site.get("disks/c").await;
    let times = site.fake.recording().into_iter().map(|line| {
        let time = |name: &str| Duration::from_micros(line[name].as_u64().unwrap());
        (time("began"), time("ended"))
    });
    let [one, other, after] = times.collect::<Vec<_>>()[..] else { panic!("three requests") };
    for (began, ended) in [one, other, after] {
        assert!(ended - began >= latency, "{began:?} {ended:?}");
    }
    assert!(one.0 < other.1 && other.0 < one.1, "{one:?} {other:?}");
    assert!(after.0 > one.1 && after.0 > other.1, "{after:?}");
}
