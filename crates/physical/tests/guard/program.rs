//! The program that the unit runs, on hardware that is made up in a mount name space of its own: another board before the
//! kernel's, and the disks that are really there.

use crate::elsewhere::{enrolled, hardware};
use site_recovery_physical::inventory::Inventory;
use std::path::Path;
use std::process::{Command, Output};

fn settings(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("agent.toml");
    let text = format!(
        "[service]\nstate = \"{}\"\nlisten = \"127.0.0.1:0\"\naddress = \"web-1:1\"\n\n\
         [server]\nsite = \"hall-1\"\nname = \"web-1\"\n\n[guard]\nwitnesses = [\"points\"]\nnetwork = \"standing\"\n",
        dir.join("state").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Asks once, where the board says that.
fn guard(config: &Path, board: &str) -> (bool, String) {
    let script = "mount -t tmpfs none /sys/class && mkdir -p /sys/class/dmi/id && \
                  echo \"$BOARD\" > /sys/class/dmi/id/product_uuid && exec \"$AGENT\" --config \"$CONFIG\" guard --once";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command.env("BOARD", board).env("CONFIG", config).env("AGENT", env!("CARGO_BIN_EXE_site-recovery-agent"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.success(), said)
}

#[tokio::test]
async fn s2_the_program_lets_a_recovered_machine_take_part_and_keeps_all_others_off() {
    // Without a disk of the hardware nothing is proven, anywhere.
    let disks = Inventory::of("/").disks().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (config, agent) = (settings(dir.path()), dir.path().join("state/agent"));
    let log = || std::fs::read_to_string(dir.path().join("state/guard/guard.log")).unwrap_or_default();
    let (ran, said) = guard(&config, "4c4c4544-0001");
    assert!(ran && said.contains("not enrolled"), "{said}");

    enrolled(&agent, &hardware(Some("4C4C4544-0001"), &["naa.1"])).await;
    let (ran, said) = guard(&config, "4c4c4544-0001");
    assert!(!ran && said.contains("stays off the network"), "{said}");
    assert!(log().contains("no answer that counts") && !log().contains("other_hardware"), "{}", log());

    let (ran, said) = guard(&config, "4c4c4544-0002");
    if disks.is_empty() {
        assert!(!ran && said.contains("stays off the network"), "{said}");
        let required = std::env::var("SITE_RECOVERY_PEERS").as_deref() == Ok("required");
        assert!(!required, "a disk that is hardware is required");
        println!("SKIPPED a board that is another one: this machine has no disk that is hardware");
        return;
    }
    assert!(ran && said.contains("takes part: nobody is asked"), "{said}");
    let last = log().lines().last().unwrap().to_owned();
    assert!(last.contains("other_hardware") && last.contains("4c4c4544-0002"), "{last}");
}
