//! Each rule is met by a plain server, and broken by one thing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use site_recovery::{DiskRole, Firmware, GuestFacts, Severity};
use site_recovery_physical::inventory::*;
use std::collections::BTreeSet;

const GIB: u64 = 1 << 30;

fn file_system(device: &str, mounted: &str, kind: &str) -> FileSystem {
    FileSystem { device: device.into(), mounted: mounted.into(), kind: kind.into() }
}

fn disk(id: &str, device: &str, role: DiskRole, file_systems: Vec<FileSystem>) -> ServerDisk {
    let layout = Layout { stable: true, ..Layout::default() };
    ServerDisk {
        id: id.into(),
        device: device.into(),
        size: 10 * GIB,
        sector: 512,
        role,
        file_systems,
        layout,
    }
}

fn layer(kind: LayerKind, content: Option<&str>) -> Layer {
    Layer { device: "/dev/sda1".into(), kind, size: GIB, content: content.map(Into::into) }
}

/// One that meets every rule.
fn plain() -> Server {
    let adapter = Adapter { name: "eno1".into(), mac: None, addresses: vec!["192.0.2.7".into()] };
    Server {
        name: "web-1".into(),
        disks: vec![
            disk("a", "/dev/sda", DiskRole::System, vec![file_system("/dev/sda1", "/", "ext4")]),
            disk("b", "/dev/sdb", DiskRole::Data, vec![file_system("/dev/sdb1", "/srv", "xfs")]),
        ],
        adapters: vec![adapter],
        cpus: 4,
        memory: 8 * GIB,
        firmware: Firmware::Bios,
        guest: GuestFacts { dhcp: Some(true), ..GuestFacts::default() },
        system: System {
            free: Some(9 * GIB),
            installation_free: Some(9 * GIB),
            boot: vec![("/".into(), vec!["a".into()])],
            volumes: vec!["vg-root".into(), "vg-data".into()],
            ..System::default()
        },
        left_out: vec![],
    }
}

