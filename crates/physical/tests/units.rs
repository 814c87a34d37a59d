//! The units of agent and rescue system, as they stand in the repository.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DROP_IN: &str = "site-recovery-agent.service.d/device-mapper.conf";

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn unit(name: &str) -> String {
    fs::read_to_string(here().join("systemd").join(name)).unwrap()
}

/// The values that a unit has for a key, each word by itself.
fn values(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(|line| line.split_whitespace().map(str::to_owned)).collect()
}

/// What systemd has to say of one, with a program that is there in the place of the agent; `None`: there is no systemd.
fn told(dir: &Path, name: &str, text: &str) -> Option<Vec<String>> {
    fs::write(dir.join(name), text.replace("/usr/bin/site-recovery-agent", "/bin/true")).unwrap();
    let path = format!("{}:", dir.display());
    let mut verify = Command::new("systemd-analyze");
    verify.args(["--man=no", "verify"]).arg(dir.join(name)).env("SYSTEMD_UNIT_PATH", path);
    let Ok(ran) = verify.output() else {
        println!("SKIPPED {name}: systemd-analyze is absent");
        assert!(
            std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"),
            "systemd-analyze is required"
        );
        return None;
    };
    // It looks at what it finds of the machine's own units, too.
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    Some(said.lines().filter(|line| line.contains("site-recovery")).map(str::to_owned).collect())
}

#[test]
fn all_units_are_such_that_systemd_takes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("site-recovery-agent.service.d")).unwrap();
    fs::write(dir.path().join(DROP_IN), unit(DROP_IN)).unwrap();
    for name in [
        "site-recovery-agent.service",
        "site-recovery-rescue.service",
        "site-recovery-rescue-join.service",
        "site-recovery-rescue-join.path",
    ] {
        let Some(said) = told(dir.path(), name, &unit(name)) else { return };
        assert!(said.is_empty(), "{name}: {said:?}");
    }
    // It would say so.
    let wrong = unit("site-recovery-agent.service").replace("DevicePolicy=closed", "DevicePolicy=shut");
    assert!(!told(dir.path(), "site-recovery-agent.service", &wrong).unwrap().is_empty());
    fs::write(dir.path().join(DROP_IN), "[Service]\nDeviceAllowed=block-* rw\n").unwrap();
    let said = told(dir.path(), "site-recovery-agent.service", &unit("site-recovery-agent.service")).unwrap();
    assert!(said.iter().any(|line| line.contains("DeviceAllowed")), "the drop-in is read: {said:?}");
}

#[test]
fn the_drop_in_lets_the_agent_use_device_mapper_and_scratch_space_and_no_other_disk() {
    assert_eq!(values(&unit("site-recovery-agent.service"), "DeviceAllow"), ["block-*", "r"]);
    let allowed = values(&unit(DROP_IN), "DeviceAllow");
    let page = fs::read_to_string(here().join("../../docs/physical.md")).unwrap();
    let scratch = page.lines().find_map(|line| line.strip_prefix("scratch = \"")?.split('"').next()).unwrap();
    assert_eq!(allowed, ["/dev/mapper/control", "rw", "block-device-mapper", "rw", scratch, "rw"]);
}

#[test]
fn the_rescue_system_keeps_what_its_sample_says_where_its_units_look() {
    let sample = fs::read_to_string(here().join("etc/agent-in-rescue.toml")).unwrap();
    let state = sample.lines().find_map(|line| line.strip_prefix("state = \"")?.split('"').next()).unwrap();
    let token = "/run/site-recovery-token";
    for name in ["site-recovery-rescue.service", "site-recovery-rescue-join.service"] {
        let text = unit(name);
        assert_eq!(values(&text, "RequiresMountsFor"), [state], "{name}");
        assert_eq!(values(&text, "AssertPathIsMountPoint"), [state], "{name}");
        let run = values(&text, "ExecStart");
        assert_eq!(run[1..4], ["--config", "/etc/site-recovery/agent-in-rescue.toml", "--receive"], "{name}");
    }
    let run = unit("site-recovery-rescue.service");
    assert_eq!(values(&run, "DeviceAllow"), ["block-*", "rw", "/dev/mapper/control", "rw"]);
    assert!(values(&run, "ReadWritePaths").contains(&format!("-{state}")));
    let join = values(&unit("site-recovery-rescue-join.service"), "ExecStart");
    assert_eq!(join[4..], ["join", "--token-file", token]);
    assert_eq!(values(&unit("site-recovery-rescue-join.path"), "PathExists"), [token]);
}
