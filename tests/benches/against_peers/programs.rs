//! The peers' programs, each with its Debian package.

use crate::Outcome;
use std::path::Path;
use std::process::{Command, Stdio};

const PACKAGES: [(&str, &str); 13] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("nbdkit", "nbdkit"),
    ("nbdcopy", "libnbd-bin"),
    ("restic", "restic"),
    ("borg", "borgbackup"),
    ("rsync", "rsync"),
    ("zstd", "zstd"),
    ("socat", "socat"),
    ("certtool", "gnutls-bin"),
    ("sync", "coreutils"),
];

/// Whether a program is in the path.
pub(crate) fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(sbin).any(|dir| dir.join(program).is_file())
}

/// An error that names the packages of what is absent.
pub(crate) fn need(programs: &[&str]) -> Outcome<()> {
    let absent: Vec<&&str> = programs.iter().filter(|program| !is_here(program)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let package =
        |program: &&&str| PACKAGES.iter().find(|(known, _)| *known == **program).map(|(_, package)| *package);
    let mut packages: Vec<&str> = absent.iter().filter_map(package).collect();
    packages.dedup();
    Err(format!("{absent:?} is absent: apt-get install --no-install-recommends {}", packages.join(" "))
        .into())
}

/// Runs a shell script that is not measured.
pub(crate) fn shell(text: &str, vars: &[(&str, &Path)]) -> Outcome<String> {
    let mut command = Command::new("sh");
    command.args(["-euc", &format!("PATH=$PATH:/usr/sbin:/sbin; {text}")]).envs(vars.iter().copied());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{} of: {text}", output.status).into())
}
