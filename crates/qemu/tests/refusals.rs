//! What a person may get wrong is refused before anything changes, with the field, the value, the rule and a remedy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_qemu::Programs;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use support::*;

/// What each act says that needs a machine's description and its images.
async fn every_act(world: &World, name: &str) -> Vec<(&'static str, Error)> {
    let site = &world.site;
    let label = Instance {
        machine: format!("m-{name}").as_str().into(),
        site: "here".into(),
        name: name.into(),
        generation: Generation(0),
    };
    let machine = Machine { instance: label.clone(), ..site_recovery_testkit::suite::machine("other") };
    vec![
        ("discover", site.discover().await.unwrap_err()),
        ("enrol", site.enrol(&op("enrol"), &machine).await.unwrap_err()),
        ("capture", site.capture(&op("capture"), &[label], Consistency::Crash).await.unwrap_err()),
        ("power on", site.power_on(name).await.unwrap_err()),
        ("command line", site.command_line(name).await.unwrap_err()),
    ]
}

/// Every file below a directory, with its bytes.
fn all_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![];
    for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        match path.is_dir() {
            true => all.extend(all_files(&path)),
            false => all.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

/// Changes the description, and nothing else.
fn edit(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let path = world.path(name).join("machine.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut text);
    fs::write(path, text.to_string()).unwrap();
}

/// All acts refuse it with this field and say all these words; the machine's directory stays as it was.
async fn refused(world: &World, name: &str, case: &str, field: &str, words: &[&str]) {
    let before = all_files(&world.path(name));
    for (act, error) in every_act(world, name).await {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{case}: {act}: {error}");
        let said = format!("{error} {:?}", error.facts().collect::<Vec<_>>());
        let all = [field].into_iter().chain(words.iter().copied());
        all.for_each(|word| assert!(said.contains(word), "{case}: {act} does not say {word:?}: {said}"));
    }
    assert_eq!(all_files(&world.path(name)), before, "{case}: something was changed");
    assert!(pid(&world.place(name).join("pid")).is_none(), "{case}: a process was started");
}

#[test]
fn a_description_that_breaks_a_rule_is_refused_by_every_act() {
    on_qemu(async {
        type Break = fn(&mut Value);
        let cases: &[(&str, Break, &str, &[&str])] = &[
            (
                "an unknown field",
                |d| d["colour"] = "red".into(),
                "machine.json",
                &["colour", "mend the text"],
            ),
            ("an unknown field of a disk", |d| d["disks"][0]["bus"] = "ide".into(), "machine.json", &["bus"]),
            ("a number that is a text", |d| d["cpus"] = "two".into(), "machine.json", &["two"]),
            ("no disks", |d| d["disks"] = json!([]), "disks", &["add one"]),
            (
                "a disk outside",
                |d| d["disks"][0]["file"] = "../root.qcow2".into(),
                "disks.file",
                &["../root.qcow2", "move the image there"],
            ),
            (
                "a disk with a slash",
                |d| d["disks"][0]["file"] = "a/root.qcow2".into(),
                "disks.file",
                &["a/root.qcow2"],
            ),
            ("an absolute disk", |d| d["disks"][0]["file"] = "/dev/sda".into(), "disks.file", &["/dev/sda"]),
            (
                "a disk with a comma",
                |d| d["disks"][0]["file"] = "a,b.qcow2".into(),
                "disks.file",
                &["a,b.qcow2"],
            ),
            ("a disk without a file name", |d| d["disks"][0]["file"] = "".into(), "disks.file", &[]),
            ("a hidden disk", |d| d["disks"][0]["file"] = ".site-recovery".into(), "disks.file", &[]),
            (
                "twice the same id",
                |d| d["disks"][1]["id"] = "root".into(),
                "disks.id",
                &["root", "twice", "rename"],
            ),
            (
                "twice the same file",
                |d| d["disks"][1]["file"] = "root.qcow2".into(),
                "disks.file",
                &["twice"],
            ),
            (
                "a system disk left out",
                |d| d["disks"][0]["included"] = false.into(),
                "disks.included",
                &["include it"],
            ),
            (
                "twice the same nic",
                |d| d["nics"] = json!([{ "id": "n" }, { "id": "n" }]),
                "nics.id",
                &["twice"],
            ),
            (
                "no MAC",
                |d| d["nics"][0]["mac"] = "52:54:00".into(),
                "nics.mac",
                &["52:54:00", "aa:bb:cc:dd:ee:ff"],
            ),
            ("no processor", |d| d["cpus"] = 0.into(), "cpus", &["raise"]),
            ("memory in MiB", |d| d["memory"] = 512.into(), "memory", &["512", "raise"]),
            ("an option as machine type", |d| d["machine"] = "-monitor".into(), "machine", &["-monitor"]),
            ("no uuid", |d| d["uuid"] = "1,serial=x".into(), "uuid", &["8-4-4-4-12"]),
            ("an SMBIOS field that is none", |d| d["smbios"] = json!({ "type": "2" }), "smbios", &["serial"]),
        ];
        let world = World::new().await;
        for (case, change, field, words) in cases {
            world.machine("web");
            edit(&world, "web", change);
            refused(&world, "web", case, field, words).await;
            fs::remove_dir_all(world.path("web")).unwrap();
        }
    });
}

#[test]
fn an_image_that_cannot_be_tracked_is_refused_with_the_way_to_convert_it() {
    on_qemu(async {
        let world = World::new().await;
        let image = world.path("web/disks/data.qcow2");
        let make = |arguments: &[&str]| {
            world.machine("web");
            fs::remove_file(&image).unwrap();
            run("qemu-img", &[&["create", "-q"], arguments, &[text_of(&image), "1M"]].concat());
        };
        make(&["-f", "vmdk"]);
        refused(&world, "web", "vmdk", "disks.format", &["data", "qcow2", "qemu-img"]).await;
        make(&["-f", "qcow2", "-o", "compat=0.10"]);
        refused(&world, "web", "compat=0.10", "disks.file", &["data.qcow2", "amend", "compat=1.1"]).await;
        // The remedy is one.
        run("qemu-img", &["amend", "-f", "qcow2", "-o", "compat=1.1", text_of(&image)]);
        world.found("web").await;
        make(&["-f", "raw"]);
        refused(&world, "web", "raw, described as qcow2", "disks.format", &["qcow2", "correct `format`"])
            .await;
        fs::remove_file(&image).unwrap();
        refused(&world, "web", "missing", "disks.file", &["data.qcow2", "correct the description"]).await;
    });
}

#[test]
fn an_image_that_stands_on_a_missing_one_is_refused_with_the_name_of_that() {
    on_qemu(async {
        let world = World::new().await;
        world.machine("web");
        let (image, disks) = (world.path("web/disks/data.qcow2"), world.path("web/disks"));
        let [middle, bottom] = ["middle.qcow2", "golden.raw"].map(|f| disks.join(f));
        run("qemu-img", &["create", "-q", "-f", "raw", text_of(&bottom), "1M"]);
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "golden.raw", text_of(&middle)]);
        fs::remove_file(&image).unwrap();
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", text_of(&middle), text_of(&image)],
        );
        world.found("web").await;
        let aside = world.path("aside");
        for (missing, name) in [(&bottom, "golden.raw"), (&middle, "middle.qcow2")] {
            fs::rename(missing, &aside).unwrap();
            refused(&world, "web", name, "disks.file", &["data.qcow2", name, "rebase"]).await;
            fs::rename(&aside, missing).unwrap();
        }
        // As an image of older tools, which does not tell the format of the next one: QEMU looks for itself.
        let mut header = fs::read(&image).unwrap();
        let told = header.windows(4).position(|w| w == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
        header[told..told + 4].fill(1);
        fs::write(&image, header).unwrap();
        fs::rename(&bottom, &aside).unwrap();
        refused(&world, "web", "no format", "disks.file", &["golden.raw", "rebase"]).await;
        fs::rename(&aside, &bottom).unwrap();
        // With everything back, it runs.
        world.site.power_on("web").await.unwrap();
        assert!(world.is_on("web"));
    });
}

