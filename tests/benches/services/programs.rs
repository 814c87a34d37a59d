//! Programs: those of the peers, and ours, which are built as this one is.

use crate::Outcome;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGES: [(&str, &str); 8] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("nbdkit", "nbdkit"),
    ("nbdcopy", "libnbd-bin"),
    ("zstd", "zstd"),
    ("socat", "socat"),
    ("sync", "coreutils"),
    ("fio", "fio"),
];

/// An error that names the packages of what is absent.
pub(crate) fn need(programs: &[&str]) -> Outcome<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let absent: Vec<&&str> =
        programs.iter().filter(|p| !dirs.iter().any(|dir| dir.join(p).is_file())).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let package =
        |program: &&&str| PACKAGES.iter().find(|(known, _)| *known == **program).map(|(_, name)| *name);
    let packages: Vec<&str> = absent.iter().filter_map(package).collect();
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

/// Builds the agent and the process server in this program's profile and below its target directory, and nothing else.
pub(crate) fn ours() -> Outcome<[PathBuf; 2]> {
    const NAMES: [&str; 2] = ["site-recovery-agent", "site-recovery-process-server"];
    let this = std::env::current_exe()?;
    let profile = this.parent().and_then(Path::parent).ok_or("this program lies nowhere")?;
    let target = profile.parent().ok_or("this program lies nowhere")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--locked", "--profile", "bench", "--target-dir"]).arg(target);
    // With this one, so that all are built with the same features.
    command.args(["-p", "site-recovery-tests", "--bench", "services"]);
    for (package, name, feature) in [("physical", NAMES[0], "agent"), ("process-server", NAMES[1], "service")]
    {
        command.args(["-p", &format!("site-recovery-{package}"), "--bin", name]);
        command.args(["--features", &format!("site-recovery-{package}/{feature}")]);
    }
    for (name, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if told.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok(NAMES.map(|name| profile.join(name)))
}
