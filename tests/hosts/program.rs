//! Programs of this workspace, as tests start them.

use super::{tool, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Seconds of a build from nothing, on a machine with other work.
const LONGEST: &str = "1800";

/// A program, and the package that it is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binary {
    pub package: &'static str,
    pub name: &'static str,
}

/// Where these programs are, built as this one is: by its cargo, in its profile, below its target directory. Cargo itself
/// lets one process build at a time, and a process asks it once for each program.
pub fn build(binaries: &[Binary]) -> Vec<PathBuf> {
    static BUILT: Mutex<BTreeMap<Binary, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let missing: Vec<Binary> = binaries.iter().filter(|each| !built.contains_key(each)).copied().collect();
    if !missing.is_empty() {
        built.extend(build_now(&missing));
    }
    let path = |binary| built.get(binary).unwrap_or_else(|| panic!("cargo built no {}", binary.name)).clone();
    binaries.iter().map(path).collect()
}

fn build_now(binaries: &[Binary]) -> Vec<(Binary, PathBuf)> {
    let place = Place::of(&std::env::current_exe().unwrap());
    let mut command = Command::new("timeout");
    command.arg(LONGEST).arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, with all features and, because of an example, development's dependencies: as the test command
    // builds examples, so that nothing is built once more with other features.
    command.args(["build", "--locked", "--workspace", "--all-features", "--example", "drill"]);
    command.args(binaries.iter().flat_map(|binary| ["--bin", binary.name]));
    command.args(["--message-format", "json-render-diagnostics", "--profile", &place.profile]);
    command.arg("--target-dir").arg(&place.target);
    if let Some(triple) = &place.triple {
        command.args(["--target", triple]);
    }
    // What cargo said of this program would be news to build scripts.
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if told.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("PATH", tool::path()).current_dir(workspace()).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let artefacts: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let path = |binary: Binary| {
        let made = artefacts.iter().find(|each| {
            each["target"]["name"] == binary.name
                && each["target"]["kind"][0] == "bin"
                && is_of(each, binary.package)
        });
        Some((binary, PathBuf::from(made?["executable"].as_str()?)))
    };
    binaries.iter().filter_map(|binary| path(*binary)).collect()
}

/// An id is `path+file:///…/crates/qmp#site-recovery-qmp@0.1.0`, or without the name where the directory has the same.
fn is_of(artefact: &Value, package: &str) -> bool {
    let id = artefact["package_id"].as_str().unwrap_or_default();
    let name = id.rsplit('#').next().and_then(|tail| tail.rsplit_once('@')).map(|(name, _)| name);
    name.or_else(|| id.split('#').next()?.rsplit('/').next()) == Some(package)
}

/// Where cargo put a program of this workspace, and how it was made.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    target: PathBuf,
    triple: Option<String>,
    profile: String,
}

impl Place {
    /// `target[/triple]/profile/{deps,examples}/program`.
    fn of(program: &Path) -> Self {
        let mut parts = program.ancestors().skip(2);
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let profile = match name(parts.next().unwrap_or(Path::new(""))).as_str() {
            "debug" => "dev".into(),
            other => other.to_owned(),
        };
        let above: Vec<&Path> = parts.take(2).collect();
        // Cargo marks the target directory.
        let is_target = |dir: &Path| dir.join("CACHEDIR.TAG").exists();
        match above.as_slice() {
            [triple, target] if !is_target(triple) && is_target(target) => {
                Self { target: target.to_path_buf(), triple: Some(name(triple)), profile }
            }
            [target, ..] => Self { target: target.to_path_buf(), triple: None, profile },
            [] => panic!("{} lies nowhere", program.display()),
        }
    }
}
