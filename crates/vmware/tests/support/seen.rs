//! What the adapter did at the server, as VMware's own client sees it: each step of the way out and back.

use super::oracle;
use super::world::World;
use crate::{MODE, open};
use serde_json::Value;
use site_recovery::*;
use site_recovery_testkit::suite::{self, op, permit, recovery};
use std::time::Duration;

/// The documents of the protected machine, of the appliance, and of all.
struct Seen {
    web: Value,
    appliance: Value,
    all: Value,
}

async fn look(world: &World) -> Option<Seen> {
    let all = oracle::ask(&world.sim.settings, None)?;
    let find = |uuid: &str| {
        let machines = all["machines"].as_array().unwrap();
        let of = |m: &&Value| m["instanceUuid"].as_str().is_some_and(|u| u.eq_ignore_ascii_case(uuid));
        machines.iter().find(of).cloned().unwrap_or(Value::Null)
    };
    let web = all["machines"].as_array().unwrap().iter().find(|m| m["name"] == "웹/1 50%").cloned();
    Some(Seen { web: web.unwrap_or(Value::Null), appliance: find(&world.appliance), all })
}

impl Seen {
    fn note(&self, name: &str) -> Value {
        let text = self.web["extra"][format!("site-recovery.{name}")].as_str();
        text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    }

    /// The tree, as `name(children)`.
    fn tree(&self) -> Vec<String> {
        fn names(nodes: &Value) -> Vec<String> {
            let of = |node: &Value| {
                let name: String = node["name"].as_str().unwrap().chars().take(9).collect();
                let children = names(&node["children"]);
                if children.is_empty() { name } else { format!("{name}({})", children.join(", ")) }
            };
            nodes.as_array().map(|nodes| nodes.iter().map(of).collect()).unwrap_or_default()
        }
        names(&self.web["snapshots"])
    }

    /// What the appliance has beside its own disk: the file and the mode of each.
    fn attached(&self) -> Vec<(String, String)> {
        let disks = self.appliance["disks"].as_array().unwrap()[1..].iter();
        disks
            .map(|d| (d["file"].as_str().unwrap().to_owned(), d["mode"].as_str().unwrap().to_owned()))
            .collect()
    }

    fn files(&self) -> Vec<String> {
        self.web["disks"].as_array().unwrap().iter().map(|d| d["file"].as_str().unwrap().to_owned()).collect()
    }

    fn with(&self, mode: &str) -> Vec<(String, String)> {
        self.files().into_iter().map(|file| (file, mode.to_owned())).collect()
    }
}

