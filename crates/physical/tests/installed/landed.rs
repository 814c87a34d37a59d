//! What is written, where, and what is refused.

use crate::scene::*;
use crate::support::*;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, Described, Installed, Rescue, Slot};
use site_recovery_physical::power::Command as Program;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the partition begins.
const START: u64 = MIB;

/// A disk with a partition, and an ext4 in it.
fn partitioned(file: &Path, mount: &Path) {
    fs::File::create(file).unwrap().set_len(SIZE).unwrap();
    let (start, size) = (format!("offset={START}"), format!("{}k", (SIZE - START) >> 10));
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-E", &start, file.to_str().unwrap(), &size]);
    with_agent(&Mounted::of(file, mount, &format!("loop,offset={START}")).0);
}

#[tokio::test]
async fn s2_what_landed_is_told_who_it_is_on_a_partition_that_was_not_there_before() {
    let Some(_alone) = turn().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let (image, file, mount) = (dir.path().join("image"), dir.path().join("disk.img"), dir.path().join("m"));
    partitioned(&image, &mount);
    fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
    let disk = Loop::over(&file);
    let (of, device) = (disk.path.to_str().unwrap(), PathBuf::from(format!("{}p1", disk.path.display())));
    // By hand: not every kernel reads a table of partitions.
    let program = |words: &[&str]| {
        Some(Program { run: words.iter().map(|word| (*word).to_owned()).collect(), seconds: 10 })
    };
    let (start, size) = ((START / 512).to_string(), ((SIZE - START) / 512).to_string());
    let installed = Installed {
        activate: program(&["/usr/bin/addpart", of, "1", &start, &size]),
        deactivate: program(&["/usr/bin/delpart", of, "1"]),
        ..Installed::on(&device)
    };
    let site = site(dir.path(), &disk.path, Some(installed), certificate());
    site.attach(&op("a"), &web(), Some(web().instance), &Settings::default()).await.unwrap();
    let landing = site.disk(&web().instance, &"root".into()).await.unwrap();
    let bytes = bytes::Bytes::from(fs::read(&image).unwrap());
    for run in Run::new(0, SIZE).pieces(MIB) {
        landing.write(run.start, bytes.slice(run.start as usize..run.end() as usize)).await.unwrap();
    }
    landing.flush().await.unwrap();
    site.arm(&op("arm"), &web().instance, Generation(2)).await.unwrap();
    site.detach(&op("d"), &web().instance).await.unwrap();
    let look = || {
        run("addpart", &[of, "1", &start, &size]);
        tree(&Mounted::of(&device, &mount, "ro").0)
    };
    let before = look();
    run("delpart", &[of, "1"]);
    assert!(!device.exists());
    let error = self::start(&site).await;
    assert!(has_left(&error), "{error}");
    assert!(!device.exists(), "it could not go while it was mounted");
    let mut after = look();
    is_told(&Mounted::of(&device, &mount, "ro").0);
    run("delpart", &[of, "1"]);
    // And nothing else of it was written.
    assert_eq!(after.len(), before.len());
    after.retain(|path, found| before[path] != *found);
    assert_eq!(after.keys().collect::<Vec<_>>(), [Path::new(MARK), Path::new(SHOWN)]);
}

#[tokio::test]
async fn a_system_without_an_agent_is_told_nothing_and_starts_all_the_same() {
    let Some(_alone) = turn().await else { return };
    for (what, of_it) in [("nothing", "srv"), ("the directory alone", STATE)] {
        let scene = Scene::new(|root| fs::create_dir_all(root.join(of_it)).unwrap());
        let before = tree(&scene.look().0);
        let error = scene.start(certificate()).await;
        assert!(has_left(&error), "{what}: {error}");
        assert_eq!(tree(&scene.look().0), before, "{what}");
        assert_eq!(scene.left(), 1);
    }
}