#[test]
fn a_name_that_no_option_can_carry_is_refused() {
    on_qemu(async {
        let world = World::new().await;
        for name in ["we,b", "a/b", "..", "", ".hidden", "nul\0"] {
            for error in [
                world.site.power_on(name).await.unwrap_err(),
                world.site.command_line(name).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}: {error}");
                assert!(error.message().contains("instance.name"), "{name:?}: {error}");
            }
        }
        world.machine("we,b");
        let error = world.site.discover().await.unwrap_err();
        assert!(error.to_string().contains("we,b") && error.kind() == ErrorKind::Invalid, "{error}");
    });
}

#[test]
fn a_directory_too_deep_for_sockets_is_refused_and_not_made() {
    on_qemu(async {
        let dir = tempfile::TempDir::new().unwrap();
        let deep = dir.path().join("d".repeat(100));
        let error = builder(&deep).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        for word in ["dir", "bytes", "shorter path"] {
            assert!(error.message().contains(word), "{error}");
        }
        assert!(!deep.exists(), "it was made all the same");
        // Behind a short link it is as long.
        fs::create_dir(&deep).unwrap();
        std::os::unix::fs::symlink(&deep, dir.path().join("link")).unwrap();
        let error = builder(&dir.path().join("link")).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0, "something was left in it");
    });
}

/// A program that says this and does nothing else.
fn says(dir: &Path, name: &str, line: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_qemu_too_old_or_none_at_all_is_refused_at_open() {
    on_qemu(async {
        let dir = tempfile::TempDir::new().unwrap();
        let site = dir.path().join("site");
        let old = |name: &str, line: &str| says(dir.path(), name, line);
        let cases = [
            (
                Programs {
                    system: old("old", "QEMU emulator version 6.2.0 (Debian 1:6.2)"),
                    ..Programs::default()
                },
                vec!["old", "6.2.0", "7.1", "install a newer one"],
            ),
            (
                Programs {
                    storage_daemon: old("qsd", "qemu-storage-daemon version 7.0.9"),
                    ..Programs::default()
                },
                vec!["qsd", "7.0.9", "7.1"],
            ),
            (
                Programs { img: old("other", "ImageMagick 7"), ..Programs::default() },
                vec!["other", "ImageMagick 7"],
            ),
            (
                Programs { storage_daemon: dir.path().join("absent"), ..Programs::default() },
                vec!["absent", "install QEMU's tools"],
            ),
        ];
        for (programs, words) in cases {
            let error = builder(&site).programs(programs).open().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            words.iter().for_each(|w| assert!(error.to_string().contains(w), "{w}: {error}"));
            assert!(!site.exists(), "something was made");
        }
        let newer = Programs { system: old("new", "QEMU emulator version 7.1.0"), ..Programs::default() };
        builder(&site).programs(newer).open().await.unwrap();
    });
}
