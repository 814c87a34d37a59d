//! Where the bytes of disks come from, and who may have them.

use crate::wire::{GIB, MIB, PLACE, Site, client};
use fake_arm::{Account, Config, Credential};
use fake_blob::Image;
use serde_json::{Value, json};
use std::time::Duration;

fn disk(seed: u8) -> Image {
    let mut disk = Image::new(3 * MIB);
    disk.write(0, &[seed; 512]);
    disk.write(2 * MIB + 4096, &[seed + 1; 1024]);
    disk
}

#[track_caller]
fn same(a: &Image, b: &Image) {
    assert_eq!(a.size(), b.size());
    for at in (0..a.size()).step_by(MIB as usize) {
        assert!(a.read(at, MIB.min(a.size() - at)) == b.read(at, MIB.min(b.size() - at)), "at {at}");
    }
}

#[tokio::test]
async fn an_import_is_the_blob_without_its_footer() {
    let site = Site::new().await;
    let body = site.import_of("b.vhd", disk(7).with_footer());
    let said = site.put("disks/d", &body).await;
    // What is written after the request was accepted is not in the disk.
    assert!(site.blobs.put_image("store", "vhds", "b.vhd", disk(9).with_footer()));
    site.done(said).await;
    same(&site.fake.disk("d").unwrap(), &disk(7));
    let shown = site.get("disks/d").await.ok();
    let properties = &shown["properties"];
    assert_eq!(properties["diskSizeBytes"], 3 * MIB);
    assert_eq!(properties["diskSizeGB"], 1);
    assert_eq!((&properties["osType"], &properties["hyperVGeneration"]), (&json!("Linux"), &json!("V2")));
    assert!(properties["uniqueId"].as_str().is_some_and(|id| !id.is_empty()));
}

#[tokio::test]
async fn what_is_no_fixed_vhd_fails_at_the_end() {
    let site = Site::new().await;
    let good = disk(7).with_footer();
    let with = |at: u64, bytes: &[u8]| {
        let mut image = good.clone();
        image.write(at, bytes);
        image
    };
    let mut sum = good.read(3 * MIB, 512);
    sum[200] ^= 1;
    let mut cut = good.clone();
    cut.resize(3 * MIB);
    let mut odd = Image::new(MIB + 1024);
    odd.write(MIB + 512, &good.read(3 * MIB, 512));
    for (at, vhd) in [with(3 * MIB, &[0; 512]), with(3 * MIB, &sum), cut, odd].into_iter().enumerate() {
        let body = site.import_of(&format!("{at}.vhd"), vhd);
        let name = format!("disks/d{at}");
        let end = site.end(site.put(&name, &body).await).await;
        assert_eq!((&end["status"], &end["error"]["code"]), (&json!("Failed"), &json!("BadRequest")));
        let message = end["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("Only blobs formatted as VHDs can be imported."), "{message}");
        assert_eq!(site.get(&name).await.ok()["properties"]["provisioningState"], "Failed");
        assert!(site.fake.disk(&format!("d{at}")).is_none());
    }
    // A disk that never was is made by the next PUT.
    let body = site.import_of("good.vhd", good.clone());
    site.done(site.put("disks/d0", &body).await).await;
    same(&site.fake.disk("d0").unwrap(), &disk(7));
}

#[tokio::test]
async fn an_import_needs_the_account_of_the_blob_and_a_minute() {
    let site = Site::new().await;
    let good = site.import_of("b.vhd", disk(7).with_footer());
    let refused = |change: fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        let site = &site;
        async move {
            let said = site.put("disks/d", &body).await;
            (said.status.as_u16(), said.body["error"]["message"].as_str().unwrap_or_default().to_owned())
        }
    };
    let (status, message) = refused(|body| {
        body["properties"]["creationData"].as_object_mut().unwrap().remove("storageAccountId");
    })
    .await;
    assert!(status == 400 && message.contains("storageAccountId"), "{status} {message}");
    let other = |body: &mut Value| body["properties"]["creationData"]["storageAccountId"] = "/other".into();
    assert_eq!(refused(other).await.0, 400);
    assert_eq!(refused(|body| body["location"] = "mars".into()).await.0, 400);
    let snapshot = |body: &mut Value| {
        let uri = &mut body["properties"]["creationData"]["sourceUri"];
        *uri = format!("{}?snapshot=2026-01-01", uri.as_str().unwrap()).into();
    };
    assert_eq!(refused(snapshot).await.0, 501);
    site.done(site.put("disks/a", &good).await).await;
    assert_eq!(site.put("disks/b", &good).await.code(), (409, "SnapshotOperationRateExceeded"));
    site.fake.advance(Duration::from_secs(61));
    site.done(site.put("disks/b", &good).await).await;
}

