//! Snapshots: what they hold, how many there may be, how they are read.

use crate::wire::{Site, client};
use fake_arm::Config;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_snapshot_holds_the_bytes_of_when_it_was_asked_for() {
    let site = Site::new().await;
    site.machine().await;
    site.fake.machine("m").write("data", 4096, &[1; 512]).unwrap();
    let said = site.snapshot("s", "data").await;
    site.fake.machine("m").write("data", 4096, &[2; 512]).unwrap();
    site.done(said).await;
    assert_eq!(site.fake.snapshot("s").unwrap().read(4096, 512), [1; 512]);
    assert_eq!(site.fake.disk("data").unwrap().read(4096, 512), [2; 512]);
}

#[tokio::test]
async fn snapshots_of_one_disk_are_a_family() {
    let site = Site::new().await;
    site.machine().await;
    for (name, disk) in [("a", "data"), ("b", "data"), ("c", "os")] {
        site.done(site.snapshot(name, disk).await).await;
    }
    let mut families = vec![];
    for name in ["a", "b", "c"] {
        let shown = site.get(&format!("snapshots/{name}")).await.ok();
        let properties = &shown["properties"];
        assert_eq!(
            (&properties["incremental"], &properties["completionPercent"]),
            (&json!(true), &json!(100.0))
        );
        assert_eq!(properties["incrementalSnapshotFamilyId"], properties["creationData"]["sourceUniqueId"]);
        families.push(properties["incrementalSnapshotFamilyId"].clone());
    }
    let data = site.get("disks/data").await.ok()["properties"]["uniqueId"].clone();
    assert_eq!((&families[0], &families[1]), (&data, &data));
    assert_ne!(families[2], data);
}

#[tokio::test]
async fn seven_are_taken_in_five_minutes() {
    let site = Site::new().await;
    site.empty_disk("d", false).await;
    for n in 0..7 {
        site.done(site.snapshot(&format!("s{n}"), "d").await).await;
    }
    assert_eq!(site.snapshot("s7", "d").await.code(), (429, "TooManyRequests"));
    assert!(site.fake.snapshot("s7").is_none());
    site.empty_disk("other", false).await;
    site.done(site.snapshot("o", "other").await).await;
    site.fake.advance(Duration::from_secs(290));
    assert_eq!(site.snapshot("s7", "d").await.status, 429);
    site.fake.advance(Duration::from_secs(11));
    site.done(site.snapshot("s7", "d").await).await;
}

#[tokio::test]
async fn a_disk_has_five_hundred_at_most() {
    let site = Site::with(Config { looks: 0, ..Config::default() }).await;
    site.empty_disk("d", false).await;
    for n in 0..500 {
        if n % 7 == 0 {
            site.fake.advance(Duration::from_secs(301));
        }
        assert_eq!(site.snapshot(&format!("s{n}"), "d").await.status, 202);
    }
    site.fake.settle();
    site.fake.advance(Duration::from_secs(301));
    assert_eq!(site.snapshot("more", "d").await.code(), (409, "OperationNotAllowed"));
    site.done(site.delete("snapshots/s0").await).await;
    assert_eq!(site.snapshot("more", "d").await.status, 202);
}

#[tokio::test]
async fn five_of_a_family_are_read_at_once() {
    let site = Site::new().await;
    site.empty_disk("d", false).await;
    for n in 0..6 {
        site.done(site.snapshot(&format!("s{n}"), "d").await).await;
    }
    for n in 0..5 {
        site.sas(&format!("snapshots/s{n}"), "Read").await;
    }
    assert_eq!(site.access("snapshots/s5", "Read").await.code(), (409, "Conflict"));
    site.sas("snapshots/s0", "Read").await;
    site.end_access("snapshots/s0").await;
    site.sas("snapshots/s5", "Read").await;
}

#[tokio::test]
async fn two_of_a_family_tell_what_changed_between_them() {
    let site = Site::new().await;
    site.machine().await;
    let machine = site.fake.machine("m");
    machine.write("data", 0, &[1; 512]).unwrap();
    site.done(site.snapshot("a", "data").await).await;
    machine.write("data", 1 << 20, &[2; 1024]).unwrap();
    site.done(site.snapshot("b", "data").await).await;
    let (a, b) = (site.sas("snapshots/a", "Read").await, site.sas("snapshots/b", "Read").await);
    let request =
        client(site.blobs.ca_pem()).get(format!("{b}&comp=pagelist")).header("x-ms-version", "2021-12-02");
    let answer = request.header("x-ms-previous-snapshot-url", &a).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let start = 1 << 20;
    let changed = format!("<Start>{start}</Start><End>{}</End>", start + 1023);
    assert!(text.contains(&changed) && !text.contains("<Start>0</Start>"), "{text}");
}

#[tokio::test]
async fn a_snapshot_is_complete_after_some_looks() {
    let site = Site::with(Config { completion: 2, ..Config::default() }).await;
    site.empty_disk("d", false).await;
    site.done(site.snapshot("s", "d").await).await;
    let mut seen = vec![];
    for _ in 0..3 {
        seen.push(site.get("snapshots/s").await.ok()["properties"]["completionPercent"].clone());
    }
    assert_eq!(seen, [json!(0.0), json!(50.0), json!(100.0)]);
}
