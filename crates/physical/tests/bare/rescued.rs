//! What a rescue system says of its server, and what it takes no path from.

use crate::support::*;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, BareServer, Described, Rescue, Rescued, Slot, Switched};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

const SIZE: u64 = 256 << 10;
const OFF: Power = Power::Off { start: StartGuard::Free };

fn bare(dir: &Path, disk: &Path) -> BareDisks {
    let slots = vec![Slot { id: "root".into(), path: disk.to_owned() }];
    let described = Described { name: "web-1".into(), slots, firmware: Some(Firmware::Bios) };
    let server = described.in_rescue(Rescue::rebooting());
    BareDisks::builder("hall-1".into(), dir.join("state"), Arc::new(SystemClock))
        .server(server)
        .open()
        .unwrap()
}

fn rescued(disks: &BareDisks) -> Rescued {
    disks.rescued(Capability::default())
}

fn web() -> Machine {
    machine("m-web", "hall-1", "web-1", &[("root", SIZE)])
}

#[tokio::test]
async fn s2_a_rescue_system_says_off_only_while_no_disk_is_in_use_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.img");
    disk_file(&file, SIZE);
    let device = Loop::over(&file);
    let disks = bare(dir.path(), &device.path);
    let (said, web) = (rescued(&disks), web());
    assert_eq!(said.power(&web.instance).await.unwrap(), OFF);
    // Opened as a mount, a volume or an array opens it.
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    let system = std::fs::File::options().read(true).custom_flags(exclusive).open(&device.path).unwrap();
    assert_eq!(said.power(&web.instance).await.unwrap(), Power::Unknown);
    let error = disks.must_be_free().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.message().contains("root"), "{error}");
    drop(system);
    assert_eq!(said.power(&web.instance).await.unwrap(), OFF);
    // Ours, while something lands.
    disks.attach(&op("a"), &web, Some(web.instance.clone()), &Settings::default()).await.unwrap();
    assert_eq!(said.power(&web.instance).await.unwrap(), OFF);
    disks.detach(&op("d"), &web.instance).await.unwrap();
    assert_eq!(said.power(&web.instance).await.unwrap(), OFF);
    // A disk that cannot be looked at is no proof either.
    let nowhere = bare(&dir.path().join("other"), &dir.path().join("no-disk"));
    assert_eq!(rescued(&nowhere).power(&web.instance).await.unwrap(), Power::Unknown);
}

#[tokio::test]
async fn a_rescue_system_knows_of_no_captures() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.img");
    disk_file(&file, SIZE);
    let swept = rescued(&bare(dir.path(), &file)).sweep(&op("s"), &web().instance, &[]).await;
    assert_eq!(swept.unwrap_err().kind(), ErrorKind::Unavailable, "nothing was looked through");
}

/// A handle is asked for while the disks are given back: each act has a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lnd1_what_was_given_back_is_held_by_no_late_handle() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.img");
    disk_file(&file, SIZE);
    let (disks, web) = (bare(dir.path(), &file), web());
    for round in 0..200 {
        let key = |what: &str| op(&format!("{what}-{round}"));
        let existing = Some(web.instance.clone());
        disks.attach(&key("a"), &web, existing, &Settings::default()).await.unwrap();
        let late = async {
            let mut last = None;
            // Until it is refused: given back.
            while let Ok(disk) = disks.disk(&web.instance, &web.disks[0].id).await {
                last = Some(disk);
            }
            last
        };
        let detach = key("d");
        let (detached, handle) = tokio::join!(disks.detach(&detach, &web.instance), late);
        detached.unwrap();
        std::fs::File::open(&file).unwrap().try_lock().unwrap_or_else(|e| panic!("round {round}: {e}"));
        if let Some(handle) = handle {
            let written = handle.write(0, bytes::Bytes::from_static(b"late")).await;
            assert_eq!(written.unwrap_err().kind(), ErrorKind::Refused, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_name_that_is_a_path_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let made = |state: &str| {
        let room = dir.path().join(state).join("room");
        let builder = BareDisks::builder("hall-1".into(), dir.path().join(state), Arc::new(SystemClock));
        builder.room(room, Some(Hall::new(HOLDS))).open().unwrap()
    };
    let (theirs, ours) = (made("theirs"), made("ours"));
    let web = web();
    let settings = Settings::default();
    let landed = theirs.attach(&op("make"), &web, None, &settings).await.unwrap();
    let name = format!("../../theirs/servers/{}", landed.name);
    // Where this leads from our servers, and from our room: a home, and files, of somebody else.
    std::fs::create_dir_all(dir.path().join("ours/servers")).unwrap();
    std::fs::create_dir_all(dir.path().join("ours/room")).unwrap();
    let astray = Instance { name, ..landed.clone() };
    let home = dir.path().join("theirs/servers").join(&landed.name).join("landing.json");
    let before = std::fs::read(&home).unwrap();
    let recovery = Recovery {
        machine: web.clone(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: settings.clone(),
    };
    let start = op("start");
    let leave = permit(&start, &web.standing_as(astray.clone())).await;
    let calls = [
        ("attach", ours.attach(&op("a"), &web, Some(astray.clone()), &settings).await.err()),
        ("disk", ours.disk(&astray, &web.disks[0].id).await.err()),
        ("stamp", ours.stamp(&astray).await.err()),
        ("arm", ours.arm(&op("arm"), &astray, Generation(9)).await.err()),
        ("detach", ours.detach(&op("d"), &astray).await.err()),
        ("start", ours.start(&start, &astray, &recovery, leave).await.err()),
        ("stop", ours.stop(&op("stop"), &astray, std::time::Duration::ZERO).await.err()),
        ("remove", ours.remove(&op("r"), &astray).await.err()),
    ];
    for (call, error) in calls {
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Invalid), "{call}");
    }
    assert_eq!(std::fs::read(&home).unwrap(), before);
}

#[tokio::test]
async fn a_survey_makes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let room = dir.path().join("not/yet");
    let file = dir.path().join("root.img");
    disk_file(&file, SIZE);
    let server = BareServer {
        name: "web-1".into(),
        slots: vec![Slot { id: "root".into(), path: file }],
        firmware: None,
        starter: Arc::new(Switched(FakeServer::new(HOLDS, false))),
    };
    let builder = BareDisks::builder("hall-1".into(), dir.path().join("state"), Arc::new(SystemClock));
    let disks = builder.server(server).room(&room, None).open().unwrap();
    let offers = disks.survey(&web(), &Settings::default()).await.unwrap().offers;
    assert!(offers.datastores[0].size > 0 && !dir.path().join("not").exists());
}
