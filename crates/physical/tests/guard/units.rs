use std::path::PathBuf;
use std::process::Command;

fn unit(name: &str) -> String {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("systemd");
    std::fs::read_to_string(here.join(name)).unwrap()
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

/// The units as they stand in the repository, with a program that is there in the place of the agent.
#[test]
fn the_units_are_ones_that_systemd_takes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["site-recovery-guard.service", "site-recovery-guard-console.service"] {
        let text = unit(name).replace("/usr/bin/site-recovery-agent", "/bin/true");
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let mut command = Command::new("systemd-analyze");
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display())).arg("--man=no").arg("verify");
    let Ok(ran) = command.arg(dir.path().join("site-recovery-guard.service")).output() else {
        println!("SKIPPED the units of the boot guard: systemd-analyze is absent");
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
    let guard = unit("site-recovery-guard.service");
    assert!(guard.lines().any(|l| l.starts_with("Before=network-pre.target")));
    assert!(has(&guard, "TimeoutStartSec=infinity"), "it is never given up");
    let beside = unit("10-site-recovery-guard.conf");
    assert!(
        has(&beside, "Requires=site-recovery-guard.service")
            && has(&beside, "After=site-recovery-guard.service")
    );
}

/// What a person at the console depends on.
#[test]
fn a_server_that_is_kept_off_says_why_on_its_console_and_lets_people_log_in() {
    let guard = unit("site-recovery-guard.service");
    for line in [
        "StandardOutput=journal+console",
        "StandardError=journal+console",
        "RefuseManualStop=yes",
        "ReadWritePaths=-/var/lib/site-recovery /run",
    ] {
        assert!(has(&guard, line), "{line}");
    }
    let console = "site-recovery-guard-console.service";
    assert!(guard.lines().any(|l| l.starts_with("Wants=") && l.contains(console)));
    let console = unit(console);
    // It waits for nothing that waits for the guard, nor does anything wait for it.
    assert!(has(&console, "DefaultDependencies=no") && has(&console, "Before=shutdown.target"));
    let after: Vec<&str> = console.lines().filter(|l| l.starts_with("After=")).collect();
    assert_eq!(after, ["After=local-fs.target systemd-udev-settle.service systemd-tmpfiles-setup.service"]);
    assert!(console.contains("--job-mode=ignore-dependencies start systemd-user-sessions.service"));
}
