//! What fails midway, or is killed.

use crate::scene::*;
use site_recovery::*;
use site_recovery_physical::bare::{Installed, Shown};
use site_recovery_physical::power::Command as Program;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

#[tokio::test]
async fn d1_what_failed_midway_is_told_again_by_the_same_key() {
    let Some(_alone) = turn().await else { return };
    let mut scene = Scene::new(with_agent);
    let log = scene.path("log");
    let noted = |word: &str| Program {
        run: vec![
            "/bin/sh".into(),
            "-c".into(),
            format!("echo {word} $SITE_RECOVERY_SERVER >> {}", log.display()),
        ],
        seconds: 10,
    };
    scene.installed.activate = Some(noted("activate"));
    scene.installed.deactivate = Some(noted("deactivate"));
    let shown: Arc<dyn Shown> = Arc::new(Certificate { fails: true.into() });
    let error = scene.start(Some(Arc::clone(&shown))).await;
    // Not as if it had been left: nobody waits for a system that was never started.
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Refused, true), "{error}");
    assert!(
        error.to_string().contains("the disk did not answer") && !error.to_string().contains(SECRET),
        "{error}"
    );
    assert_eq!((scene.left(), scene.is_free()), (0, true));
    assert_eq!(fs::read_to_string(&log).unwrap(), "activate web-1\ndeactivate web-1\n");
    let error = scene.start(Some(Arc::clone(&shown))).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
    // In the same life of the rescue system it is left again, and told again.
    let once = tree(&scene.look().0);
    let error = scene.start(Some(shown)).await;
    assert!(has_left(&error), "{error}");
    assert_eq!((tree(&scene.look().0), scene.left()), (once, 2));

    // What cannot be activated, or not be undone, is told, and the system does not start.
    let failing = Program { run: vec!["/bin/false".into()], seconds: 10 };
    fs::write(&log, "").unwrap();
    let works = scene.installed.activate.replace(failing.clone());
    let error = scene.start(certificate()).await;
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("not activated"), "{error}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "deactivate web-1\n", "what was begun is undone");
    scene.installed.activate = works;
    scene.installed.deactivate = Some(failing);
    let error = scene.start(certificate()).await;
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("not deactivated"), "{error}");
    assert_eq!((scene.left(), scene.is_free()), (2, true));
}

/// Says that it is asked, and never returns: the process is killed in there.
#[derive(Debug)]
struct Hangs;

impl Shown for Hangs {
    fn put(&self, _: &Path) -> Result<()> {
        println!("mounted now");
        loop {
            std::thread::park();
        }
    }
}

#[tokio::test]
async fn d1_a_process_that_is_killed_while_it_tells_leaves_no_mount() {
    let Some(_alone) = turn().await else { return };
    let scene = Scene::new(with_agent);
    landed(&scene.site(None)).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["told::tells_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env("BARE_DIR", scene.dir.path())
        .env("BARE_DEVICE", &scene.disk.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines.any(|line| line.unwrap().ends_with("mounted now"));
    let (free, mounts) = (scene.is_free(), fs::read_to_string("/proc/self/mountinfo").unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told && !free, "it was killed while the file system was mounted");
    assert!(!mounts.contains(scene.disk.path.to_str().unwrap()), "and nobody saw the mount: {mounts}");
    assert!(scene.is_free());
    let error = scene.start(certificate()).await;
    assert!(has_left(&error), "{error}");
    is_told(&scene.look().0);
}

/// Not a test of its own: the process that the test above kills.
#[tokio::test]
#[ignore = "is run, and killed, by another test"]
async fn tells_until_it_is_killed() {
    let told = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let (dir, device) = (told("BARE_DIR"), told("BARE_DEVICE"));
    let hangs: Arc<dyn Shown> = Arc::new(Hangs);
    start(&site(&dir, &device, Some(Installed::on(&device)), Some(hangs))).await;
}
