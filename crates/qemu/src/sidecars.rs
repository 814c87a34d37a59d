//! Small files that travel with a machine: UEFI variables, TPM state, and what its description says that no other site
//! understands.

use crate::Site;
use crate::description::{DescribedAgent, Description};
use crate::firmware::VARIABLES;
use crate::home::Home;
use crate::known::Known;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result, Sidecar};
use site_recovery_register::{Told, durable};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Most bytes of one.
const MOST: u64 = 1 << 20;
/// Directory of the TPM's state.
pub(crate) const TPM: &str = "tpm";
/// How often they are read until two readings are the same. A machine that boots writes for seconds, in between.
const READINGS: usize = 100;

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
    /// Those of a machine, as they stood at one moment: firmware and TPM may write while they are read.
    ///
    /// # Errors
    /// `Busy` when they change all the time.
    pub(crate) fn sidecars(&self, known: &Known) -> Result<Vec<Sidecar>> {
        let kind = serde_json::to_vec(&Kind::from(&known.description)).expect("plain data");
        let mut all = vec![Sidecar { name: OURS.into(), bytes: kind }];
        all.extend(at_rest(|| kept(&known.home.dir))?);
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

/// What is the same in two readings, one after the other.
fn at_rest<T: PartialEq>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let mut before = read()?;
    for _ in 0..READINGS {
        let now = read()?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(Error::new(ErrorKind::Busy, "firmware or TPM of the machine write all the time: ask again"))
}

/// What firmware and TPM keep in a machine's directory.
fn kept(dir: &Path) -> Result<Vec<Sidecar>> {
    let mut all = vec![];
    all.extend(read(UEFI.into(), &dir.join(VARIABLES))?);
    for path in durable::list(&dir.join(TPM))? {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        // Neither the emulator's lock, which is of its process, nor what it has not put in place yet.
        if path.is_file() && !name.starts_with('.') && !name.starts_with("TMP") {
            all.extend(read(format!("{TPM}/{name}"), &path)?);
        }
    }
    Ok(all)
}

/// Nothing where there is none.
fn read(name: String, path: &Path) -> Result<Option<Sidecar>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.told("read", path)?,
    };
    if bytes.len() as u64 > MOST {
        let rule = format!("at most {MOST} bytes");
        return Err(Error::invalid("sidecar", path.display(), &rule, "keep it on a disk"));
    }
    Ok(Some(Sidecar { name, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    /// A firmware that writes one end of its file and then the other, and an emulator that puts another state in place of
    /// the one before, both while they are read.
    #[test]
    fn what_is_written_meanwhile_is_of_one_moment() {
        const LEN: usize = 512 << 10;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(TPM)).unwrap();
        fs::write(dir.path().join(VARIABLES), vec![0; LEN]).unwrap();
        let (readings, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let write = || {
            let file = File::options().write(true).open(dir.path().join(VARIABLES)).unwrap();
            let (new, state) =
                (dir.path().join("tpm/TMP2-00.permall"), dir.path().join("tpm/tpm2-00.permall"));
            for round in (1..=255).cycle() {
                for at in [0, LEN - 1] {
                    file.write_all_at(&[round], at as u64).unwrap();
                }
                fs::write(&new, [round]).unwrap();
                fs::rename(&new, &state).unwrap();
                // The next one as soon as another reading has begun; not in each of them.
                let next = readings.load(SeqCst) + 3;
                while readings.load(SeqCst) < next {
                    if stop.load(SeqCst) {
                        return;
                    }
                    std::thread::yield_now();
                }
            }
        };
        let (mut moved, mut torn) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(write);
            for _ in 0..5_000 {
                let from = readings.load(SeqCst);
                let mut ends = vec![];
                let all = at_rest(|| {
                    readings.fetch_add(1, SeqCst);
                    let all = kept(dir.path())?;
                    ends.push((all[0].bytes[0], all[0].bytes[LEN - 1]));
                    Ok(all)
                });
                let all = all.unwrap();
                assert!(are_of_one_moment((all[0].bytes[0], all[0].bytes[LEN - 1])));
                assert!(all.iter().all(|s| !s.name.contains("TMP")));
                torn += ends.iter().filter(|ends| !are_of_one_moment(**ends)).count();
                moved += u32::from(readings.load(SeqCst) - from > 2);
            }
            stop.store(true, SeqCst);
        });
        println!("{moved} times it was written meanwhile; {torn} readings were of no moment");
        assert!(moved > 0);
    }

    /// The first is written before the last.
    fn are_of_one_moment((first, last): (u8, u8)) -> bool {
        let before = if first == 1 { [0, 255] } else { [first.wrapping_sub(1); 2] };
        first == last || before.contains(&last)
    }
}
