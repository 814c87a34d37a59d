//! Whose a state directory is.

use crate::durable;
use crate::told::conflict;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result, RoleName};
use std::path::Path;

/// Version of everything that a site keeps in its state directory.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    name: RoleName,
}

/// Whether a state directory is this site's. One that is nobody's yet, or not there, is not.
///
/// # Errors
/// `Conflict` where it is another site's, with this one's name as `asked`; `Unsupported` where a newer version wrote it;
/// `Corrupt`; those of the file system.
pub fn belongs_to(state: &Path, site: &RoleName) -> Result<bool> {
    let path = state.join("site.json");
    let Some(found) = durable::read::<Identity>(&path)? else { return Ok(false) };
    if found.format > FORMAT {
        let message = format!("{} is of format {}, this is {FORMAT}", path.display(), found.format);
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    if found.name != *site {
        let message = format!("{} is of the site {}", state.display(), found.name);
        return Err(conflict(message).with("asked", site));
    }
    Ok(true)
}

/// Opens a state directory for this site alone: what is nobody's yet becomes its own, and is made where it is missing.
///
/// # Errors
/// As [`belongs_to`]; nothing was changed.
pub fn open_state(state: &Path, site: &RoleName) -> Result<()> {
    if belongs_to(state, site)? {
        return Ok(());
    }
    durable::write(&state.join("site.json"), &Identity { format: FORMAT, name: site.clone() })
}
