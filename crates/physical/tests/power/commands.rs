use site_recovery::ErrorKind;
use site_recovery_physical::power::{Command, Commands, Keeps, PowerControl, PowerState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

fn shell(script: &str) -> Command {
    Command { run: vec!["/bin/sh".into(), "-c".into(), script.into()], seconds: 20 }
}

/// A server that is a file: it is there while the server is on.
fn server(dir: &Path) -> Commands {
    let d = dir.display();
    Commands {
        off: shell(&format!("echo $SITE_RECOVERY_SERVER $SITE_RECOVERY_GRACE >> {d}/asked; rm -f {d}/on")),
        is_off: shell(&format!("test ! -e {d}/broken || exit 7; test ! -e {d}/on")),
        on: Some(shell(&format!("touch {d}/on"))),
        hold: None,
        release: None,
        is_held: None,
    }
}

fn control(commands: Commands) -> Arc<dyn PowerControl> {
    commands.control("web-1").unwrap()
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn src10_what_a_program_says_is_yes_no_or_unknown() {
    let dir = dir();
    std::fs::write(dir.path().join("on"), "").unwrap();
    let power = control(server(dir.path()));
    assert_eq!(power.state().await.unwrap(), PowerState::On);
    assert!(power.off(Duration::from_secs(9)).await.unwrap());
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
    power.on().await.unwrap();
    power.force_off().await.unwrap();
    assert!(!dir.path().join("on").exists());
    assert_eq!(std::fs::read_to_string(dir.path().join("asked")).unwrap(), "web-1 9\nweb-1 0\n");
    std::fs::write(dir.path().join("broken"), "").unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::Unknown);
    for silent in [
        Command { run: vec!["/no/such/program".into()], seconds: 1 },
        Command { run: vec!["/bin/sh".into(), "-c".into(), "kill -9 $$".into()], seconds: 1 },
        Command { run: vec!["/bin/sleep".into(), "1000".into()], seconds: 1 },
    ] {
        let power = control(Commands { is_off: silent.clone(), ..server(dir.path()) });
        assert_eq!(power.state().await.unwrap(), PowerState::Unknown, "{silent:?}");
    }
}

#[tokio::test]
async fn a_program_that_fails_is_told_with_what_it_said() {
    let dir = dir();
    let off = shell("yes | head -c 1000000 >&2; echo the end >&2; exit 3");
    let power = control(Commands { off, ..server(dir.path()) });
    let error = power.force_off().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("ended with 3") && error.fact("said").unwrap().len() < 5000, "{error}");
    // What it left running holds up nobody.
    let power = control(Commands { off: shell("sleep 1000 & echo $! >&2; exit 4"), ..server(dir.path()) });
    let error = power.force_off().await.unwrap_err();
    assert!(error.message().contains("ended with 4"), "{error}");
    let left = error.fact("said").unwrap().trim().to_owned();
    assert!(
        std::process::Command::new("kill").arg(&left).status().unwrap().success(),
        "{left} was left running"
    );
}

#[tokio::test]
async fn a_program_runs_without_a_shell() {
    let dir = dir();
    let is_off = Command {
        run: vec!["/usr/bin/test".into(), "$HOME; exit 0".into(), "=".into(), "$HOME; exit 0".into()],
        seconds: 5,
    };
    let power = control(Commands { is_off, ..server(dir.path()) });
    assert_eq!(power.state().await.unwrap(), PowerState::Off, "the text is what it was");
}

#[tokio::test]
async fn s2_storage_that_is_made_read_only_holds() {
    let dir = dir();
    let d = dir.path().display();
    let commands = Commands {
        hold: Some(shell(&format!("touch {d}/read-only"))),
        release: Some(shell(&format!("rm {d}/read-only"))),
        is_held: Some(shell(&format!("test -e {d}/read-only"))),
        ..server(dir.path())
    };
    let power = control(commands.clone());
    assert_eq!(power.keeps(), Keeps { holds: true, tells: false });
    assert_eq!(power.held().await.unwrap(), Some(false));
    power.hold(true).await.unwrap();
    assert_eq!(power.held().await.unwrap(), Some(true));
    power.hold(false).await.unwrap();
    assert_eq!(power.held().await.unwrap(), Some(false));
    assert_eq!(control(server(dir.path())).keeps(), Keeps::default());

    let part = Commands { is_held: None, ..commands };
    assert_eq!(part.control("web-1").unwrap_err().fact("field"), Some("power.hold"));
    let relative = Command { run: vec!["ipmitool".into()], seconds: 5 };
    let error = Commands { off: relative, ..server(dir.path()) }.control("web-1").unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("power.off")));
}

#[tokio::test]
async fn a_grace_without_an_end_is_waited_for() {
    let dir = dir();
    std::fs::write(dir.path().join("on"), "").unwrap();
    assert!(control(server(dir.path())).off(Duration::MAX).await.unwrap());
    assert!(!dir.path().join("on").exists());
}
