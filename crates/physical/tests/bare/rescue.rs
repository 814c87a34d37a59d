//! A landing on the very server that this runs on. Nothing is restarted here: the life of the rescue system is a file, and
//! what leaves it a program that makes another.

use crate::support::*;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, Described, Rescue, Slot};
use site_recovery_physical::power::Command;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const SIZE: u64 = 1 << 20;

fn site(dir: &Path, leave: &str) -> BareDisks {
    let life = dir.join("boot_id");
    if !life.exists() {
        std::fs::write(&life, "first life\n").unwrap();
    }
    let leave = Command { run: vec!["/bin/sh".into(), "-c".into(), leave.into()], seconds: 10 };
    let described = Described {
        name: "web-1".into(),
        slots: vec![Slot { id: "root".into(), path: dir.join("root.img") }],
        firmware: Some(Firmware::Bios),
    };
    let server = described.in_rescue(Rescue::leaving_by(leave).living_by(&life));
    let builder = BareDisks::builder("hall-1".into(), dir.join("state"), Arc::new(SystemClock));
    builder.server(server).open().unwrap()
}

fn web() -> Machine {
    machine("m-web", "hall-1", "web-1", &[("root", SIZE)])
}

fn dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    disk_file(&dir.path().join("root.img"), SIZE);
    dir
}

async fn start(site: &BareDisks, key: &str) -> Result<Booted> {
    let recovery = Recovery {
        machine: web(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: Settings::default(),
    };
    let op = op(key);
    let leave = permit(&op, &web()).await;
    site.start(&op, &web().instance, &recovery, leave).await
}

#[tokio::test]
async fn lnd7_leaving_the_rescue_system_says_nothing_until_its_life_is_over() {
    let dir = dir();
    let asked = dir.path().join("asked").display().to_string();
    let leave = format!("echo $SITE_RECOVERY_SERVER >> {asked}");
    let site = site(dir.path(), &leave);
    let web = web();
    let first = Some(web.instance.clone());
    site.attach(&op("a"), &web, first, &Settings::default()).await.unwrap();
    let armed = site.arm(&op("arm"), &web.instance, Generation(2)).await.unwrap();
    assert_eq!((armed.cursor, armed.instance.generation), (None, Generation(2)));
    let stamp = site.stamp(&web.instance).await.unwrap();
    site.detach(&op("d"), &web.instance).await.unwrap();
    let error = start(&site, "s").await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "it was asked to leave, and nobody has seen it run: {error}"
    );
    // The same life: it never left, so it is asked again.
    assert_eq!(start(&site, "s").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(std::fs::read_to_string(&asked).unwrap(), "web-1\nweb-1\n");
    assert_eq!(site.stamp(&web.instance).await.unwrap(), stamp);
    // Another life of the rescue system: it was left, and whatever ran meanwhile is over. The key starts nothing twice.
    std::fs::write(dir.path().join("boot_id"), "second life\n").unwrap();
    let back = super::rescue::site(dir.path(), &leave);
    assert_eq!(start(&back, "s").await.unwrap(), Booted { reach: vec![], running: false });
    assert_eq!(std::fs::read_to_string(&asked).unwrap(), "web-1\nweb-1\n");
    assert_ne!(
        back.stamp(&web.instance).await.unwrap(),
        stamp,
        "somebody may have started the server's own system"
    );
}

#[tokio::test]
async fn a_rescue_system_that_cannot_be_left_is_told_and_tried_again() {
    let dir = dir();
    let broken = site(dir.path(), "exit 3");
    broken.attach(&op("a"), &web(), Some(web().instance), &Settings::default()).await.unwrap();
    broken.detach(&op("d"), &web().instance).await.unwrap();
    let error = start(&broken, "s").await.unwrap_err();
    assert!(error.message().contains("could not leave its rescue system"), "{error}");
    let asked = dir.path().join("asked").display().to_string();
    let mended = site(dir.path(), &format!("touch {asked}"));
    assert_eq!(start(&mended, "s").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(Path::new(&asked).exists());
}
