//! What a person can get wrong in `machine.json`, and what is said then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use std::fs;
use support::*;

#[tokio::test]
async fn src1_a_malformed_description_names_field_and_machine() {
    let disk = r#"{"id": "a", "file": "root.raw"}"#;
    let with = |rest: &str| format!(r#"{{"disks": [{disk}], {rest}}}"#);
    let disks = |list: &str| format!(r#"{{"disks": [{list}]}}"#);
    let cases: Vec<(&str, String, &str)> = vec![
        ("not JSON at all", "disks: [root]".into(), "machine.json"),
        ("a list instead of an object", "[]".into(), "machine.json"),
        ("no disks", "{}".into(), "disks"),
        ("an empty list of disks", disks(""), "disks"),
        ("disks as a text", r#"{"disks": "root.raw"}"#.into(), "disks"),
        ("a disk that is a text", disks(r#""root.raw""#), "disks"),
        ("no id", disks(r#"{"file": "root.raw"}"#), "disks.id"),
        ("an empty id", disks(r#"{"id": "", "file": "root.raw"}"#), "disks.id"),
        ("an id twice", disks(&format!("{disk}, {}", r#"{"id": "a", "file": "b"}"#)), "disks.id"),
        ("a file twice", disks(&format!("{disk}, {}", r#"{"id": "b", "file": "root.raw"}"#)), "disks.file"),
        ("no file", disks(r#"{"id": "a"}"#), "disks.file"),
        ("a number as file", disks(r#"{"id": "a", "file": 7}"#), "disks.file"),
        ("a file outside", disks(r#"{"id": "a", "file": "../other/root.raw"}"#), "disks.file"),
        ("an absolute file", disks(r#"{"id": "a", "file": "/dev/sda"}"#), "disks.file"),
        ("a file of ours", disks(r#"{"id": "a", "file": ".site-recovery/x"}"#), "disks.file"),
        ("a file that is missing", disks(r#"{"id": "a", "file": "gone.raw"}"#), "disks.file"),
        ("an empty file", disks(r#"{"id": "a", "file": "empty.raw"}"#), "disks.file"),
        ("a directory as file", disks(r#"{"id": "a", "file": "folder"}"#), "disks.file"),
        ("an unknown role", disks(r#"{"id": "a", "file": "root.raw", "role": "boot"}"#), "disks.role"),
        (
            "a system disk left out",
            disks(r#"{"id": "a", "file": "root.raw", "included": false}"#),
            "disks.included",
        ),
        (
            "included as a text",
            disks(r#"{"id": "a", "file": "root.raw", "included": "yes"}"#),
            "disks.included",
        ),
        ("a disk with a typo", disks(r#"{"id": "a", "file": "root.raw", "sise": 7}"#), "disks"),
        ("another name", with(r#""name": "db""#), "name"),
        ("no processors", with(r#""cpus": 0"#), "cpus"),
        ("negative memory", with(r#""memory": -1"#), "memory"),
        ("memory in words", with(r#""memory": "2 GiB""#), "memory"),
        ("an unknown firmware", with(r#""firmware": "coreboot""#), "firmware"),
        ("an unknown system", with(r#""os": "plan9""#), "os"),
        ("an unknown field", with(r#""disk": []"#), "machine.json"),
        ("a NIC without id", with(r#""nics": [{}]"#), "nics.id"),
        ("a NIC twice", with(r#""nics": [{"id": "n"}, {"id": "n"}]"#), "nics.id"),
        ("a malformed MAC", with(r#""nics": [{"id": "n", "mac": "52:54:00"}]"#), "nics.mac"),
        ("an address as number", with(r#""nics": [{"id": "n", "addresses": [7]}]"#), "nics.addresses"),
        ("a sidecar outside", with(r#""sidecars": [{"name": "s", "file": "../s"}]"#), "sidecars.file"),
        ("a command as a text", with(r#""commands": {"start": "vm start"}"#), "commands.start"),
        ("a command without program", with(r#""commands": {"stop": {"run": []}}"#), "commands.stop"),
        (
            "a limit of nothing",
            with(r#""commands": {"stop": {"run": ["x"], "seconds": 0}}"#),
            "commands.stop",
        ),
        ("an unknown command", with(r#""commands": {"reboot": {"run": ["x"]}}"#), "commands"),
        ("freeze without thaw", with(r#""commands": {"freeze": {"run": ["x"]}}"#), "commands.thaw"),
        ("thaw without freeze", with(r#""commands": {"thaw": {"run": ["x"]}}"#), "commands.freeze"),
    ];
    let world = World::new();
    world.machine("web");
    fs::write(world.path("web/empty.raw"), "").unwrap();
    fs::create_dir(world.path("web/folder")).unwrap();
    for (what, text, field) in cases {
        fs::write(world.path("web/machine.json"), text).unwrap();
        let error = world.site.discover().await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert_eq!(error.fact("field"), Some(field), "{what}: {error}");
        assert_eq!(error.fact("machine"), Some("web"), "{what}: {error}");
        assert_eq!(error.role(), Some(&"here".into()), "{what}");
    }
}

#[tokio::test]
async fn a_disk_that_shrank_since_enrol_is_named() {
    let world = World::new();
    let web = world.enrolled("web").await;
    fs::OpenOptions::new().write(true).open(world.path("web/data.raw")).unwrap().set_len(DATA - 1).unwrap();
    let capture = world.site.capture(&op("c"), std::slice::from_ref(&web), Consistency::Crash).await;
    for error in [capture.expect_err("shrank"), world.site.discover().await.expect_err("shrank")] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(error.fact("disk"), Some("data"), "{error}");
        assert!(error.message().contains("never shrinks"), "{error}");
    }
    assert!(world.leftovers("captures").iter().all(|d| fs::read_dir(d).unwrap().count() == 0));
}

#[tokio::test]
async fn a_directory_that_was_copied_does_not_carry_two_marks() {
    let world = World::new();
    world.enrolled("web").await;
    let copied =
        std::process::Command::new("cp").arg("-r").arg(world.path("web")).arg(world.path("copy")).status();
    assert!(copied.unwrap().success());
    let error = world.site.discover().await.expect_err("two marks");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.fact("machine"), Some("m-web"));
    fs::remove_dir_all(world.path("copy/.site-recovery")).unwrap();
    assert_eq!(world.found("copy").await.instance.machine, "copy".into());
}

#[tokio::test]
async fn a_site_of_another_name_or_a_newer_format_is_refused() {
    let world = World::new();
    let open = |name: &str| {
        site_recovery_local::LocalSite::open(name.into(), world.dir.path(), std::sync::Arc::new(SystemClock))
    };
    assert_eq!(open("there").expect_err("other name").kind(), ErrorKind::Conflict);
    let path = world.path(".site-recovery/site.json");
    let newer = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(&path, newer).unwrap();
    assert_eq!(open("here").expect_err("newer").kind(), ErrorKind::Unsupported);
}
