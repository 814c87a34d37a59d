//! A directory for its owner alone, and the records in it.

use crate::fault::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use site_recovery::{Error, ErrorKind};
use site_recovery_register::{Told, durable, refused};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// The directory, made where it is missing. One that others may look into is refused, and left as it is.
pub(super) fn private(dir: &Path) -> Result<()> {
    durable::make_dir(dir)?;
    let mode = fs::metadata(dir).told("look at", dir)?.permissions().mode();
    if mode & 0o077 != 0 {
        let said = format!("{} holds keys and is open to others than its owner: chmod 700 it", dir.display());
        return Err(refused(said).with("mode", format!("{:o}", mode & 0o7777)));
    }
    Ok(())
}

/// A record that may hold a secret: what is wrong with it is told without what is in it.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    durable::read(path).map_err(|e| match e.kind() {
        ErrorKind::Corrupt => Error::new(ErrorKind::Corrupt, e.message()),
        _ => e,
    })
}

pub(super) fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    let text = Zeroizing::new(serde_json::to_vec_pretty(record).expect("records are plain data"));
    durable::write_bytes(path, &text)
}

/// A key as PEM, in a record; wiped when it is dropped.
#[derive(Clone, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Key(pub(super) String);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Of records: a newer one is refused, never read as far as it is understood.
pub(super) const RECORD: u32 = 1;

pub(super) fn known(version: u32, path: &Path) -> Result<()> {
    if version == RECORD {
        return Ok(());
    }
    let said = format!(
        "{} is of version {version}, and this program reads version {RECORD}: use a newer program",
        path.display()
    );
    Err(Error::new(ErrorKind::Unsupported, said))
}