#[tokio::test]
async fn an_import_reads_another_server_by_http() {
    let key = b"0123456789abcdef";
    let config = fake_blob::Config::default()
        .with(fake_blob::Account::new("signed").key(key))
        .with(fake_blob::Account::new("shared"))
        .range_page(1);
    let other = fake_blob::Fake::start(config);
    let token = other.token(Duration::from_secs(60));
    for name in ["signed", "shared"] {
        let url = format!("{}{name}/vhds?restype=container", other.endpoint());
        let request =
            client(other.ca_pem()).put(url).bearer_auth(&token).header("x-ms-version", "2021-12-02");
        assert!(request.header("content-length", 0).send().await.unwrap().status().is_success());
        assert!(other.put_image(name, "vhds", "b.vhd", disk(3).with_footer()));
    }
    let known = |name: &str, credential| Account {
        id: format!("/{name}"),
        location: PLACE.into(),
        endpoint: format!("{}{name}", other.endpoint()),
        credential: Some(credential),
        authority: Some(other.ca_pem().to_owned()),
    };
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let sas = other.sas("shared", "vhds", None, "rl", Duration::from_secs(60));
    let accounts = vec![
        known("signed", Credential::Key { name: "signed".into(), key }),
        known("shared", Credential::Sas(sas)),
    ];
    let site = Site::with(Config { accounts, ..Config::default() }).await;
    for name in ["signed", "shared"] {
        let mut body = site.import_of("unused", disk(1));
        let data = &mut body["properties"]["creationData"];
        data["sourceUri"] = format!("{}{name}/vhds/b.vhd", other.endpoint()).into();
        data["storageAccountId"] = format!("/{name}").into();
        site.done(site.put(&format!("disks/{name}"), &body).await).await;
        same(&site.fake.disk(name).unwrap(), &disk(3));
        body["properties"]["creationData"]["sourceUri"] =
            format!("{}{name}/vhds/gone.vhd", other.endpoint()).into();
        let end = site.end(site.put(&format!("disks/{name}-gone"), &body).await).await;
        assert_eq!(end["status"], "Failed", "{end}");
    }
}

#[tokio::test]
async fn an_upload_is_written_by_its_signature_alone() {
    let site = Site::new().await;
    let size = 20 * MIB;
    let body = |bytes: u64| {
        json!({
            "location": PLACE,
            "properties": { "creationData": { "createOption": "Upload", "uploadSizeBytes": bytes } },
        })
    };
    for wrong in [size, size - MIB + 512, size + 1024] {
        assert_eq!(site.put("disks/u", &body(wrong)).await.code(), (400, "InvalidParameter"));
    }
    site.done(site.put("disks/u", &body(size + 512)).await).await;
    assert_eq!(site.get("disks/u").await.ok()["properties"]["diskState"], "ReadyToUpload");
    assert_eq!(site.access("disks/u", "Read").await.code(), (409, "Conflict"));
    let sas = site.sas("disks/u", "Write").await;
    assert_eq!(site.get("disks/u").await.ok()["properties"]["diskState"], "ActiveUpload");
    let blob = client(site.blobs.ca_pem());
    let put = |at: u64, bytes: Vec<u8>| {
        let request = blob
            .put(format!("{sas}&comp=page"))
            .header("x-ms-version", "2021-12-02")
            .header("x-ms-page-write", "update")
            .header("x-ms-range", format!("bytes={at}-{}", at + bytes.len() as u64 - 1));
        async move { request.body(bytes).send().await.unwrap().status() }
    };
    assert_eq!(put(MIB, vec![5; 512]).await, 201);
    let end = site.end_access("disks/u").await;
    assert_eq!((&end["status"], &end["error"]["code"]), (&json!("Failed"), &json!("InvalidVhd")));
    assert_eq!(put(size, fake_blob::vhd::footer(size).to_vec()).await, 201);
    let end = site.end_access("disks/u").await;
    assert_eq!(end["status"], "Succeeded", "{end}");
    assert_eq!(put(MIB, vec![6; 512]).await, 403);
    assert_eq!(site.get("disks/u").await.ok()["properties"]["diskState"], "Unattached");
    let image = site.fake.disk("u").unwrap();
    assert_eq!((image.size(), image.read(MIB, 512), image.read(0, 512)), (size, vec![5; 512], vec![0; 512]));
    assert_eq!(site.access("disks/u", "Write").await.code(), (409, "Conflict"));
}

