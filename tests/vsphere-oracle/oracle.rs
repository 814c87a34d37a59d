//! What stands at a site by VMware's own client, for tests that must not take our client's word. See `README.md` beside this
//! file for the document.
#![allow(dead_code, reason = "each client uses a part")]

use serde_json::Value;
use site_recovery_https::{SecretRef, Settings, Trust};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PYTHON: &str = "target/tools/pyvmomi/bin/python";
const SCRIPT: &str = "tests/vsphere-oracle/oracle.py";

/// Where Python stands that has pyVmomi, and the script. Says so where it does not, and fails where it has to.
fn program() -> Option<(PathBuf, PathBuf)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root =
        package.ancestors().find(|dir| dir.join(SCRIPT).is_file()).expect("the package is in the workspace");
    let python = root.join(PYTHON);
    if !python.is_file() {
        let package = env!("CARGO_PKG_NAME");
        println!(
            "SKIPPED what {package} did, by VMware's own client: pyVmomi is absent; tests/run --setup installs it"
        );
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "pyVmomi is required");
        return None;
    }
    Some((python, root.join(SCRIPT)))
}

/// What stands there: of all machines, or of those of one name. Nothing where VMware's client is absent, which is said. The
/// server has to be pinned, and its password in a file. Waits for it, in this thread.
pub(crate) fn ask(settings: &Settings, machine: Option<&str>) -> Option<Value> {
    let (python, script) = program()?;
    let (Trust::Sha256(pin), SecretRef::File(password)) = (&settings.trust, &settings.password) else {
        panic!("the oracle takes a pin, and a file with the password: {settings:?}");
    };
    // Whatever the environment says of Python or of proxies is not meant.
    let out = Command::new(python)
        .arg("-I")
        .arg(script)
        .args(["--url", &settings.url, "--user", &settings.user, "--sha256", pin, "--password-file"])
        .arg(password)
        // A name may begin with a dash.
        .arg("--")
        .args(machine)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert!(out.status.success(), "the oracle says: {}", String::from_utf8_lossy(&out.stderr));
    Some(serde_json::from_slice(&out.stdout).expect("it tells in JSON"))
}

/// The one machine of this name. Nothing where VMware's client is absent; no machine, or two, is a failure.
pub(crate) fn machine(settings: &Settings, name: &str) -> Option<Value> {
    let mut told = ask(settings, Some(name))?;
    let found = told["machines"].as_array_mut().expect("it lists machines");
    assert!(found.len() == 1, "{} machines are named {name:?}", found.len());
    let machine = found.remove(0);
    assert!(machine["missing"].as_object().is_some_and(serde_json::Map::is_empty), "{machine}");
    Some(machine)
}
