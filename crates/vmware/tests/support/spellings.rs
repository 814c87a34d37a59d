//! Names that people give: with signs that mean something in paths, addresses, XML and JSON.

use super::kept::Kept;
use super::world::World;
use crate::{MODE, open};
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite;

const NAMES: &[(&str, &str)] = &[
    ("a/b", "plain"),
    ("c:\\d", "back-slash"),
    ("50%", "50% full"),
    ("100%25", "percent%25"),
    ("two words", "two  words"),
    ("it's \"quoted\"", "it's \"quoted\""),
    ("<tag> & co", "<tag> & co"),
    ("급여 서버", "급여 서버"),
    ("#1?x=y+z", "#1?x=y+z"),
    ("[brackets]", "[brackets]"),
];

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_any_name_are_captured_and_land() {
    let Some(mut world) = World::start(MODE, open).await else { return };
    for (n, (name, folder)) in NAMES.iter().enumerate() {
        let body = json!({
            "name": name, "folder": folder, "datastore": "LocalDS_0", "disks": [131072], "on": true,
        });
        world.sim.tell("machine-create", body).await;
        let all = world.eyes.machines(&world.eyes.content().root_folder).await.unwrap();
        let made = all
            .iter()
            .find(|m| m.file.as_ref().is_some_and(|file| file.path().trim().starts_with(folder.trim())));
        let made = made.unwrap_or_else(|| {
            panic!("{name}: not among {:?}", all.iter().map(|m| &m.file).collect::<Vec<_>>())
        });
        let uuid = made.instance_uuid.clone().unwrap().to_ascii_lowercase();
        world.write(&uuid, 0, 4096, &suite::pattern(n as u64, 4096)).await;
        let machine = world.enrol(&uuid, &format!("m-{n}")).await;
        let mut here = Kept { world, machine, name: uuid };
        let before = here.truth().await;
        let first = here.capture(&format!("{n}-first")).await;
        here.reads_right(&first, &before).await;
        here.release(&first).await;
        here.write(0, 1).await;
        let second = here.capture(&format!("{n}-second")).await;
        assert_eq!(here.delta(&second, &here.cursor(&first), &before).await, [[1]], "{name}");
        here.release(&second).await;
        // Off, and by its file over HTTPS.
        here.world.stop(&here.name).await;
        let alone = open(&here.world.sim, here.world.dir.path().join("state")).open().await.unwrap();
        let with = std::mem::replace(&mut here.world.site, alone);
        let (truth, third) = (here.truth().await, here.capture(&format!("{n}-third")).await);
        here.reads_right(&third, &truth).await;
        here.release(&third).await;
        here.world.site = with;
        // The way back to it, and a new one of its name.
        let settings = Settings { datastore: Some("LocalDS_1".into()), ..Settings::default() };
        let existing = Some(here.instance().clone());
        let key = suite::op(&format!("{n}-attach"));
        let landed = here.site().attach(&key, &here.machine, existing, &settings).await.unwrap();
        let disk = here.site().disk(&landed, &here.machine.disks[0].id).await.unwrap();
        disk.write(8192, bytes::Bytes::from(vec![n as u8 + 1; 512])).await.unwrap();
        disk.flush().await.unwrap();
        drop(disk);
        here.site().detach(&suite::op(&format!("{n}-detach")), &landed).await.unwrap();
        assert_eq!(here.truth().await[0][8192..8704], [n as u8 + 1; 512]);
        let new = Settings {
            datastore: Some("LocalDS_1".into()),
            name: Some(format!("again-{n}")),
            location: Location::Alternate,
            ..Settings::default()
        };
        let key = suite::op(&format!("{n}-new"));
        let made = here.site().attach(&key, &here.machine, None, &new).await.unwrap();
        here.site().disk(&made, &here.machine.disks[0].id).await.unwrap();
        here.site().remove(&suite::op(&format!("{n}-remove")), &made).await.unwrap();
        assert!(here.world.snapshots(&here.name).await.is_empty());
        world = here.world;
    }
}
