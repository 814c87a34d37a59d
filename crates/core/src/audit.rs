//! The audit trail: one record per transition, each bound to the one before.

use crate::{Epoch, Event, MachineId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Who did what, when, why, under which authority, and what was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Position in the unit's trail, from 0.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The operator, or the engine.
    pub who: String,
    /// Why: the operation, and the reason given.
    pub why: String,
    /// Which machine.
    pub machine: MachineId,
    /// What happened.
    pub event: Event,
    /// SHA-256 of the request that it belongs to.
    pub input: String,
    /// Under which authority.
    pub epoch: Epoch,
    /// The hash of the record before; empty for the first.
    pub previous: String,
    /// SHA-256 over all of the above.
    pub hash: String,
}

impl AuditRecord {
    /// Fills in the hash.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.hash = self.digest();
        self
    }

    fn digest(&self) -> String {
        let bare = Self { hash: String::new(), ..self.clone() };
        sha256_hex(&serde_json::to_vec(&bare).unwrap_or_default())
    }
}

/// Reads a trail as it is stored, and checks it over the stored bytes: also what this version would not read, or would
/// write in another way, is under a record's hash.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt), naming the first record that does not fit.
pub fn read(stored: &[Vec<u8>]) -> crate::Result<Vec<AuditRecord>> {
    let (mut trail, mut previous) = (vec![], String::new());
    for (number, bytes) in stored.iter().enumerate() {
        let corrupt =
            |what| crate::Error::new(crate::ErrorKind::Corrupt, format!("audit record {number} {what}"));
        let record: AuditRecord =
            serde_json::from_slice(bytes).map_err(|e| corrupt("cannot be read").caused_by(e))?;
        if record.number != number as u64
            || record.previous != previous
            || !bears_its_hash(bytes, &record.hash)
        {
            return Err(corrupt("was changed, added or removed"));
        }
        previous.clone_from(&record.hash);
        trail.push(record);
    }
    Ok(trail)
}

/// A record was hashed with an empty hash in it, which stands last.
fn bears_its_hash(stored: &[u8], hash: &str) -> bool {
    let end = format!("\"{hash}\"}}");
    stored.strip_suffix(end.as_bytes()).is_some_and(|rest| sha256_hex(&[rest, b"\"\"}"].concat()) == hash)
}
