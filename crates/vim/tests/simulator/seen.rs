//! What our client made, as VMware's own sees it.

use crate::machines::{place, spec};
use crate::oracle;
use crate::sim::{BOTH, LONG, Mode, Sim, first};
use serde_json::{Value, json};
use site_recovery_vim::*;

/// Those values of a document that are compared.
fn part(of: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), of[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_we_made_is_the_same_to_vmwares_client() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let there = first(&vim).await.details.unwrap().devices.nics[0].network.clone().unwrap();
        let network = match &there {
            Network::Standard { name, .. } => name.clone(),
            Network::Distributed { portgroup, .. } => portgroup.clone(),
            other => panic!("{other:?}"),
        };
        let (name, mac) = ("웹 1 \"a\" & 'b' <c>", "00:50:56:12:34:56");
        let (uuid, values) =
            ("5021c0de-0000-4000-8000-00000000beef", ["<a & \"b\">", "{\"한글\": [1, 'c', \"\\\\ %2f\"]}"]);
        let mut wanted = spec(name);
        wanted.instance_uuid = Some(uuid.into());
        wanted.change_tracking = Some(true);
        wanted.extra = vec![
            ("site-recovery.mark".into(), values[0].into()),
            ("site-recovery.%/\\ 'key' <&> \"표시\"".into(), values[1].into()),
            ("other.key".into(), "of somebody else".into()),
        ];
        wanted.devices.push(DeviceChange::AddNic {
            key: -3,
            kind: NicKind::Vmxnet3,
            network: there,
            mac: Some(mac.into()),
            starts_connected: true,
        });
        let place = place(&vim).await;
        let made = vim.create_machine(&place, &wanted).await.unwrap().object(LONG).await.unwrap();
        let Some(seen) = oracle::machine(&sim.settings, name) else { return };
        let ours = vim.machine(&made).await.unwrap().details.unwrap();
        let disk = &ours.devices.disks[0];

        let plain = part(
            &seen,
            &[
                "moref",
                "instanceUuid",
                "power",
                "template",
                "firmware",
                "secureBoot",
                "cpus",
                "memoryMiB",
                "guestId",
            ],
        );
        let expected = json!({
            "moref": made.id, "instanceUuid": uuid, "power": "poweredOff", "template": false, "firmware": "efi",
            "secureBoot": true, "cpus": 2, "memoryMiB": 512, "guestId": "otherLinux64Guest",
        });
        assert_eq!(plain, expected);
        assert_eq!((&seen["changeTracking"], &seen["consolidationNeeded"]), (&json!(true), &json!(false)));
        let extra = json!({
            "site-recovery.mark": values[0], "site-recovery.%/\\ 'key' <&> \"표시\"": values[1],
        });
        assert_eq!(seen["extra"], extra, "of ours, and of nobody else");
        assert_eq!(
            seen["disks"],
            json!([{
                "key": disk.key, "label": disk.label, "file": disk.backing.file.as_ref().unwrap().to_string(),
                "parents": [], "capacity": 2 << 20, "uuid": disk.backing.uuid, "mode": "persistent", "tracked": false,
                "controller": "ParaVirtualSCSIController", "bus": 0, "unit": 0,
            }])
        );
        let nic = part(&seen["nics"][0], &["kind", "mac", "network"]);
        assert_eq!(nic, json!({ "kind": "VirtualVmxnet3", "mac": mac, "network": network }));
        assert_eq!(seen["nics"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_characters_are_the_same_to_vmwares_client() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let (vim, mut names) = (sim.connect().await, vec![]);
        let place = place(&vim).await;
        // The simulator makes no disk below a folder with `%` in its name.
        for name in ["a/b", "50%", "100%2f sure", "c\\d \"e\" 'f' & <g>", "웹 서버 1/2", "--url x"] {
            let bare = ConfigSpec { devices: vec![], ..spec(name) };
            let made = vim.create_machine(&place, &bare).await.unwrap().object(LONG).await.unwrap();
            let Some(seen) = oracle::machine(&sim.settings, name) else { return };
            assert_eq!(seen["moref"], made.id, "{name}");
            let escaped = name.replace('%', "%25").replace('/', "%2f").replace('\\', "%5c");
            assert_eq!(seen["escapedName"], escaped);
            names.push(name.to_owned());
        }
        let all = oracle::ask(&sim.settings, None).unwrap();
        let mut seen: Vec<_> =
            all["machines"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
        let listed = vim.machines(&vim.content().root_folder).await.unwrap();
        let mut ours: Vec<_> = listed.into_iter().map(|m| json!(m.name)).collect();
        assert!(names.iter().all(|name| ours.contains(&json!(name))));
        seen.sort_by_key(Value::to_string);
        ours.sort_by_key(Value::to_string);
        assert_eq!(seen, ours);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_what_hangs_on_them_are_the_same_to_vmwares_client() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        let tracked = ConfigSpec { change_tracking: Some(true), ..ConfigSpec::default() };
        vim.reconfigure(&machine.moref, &tracked).await.unwrap().wait(LONG).await.unwrap();
        let (below, above) = ("dr <1> & 50%/\"x\"", "dr 이 '2'");
        let mut taken = vec![];
        for (name, quiesce) in [(below, false), (above, true)] {
            let task = vim.create_snapshot(&machine.moref, name, "of \"a\" test\n둘", quiesce).await.unwrap();
            taken.push(task.object(LONG).await.unwrap().id);
        }
        let Some(seen) = oracle::machine(&sim.settings, &machine.name) else { return };
        let leaf = json!({
            "name": above, "description": "of \"a\" test\n둘", "moref": taken[1], "quiesced": true, "children": [],
        });
        let root = json!({
            "name": below, "description": "of \"a\" test\n둘", "moref": taken[0], "quiesced": false,
            "children": [leaf],
        });
        assert_eq!(seen["snapshots"], json!([root]));
        let now = vim.machine(&machine.moref).await.unwrap().details.unwrap();
        let backing = &now.devices.disks[0].backing;
        let parents: Vec<_> = backing.parents.iter().map(ToString::to_string).collect();
        let disk = part(&seen["disks"][0], &["file", "parents", "tracked"]);
        let file = backing.file.as_ref().unwrap().to_string();
        assert_eq!(disk, json!({ "file": file, "parents": parents, "tracked": true }));
        assert_eq!(parents.len(), 2);
        assert_eq!((&seen["power"], &seen["changeTracking"]), (&json!("poweredOn"), &json!(true)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_machine_where_it_is_is_the_same_to_vmwares_client() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        let host =
            vim.hosts().await.unwrap().into_iter().find(|h| Some(&h.moref) == machine.host.as_ref()).unwrap();
        let manager = host.autostart.unwrap();
        for (starts, word) in [(true, "powerOn"), (false, "none")] {
            vim.set_autostart(&manager, &machine.moref, starts).await.unwrap();
            let Some(seen) = oracle::ask(&sim.settings, Some(&machine.name)) else { return };
            let entry = part(&seen["autostart"][0], &["host", "machine", "moref", "startAction"]);
            let expected = json!({
                "host": host.name, "machine": machine.name, "moref": machine.moref.id, "startAction": word,
            });
            assert_eq!((entry, seen["autostart"].as_array().map(Vec::len)), (expected, Some(1)));
        }
        if mode == Mode::Esxi {
            continue;
        }
        let cluster = vim.computes().await.unwrap().into_iter().find(|c| c.is_cluster()).unwrap();
        let pod = vim.folders().await.unwrap().into_iter().find(|f| f.moref.kind == "StoragePod").unwrap();
        for (wanted, enabled) in
            [(Override::Stays, Some(false)), (Override::Moves, Some(true)), (Override::None, None)]
        {
            let drs = vim.set_drs_override(&cluster.moref, &machine.moref, wanted).await.unwrap().unwrap();
            drs.wait(LONG).await.unwrap();
            let pods =
                vim.set_storage_drs_override(&pod.moref, &machine.moref, wanted).await.unwrap().unwrap();
            pods.wait(LONG).await.unwrap();
            let seen = oracle::ask(&sim.settings, None).unwrap();
            for (list, name) in [("drs", &cluster.name), ("storageDrs", &pod.name)] {
                let one = |enabled| json!({ "in": name, "machine": machine.name, "moref": machine.moref.id, "enabled": enabled });
                let expected: Vec<Value> = enabled.map(one).into_iter().collect();
                assert_eq!(seen[list], json!(expected), "{list}, {wanted:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_vmwares_client_says_nothing_to_a_stranger() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    if oracle::ask(&sim.settings, None).is_none() {
        return;
    }
    sim.tell("calls", json!({ "reset": true })).await;
    let mut settings = sim.settings.clone();
    settings.trust = Trust::Sha256("0".repeat(64));
    let refused = std::panic::catch_unwind(|| oracle::ask(&settings, None)).unwrap_err();
    let words = refused.downcast_ref::<String>().unwrap();
    assert!(
        words.contains("another certificate than the pinned one") && !words.contains("s3cret"),
        "{words}"
    );
    let calls = sim.tell("calls", json!({})).await.to_string();
    assert!(!calls.contains("RetrieveServiceContent") && !calls.contains("Login"), "{calls}");
}
