use std::path::PathBuf;
use std::process::Command;

/// The unit as it stands in the repository, with a program that is there in the place of the agent.
#[test]
fn the_unit_is_one_that_systemd_takes() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let text = std::fs::read_to_string(here.join("site-recovery-guard.service")).unwrap();
    let text = text.replace("/usr/bin/site-recovery-agent", "/bin/true");
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("site-recovery-guard.service");
    std::fs::write(&unit, text).unwrap();
    let ran = Command::new("systemd-analyze").arg("--man=no").arg("verify").arg(&unit).output();
    let Ok(ran) = ran else {
        println!("SKIPPED the unit of the boot guard: systemd-analyze is absent");
        assert!(
            std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"),
            "systemd-analyze is required"
        );
        return;
    };
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    // It looks at what it finds of the machine's own units, too.
    let ours: Vec<_> = said.lines().filter(|l| l.contains("site-recovery")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn whatever_sets_up_the_network_requires_the_guard() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let unit = std::fs::read_to_string(here.join("site-recovery-guard.service")).unwrap();
    let has = |text: &str, line: &str| text.lines().any(|l| l == line);
    assert!(unit.lines().any(|l| l.starts_with("Before=network-pre.target")));
    assert!(has(&unit, "TimeoutStartSec=infinity"), "it is never given up");
    let beside = std::fs::read_to_string(here.join("10-site-recovery-guard.conf")).unwrap();
    assert!(
        has(&beside, "Requires=site-recovery-guard.service")
            && has(&beside, "After=site-recovery-guard.service")
    );
}