#[tokio::test]
async fn a_copy_takes_the_bytes_of_its_moment() {
    let site = Site::new().await;
    site.machine().await;
    site.fake.machine("m").write("data", 512, &[1; 512]).unwrap();
    site.done(site.snapshot("s", "data").await).await;
    site.fake.machine("m").write("data", 512, &[2; 512]).unwrap();
    for (name, source) in [("c", "snapshots/s"), ("e", "disks/data")] {
        let body = json!({
            "location": PLACE,
            "properties": {
                "diskSizeGB": 2,
                "creationData": { "createOption": "Copy", "sourceResourceId": site.id(source) },
            },
        });
        site.done(site.put(&format!("disks/{name}"), &body).await).await;
    }
    let (c, e) = (site.fake.disk("c").unwrap(), site.fake.disk("e").unwrap());
    assert_eq!((c.size(), c.read(512, 512), e.read(512, 512)), (2 * GIB, vec![1; 512], vec![2; 512]));
    let body = json!({
        "location": PLACE,
        "properties": { "creationData": { "createOption": "Copy", "sourceResourceId": site.id("disks/none") } },
    });
    assert_eq!(site.put("disks/x", &body).await.code(), (404, "NotFound"));
}

#[tokio::test]
async fn a_disk_in_use_stays() {
    let site = Site::new().await;
    site.machine().await;
    assert_eq!(site.delete("disks/data").await.code(), (409, "OperationNotAllowed"));
    site.empty_disk("loose", false).await;
    let sas = site.sas("disks/loose", "Read").await;
    let read = || client(site.blobs.ca_pem()).get(&sas).header("x-ms-version", "2021-12-02").send();
    assert_eq!(read().await.unwrap().status(), 200);
    assert_eq!(site.delete("disks/loose").await.code(), (409, "OperationNotAllowed"));
    assert_eq!(site.sas("disks/loose", "Read").await, sas);
    site.end_access("disks/loose").await;
    assert_eq!(read().await.unwrap().status(), 403);
    site.done(site.delete("disks/loose").await).await;
    assert!(site.fake.disk("loose").is_none());
}

#[tokio::test]
async fn access_ends_by_itself() {
    let site = Site::new().await;
    site.empty_disk("d", false).await;
    let sas = site.sas("disks/d", "Read").await;
    assert_eq!(site.get("disks/d").await.ok()["properties"]["diskState"], "ActiveSAS");
    site.fake.advance(Duration::from_secs(3601));
    assert_eq!(site.get("disks/d").await.ok()["properties"]["diskState"], "Unattached");
    let read =
        client(site.blobs.ca_pem()).get(&sas).header("x-ms-version", "2021-12-02").send().await.unwrap();
    assert_eq!(read.status(), 403);
}

#[tokio::test]
async fn a_disk_grows_and_does_not_shrink() {
    let site = Site::new().await;
    site.empty_disk("d", false).await;
    site.done(site.patch("disks/d", &json!({ "properties": { "diskSizeGB": 3 } })).await).await;
    assert_eq!(site.fake.disk("d").unwrap().size(), 3 * GIB);
    let less = json!({ "properties": { "diskSizeGB": 1 } });
    assert_eq!(site.patch("disks/d", &less).await.code(), (400, "BadRequest"));
}
