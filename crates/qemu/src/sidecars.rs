//! Small files that travel with a machine: UEFI variables, TPM state, and what its description says that no other site
//! understands.

use crate::Site;
use crate::description::{DescribedAgent, Description};
use crate::firmware::VARIABLES;
use crate::home::{Home, Known};
use serde::{Deserialize, Serialize};
use site_recovery::{Error, Result, Sidecar};
use site_recovery_register::{Told, durable};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Most bytes of one.
const MOST: u64 = 1 << 20;
/// Directory of the TPM's state.
pub(crate) const TPM: &str = "tpm";

const UEFI: &str = "uefi-vars";
const OURS: &str = "qemu";

/// What only QEMU knows of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kind {
    pub(crate) machine: String,
    pub(crate) cpu: String,
    pub(crate) tpm: bool,
    pub(crate) agent: Option<DescribedAgent>,
    pub(crate) uuid: Option<String>,
    pub(crate) smbios: BTreeMap<String, String>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            machine: "q35".into(),
            cpu: "max".into(),
            tpm: false,
            agent: None,
            uuid: None,
            smbios: BTreeMap::new(),
        }
    }
}

impl From<&Description> for Kind {
    fn from(d: &Description) -> Self {
        let d = d.clone();
        Self { machine: d.machine, cpu: d.cpu, tpm: d.tpm, agent: d.agent, uuid: d.uuid, smbios: d.smbios }
    }
}

impl Kind {
    /// Of the captured machine; the default where another kind of site captured it.
    pub(crate) fn of(sidecars: &[Sidecar]) -> Self {
        let ours = sidecars.iter().find(|s| s.name == OURS);
        ours.and_then(|s| serde_json::from_slice(&s.bytes).ok()).unwrap_or_default()
    }
}

impl Site {
    /// Those of a machine, as they stand.
    pub(crate) fn sidecars(&self, known: &Known) -> Result<Vec<Sidecar>> {
        let kind = serde_json::to_vec(&Kind::from(&known.description)).expect("plain data");
        let mut all = vec![Sidecar { name: OURS.into(), bytes: kind }];
        let variables = known.home.dir.join(VARIABLES);
        if variables.exists() {
            all.push(read(UEFI.into(), &variables)?);
        }
        for path in durable::list(&known.home.dir.join(TPM))? {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            // The emulator's lock is of its process, not of the machine.
            if path.is_file() && !name.starts_with('.') {
                all.push(read(format!("{TPM}/{name}"), &path)?);
            }
        }
        Ok(all)
    }

    /// Puts them in place for a machine in the making.
    ///
    /// # Errors
    /// `Invalid` for variables that the firmware here could not use.
    pub(crate) fn write_sidecars(&self, home: &Home, d: &Description, sidecars: &[Sidecar]) -> Result<()> {
        for sidecar in sidecars {
            if sidecar.name == UEFI {
                self.variables_fit(d, sidecar.bytes.len() as u64)?;
                durable::write_bytes(&home.dir.join(VARIABLES), &sidecar.bytes)?;
            } else if let Some(file) = sidecar.name.strip_prefix("tpm/")
                && !file.contains('/')
                && !file.starts_with('.')
            {
                durable::write_bytes(&home.dir.join(TPM).join(file), &sidecar.bytes)?;
            }
        }
        Ok(())
    }
}

fn read(name: String, path: &Path) -> Result<Sidecar> {
    let bytes = fs::read(path).told("read", path)?;
    if bytes.len() as u64 > MOST {
        let rule = format!("at most {MOST} bytes");
        return Err(Error::invalid("sidecar", path.display(), &rule, "keep it on a disk"));
    }
    Ok(Sidecar { name, bytes })
}
