//! Documents in the container: a line with the checksum of the rest, and the rest, JSON.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_record::checksum;

pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes> {
    let json = serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Unsupported, "it cannot be written as JSON").caused_by(e))?;
    Ok(format!("{:016x}\n{json}", checksum(json.as_bytes())).into())
}

/// # Errors
/// `Corrupt`, saying what is wrong.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("it is damaged: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|_| corrupt("it is no text"))?;
    let (sum, json) = text.split_once('\n').ok_or_else(|| corrupt("it has no checksum"))?;
    if u64::from_str_radix(sum, 16).ok() != Some(checksum(json.as_bytes())) {
        return Err(corrupt("it does not match its checksum"));
    }
    serde_json::from_str(json).map_err(|e| corrupt("it does not parse").caused_by(e))
}