type Break = (&'static str, fn(&mut Server));

/// What breaks a rule, and nothing but that rule.
fn breaks() -> Vec<Break> {
    vec![
        ("physical.disk.none", |s| s.disks.clear()),
        ("physical.disk.system", |s| s.disks[0].role = DiskRole::Data),
        ("physical.disk.unstable", |s| s.disks[1].layout.stable = false),
        ("physical.disk.twice", |s| s.disks[1].id = "a".into()),
        ("physical.device.case", |s| s.system.volumes.push("VG-Root".into())),
        ("physical.disk.sector", |s| s.disks[1].sector = 4096),
        ("physical.disk.encrypted", |s| s.disks[1].layout.layers = vec![layer(LayerKind::Crypt, None)]),
        ("physical.disk.encrypted", |s| {
            s.disks[1].layout.layers = vec![layer(LayerKind::Partition, Some("BitLocker"))];
        }),
        ("physical.disk.shared", |s| s.disks[1].file_systems[0].kind = "gfs2".into()),
        ("physical.disk.multipath", |s| s.disks[1].layout.reach = Reach::Multipath),
        ("physical.disk.iscsi", |s| s.disks[1].layout.reach = Reach::Iscsi),
        ("physical.disk.fibre-channel", |s| s.disks[1].layout.reach = Reach::FibreChannel),
        ("physical.disk.fabrics", |s| s.disks[1].layout.reach = Reach::Fabrics),
        ("physical.boot.spread", |s| s.system.boot.push(("/boot".into(), vec!["b".into()]))),
        ("physical.filesystem.spread", |s| {
            for disk in &mut s.disks {
                disk.file_systems = vec![file_system("/dev/sda1", "/", "btrfs")];
            }
        }),
        ("physical.filesystem.spread", |s| {
            for disk in &mut s.disks {
                disk.layout.layers = vec![layer(LayerKind::Partition, Some("zfs_member"))];
            }
        }),
        ("physical.filesystem.elsewhere", |s| s.system.elsewhere.push(file_system("far:/x", "/mnt", "nfs4"))),
        ("physical.space.root", |s| s.system.free = Some(2 * GIB - 1)),
        ("physical.space.installation", |s| s.system.installation_free = Some((600 << 20) - 1)),
        ("physical.network.none", |s| s.adapters.clear()),
        ("physical.network.static", |s| s.guest.dhcp = Some(false)),
        ("physical.network.ipv6-only", |s| s.adapters[0].addresses = vec!["2001:db8::7".into()]),
        ("physical.network.bonded", |s| s.system.bonds.push("bond0".into())),
    ]
}

#[test]
fn a_plain_server_breaks_no_rule() {
    assert_eq!(check(&plain()), []);
}

#[test]
fn each_rule_is_broken_by_what_it_is_about_and_by_nothing_else() {
    for (code, break_it) in breaks() {
        let mut server = plain();
        break_it(&mut server);
        let codes: Vec<_> = check(&server).into_iter().map(|f| f.code).collect();
        assert_eq!(codes, [code]);
    }
    let told: BTreeSet<_> = REQUIREMENTS.iter().map(|r| r.code).collect();
    let tried: BTreeSet<_> = breaks().into_iter().map(|(code, _)| code).collect();
    assert_eq!(told, tried, "a rule that is not tried is not kept");
}

#[test]
fn a_mirror_with_its_boot_partition_on_one_half_is_not_spread() {
    let mut server = plain();
    server.system.boot =
        vec![("/".into(), vec!["a".into(), "b".into()]), ("/boot/efi".into(), vec!["b".into()])];
    assert_eq!(check(&server), []);
}

#[test]
fn findings_name_what_they_are_about() {
    let mut server = plain();
    server.disks[1].sector = 4096;
    let found = check(&server);
    assert!(found[0].blocks());
    assert!(found[0].cause.contains("/dev/sdb") && found[0].cause.contains("4096"), "{}", found[0].cause);
}

#[test]
fn what_became_of_the_disks() {
    let earlier = plain();
    assert_eq!(changes(&earlier, &earlier), []);
    let mut now = plain();
    now.disks.reverse();
    now.disks[0].device = "/dev/sdz".into();
    assert_eq!(changes(&earlier, &now), [], "another order and other names are no change");
    now.disks[0].size += 512;
    now.disks[1] = disk("c", "/dev/sdc", DiskRole::Data, vec![]);
    let found: Vec<_> = changes(&earlier, &now).into_iter().map(|f| (f.code, f.severity)).collect();
    let wanted = [
        ("physical.disk.removed".to_owned(), Severity::Critical),
        ("physical.disk.grown".to_owned(), Severity::Critical),
        ("physical.disk.added".to_owned(), Severity::Warning),
    ];
    assert_eq!(found, wanted);
    now = plain();
    now.disks[0].size -= 512;
    now.disks[1].sector = 4096;
    let found: Vec<_> = changes(&earlier, &now).into_iter().map(|f| f.code).collect();
    assert_eq!(found, ["physical.disk.shrunk", "physical.disk.sector"]);
}

#[test]
fn what_an_older_agent_wrote_is_read() {
    let older = r#"{"name":"web-1","disks":[{"id":"a","device":"/dev/sda","size":1,"sector":512,"role":"System",
        "file_systems":[]}],"adapters":[],"cpus":1,"memory":1,"firmware":"Bios","guest":{"os_name":null,
        "boot_drivers":null,"dhcp":null,"agent":null,"snapshots":null}}"#;
    let server: Server = serde_json::from_str(older).unwrap();
    assert_eq!(server.disks[0].layout, Layout::default());
    let text = serde_json::to_string(&plain()).unwrap();
    assert_eq!(serde_json::from_str::<Server>(&text).unwrap(), plain());
}