fn settings() -> Settings {
    Settings { datastore: Some("LocalDS_1".into()), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_as_vmwares_client_sees_it() {
    let Some(world) = World::start(MODE, open).await else { return };
    let name = world.machine("웹/1 50%", &[256, 128]).await;
    let moref = world.moref(&name).await;
    let host = world.eyes.machine(&moref).await.unwrap().host.unwrap();
    let hosts = world.eyes.hosts().await.unwrap();
    let autostart = hosts.into_iter().find(|h| h.moref == host).and_then(|h| h.autostart).unwrap();
    world.eyes.set_autostart(&autostart, &moref, true).await.unwrap();
    let machine = world.enrol(&name, "m-web").await;
    let (site, instance) = (&world.site, &machine.instance);

    let Some(seen) = look(&world).await else { return };
    assert_eq!(seen.note("mark")["machine"], "m-web");
    assert_eq!((&seen.web["changeTracking"], seen.tree().len()), (&Value::Bool(true), 0));
    assert_eq!(machine.title.as_deref(), Some("웹/1 50%"));

    let capture = site.capture(&op("one"), std::slice::from_ref(instance), Consistency::Crash).await.unwrap();
    let before = look(&world).await.unwrap();
    site.disks(&op("one"), &capture, machine.id()).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!(seen.tree(), ["sr-captur"]);
    assert_eq!(seen.web["snapshots"][0]["quiesced"], Value::Bool(false));
    let frozen: Vec<String> = before.web["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["parents"][0].as_str().unwrap().to_owned())
        .collect();
    let read = seen.attached();
    assert!(
        read.iter().all(|(file, mode)| frozen.contains(file) && mode == "independent_nonpersistent"),
        "{read:?}"
    );
    site.release(&op("one"), &capture, machine.id(), Fate::Sealed).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.tree().len(), seen.attached().len()), (0, 0));
    assert_eq!(seen.web["consolidationNeeded"], Value::Bool(false));

    site.fence(&op("fence"), instance, Duration::from_secs(5)).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!(seen.web["power"], "poweredOff");
    let fence = seen.note("fence");
    assert_eq!(
        (&fence["ran_before"], &fence["asked"], &fence["autostart"]),
        (&true.into(), &false.into(), &true.into())
    );
    let starts = |seen: &Seen| {
        let entries = seen.all["autostart"].as_array().unwrap().clone();
        let ours = entries.into_iter().find(|e| e["moref"] == seen.web["moref"]);
        ours.is_some_and(|e| e["startAction"].as_str().is_some_and(|a| a.eq_ignore_ascii_case("powerOn")))
    };
    assert!(!starts(&seen), "its host starts it: {}", seen.all["autostart"]);

    site.attach(&op("attach"), &machine, Some(instance.clone()), &settings()).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!(seen.attached(), seen.with("persistent"));
    site.branch(&op("branch"), instance).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.tree(), seen.attached()), (vec!["sr-branch".into()], seen.with("persistent")));
    let disk = site.disk(instance, &machine.disks[0].id).await.unwrap();
    disk.write(8192, suite::pattern(1, 4096).into()).await.unwrap();
    disk.flush().await.unwrap();
    let arm = site.part(&op("part"), instance).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!(
        (seen.tree(), seen.attached()),
        (vec!["sr-branch(sr-kept-w)".into()], seen.with("persistent"))
    );
    site.remove(&op("remove"), &arm).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.tree().len(), seen.attached()), (0, seen.with("persistent")));

    site.arm(&op("arm"), instance, Generation(1)).await.unwrap();
    site.detach(&op("detach"), instance).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.attached().len(), &seen.web["power"], seen.tree().len()), (0, &"poweredOff".into(), 0));
    assert_eq!(seen.note("mark")["generation"], 1);
    let what = recovery(&machine, settings());
    let started =
        site.start(&op("start"), instance, &what, permit(&op("start"), &machine).await).await.unwrap();
    assert!(started.running);
    let seen = look(&world).await.unwrap();
    assert_eq!((&seen.web["power"], seen.note("fence")), (&"poweredOn".into(), Value::Null));
    assert!(starts(&seen), "its host does not start it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_made_is_as_vmwares_client_sees_it() {
    let Some(world) = World::start(MODE, open).await else { return };
    let machine = Machine {
        title: Some("웹/1 50%".into()),
        cpus: 2,
        memory: 512 << 20,
        firmware: Firmware::Uefi { secure_boot: true },
        os: OsFamily::Linux,
        platform: Platform::Physical,
        ..suite::machine("m-bare")
    };
    let made = world.site.attach(&op("make"), &machine, None, &settings()).await.unwrap();
    let Some(seen) = look(&world).await else { return };
    assert_eq!(seen.web["instanceUuid"].as_str().unwrap().to_ascii_lowercase(), made.name);
    let of = ["power", "firmware", "secureBoot", "cpus", "memoryMiB", "guestId", "changeTracking"]
        .map(|k| &seen.web[k]);
    let wanted = serde_json::json!(["poweredOff", "efi", true, 2, 512, "otherLinux64Guest", true]);
    assert_eq!(serde_json::json!(of), wanted);
    assert_eq!(seen.attached(), seen.with("persistent"));
    for (disk, spec) in seen.web["disks"].as_array().unwrap().iter().zip(machine.included()) {
        let file = disk["file"].as_str().unwrap();
        assert!(file.starts_with("[LocalDS_1]"), "{file}");
        assert_eq!(disk["capacity"].as_u64(), Some(spec.size.next_multiple_of(1024)));
        assert!(disk["controller"].as_str().unwrap().contains("ParaVirtual"), "{disk}");
    }
    world.site.remove(&op("remove"), &made).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.web, seen.appliance["disks"].as_array().unwrap().len()), (Value::Null, 1));
}