#[tokio::test]
async fn c1_no_link_leads_out_of_the_file_system_that_is_told() {
    let Some(_alone) = turn().await else { return };
    // Where a link stands, and what lies where it leads.
    for (link, there) in [
        ("var", "lib/site-recovery/agent/agent"),
        ("var/lib/site-recovery", "agent/agent"),
        (STATE, "agent"),
        ("var/lib/site-recovery/agent/agent", "epochs"),
        ("var/lib/site-recovery/agent/credentials", "x"),
    ] {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join(there)).unwrap();
        let scene = Scene::new(|root| {
            with_agent(root);
            fs::remove_dir_all(root.join(link)).unwrap();
            symlink(outside.path(), root.join(link)).unwrap();
        });
        let before = tree(outside.path());
        let error = scene.start(certificate()).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{link}: {error}");
        assert_eq!(error.fact("field"), Some("installed.state"), "{link}: {error}");
        assert_eq!(tree(outside.path()), before, "{link}");
        assert_eq!((scene.left(), scene.is_free()), (0, true), "{link}");
    }
    // One in the place of a file is replaced, and what it leads to stays.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("shadow"), "a secret").unwrap();
    let scene = Scene::new(|root| {
        with_agent(root);
        for file in [MARK, SHOWN] {
            fs::remove_file(root.join(file)).unwrap();
            symlink(outside.path().join("shadow"), root.join(file)).unwrap();
        }
    });
    let error = scene.start(certificate()).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
    assert_eq!(fs::read(outside.path().join("shadow")).unwrap(), b"a secret");
}

#[tokio::test]
async fn a_device_that_is_another_one_is_refused_and_no_mount_is_left() {
    let Some(_alone) = turn().await else { return };
    // A disk of the rescue system's own, with an agent's state on it.
    let other = Scene::new(with_agent);
    let before = tree(&other.look().0);
    let mut scene = Scene::new(with_agent);
    let own = std::mem::replace(&mut scene.installed.device, other.disk.path.clone());
    let error = scene.start(certificate()).await;
    assert_eq!(
        (error.kind(), error.fact("field")),
        (ErrorKind::Invalid, Some("installed.device")),
        "{error}"
    );
    assert_eq!(tree(&other.look().0), before);
    // The right one, by another kind, and one that this kernel does not know.
    scene.installed.device = own;
    for (kind, field) in [("xfs", "installed.device"), ("nosuchfs", "installed.kind")] {
        scene.installed.kind = kind.into();
        let error = scene.start(certificate()).await;
        assert_eq!(error.fact("field").unwrap_or_default(), field, "{kind}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{kind}: {error}");
        assert!(scene.is_free(), "{kind}");
    }
    scene.installed.kind = "ext4".into();
    // Somebody has it mounted.
    let mounted = scene.look();
    let error = scene.start(certificate()).await;
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Busy, Some("installed.device")), "{error}");
    assert_eq!(fs::read_to_string(mounted.0.join(SHOWN)).unwrap(), "expired");
    drop(mounted);
    assert_eq!(scene.left(), 0);
    // What it is told by now, it is told by the same key.
    let error = scene.start(certificate()).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
}

#[tokio::test]
async fn a_survey_says_what_is_not_told_and_a_server_that_is_none_is_refused() {
    let Some(_alone) = turn().await else { return };
    let scene = Scene::new(with_agent);
    let told = async |site: BareDisks| {
        let found = site.survey(&web(), &Settings::default()).await.unwrap().findings;
        found.into_iter().find(|finding| finding.code == "landing.installed")
    };
    assert_eq!(told(scene.site(certificate())).await, None);
    let untold = told(site(scene.dir.path(), &scene.disk.path, None, None)).await.unwrap();
    assert_eq!(untold.severity, Severity::Info);
    for part in ["boot guard", "certificate"] {
        assert!(untold.cause.contains(part), "{part}: {untold:?}");
    }
    assert!(untold.remedy.contains("[receive.installed]") && untold.remedy.contains("lift"), "{untold:?}");
    let builder = BareDisks::builder("hall-1".into(), scene.path("other"), Arc::new(SystemClock));
    let described = Described {
        name: "web-1".into(),
        slots: vec![Slot { id: "x".into(), path: "/x".into() }],
        firmware: None,
    };
    let builder = builder.server(described.in_rescue(Rescue::rebooting()));
    let error = builder.installed("web-2", scene.installed.clone(), None).open().unwrap_err();
    assert_eq!(error.fact("field"), Some("installed.server"), "{error}");
}
