//! The first settings: commented, and right as they are.

use site_recovery::{Error, ErrorKind, Result};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Settings of two directories as sites.
pub(crate) const SETTINGS: &str = include_str!("init.toml");

/// Directories that the settings name. The state is its owner's alone.
const DIRECTORIES: [(&str, u32); 6] =
    [("state", 0o700), ("state/reports", 0o700), ("here", 0o755), ("cloud", 0o755), ("points", 0o700), ("retention", 0o700)];

/// Writes `site-recovery.toml` into a directory, and makes what it names.
///
/// # Errors
/// `Conflict` where such a file is there already, and then it stays as it is; `Denied`, `Unavailable`.
pub(crate) fn init(dir: &Path) -> Result<String> {
    let file = dir.join("site-recovery.toml");
    let failed = |what: &Path| {
        let message = format!("{} cannot be made", what.display());
        move |e: std::io::Error| {
            let kind = match e.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
                std::io::ErrorKind::StorageFull => ErrorKind::OutOfSpace,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, message).caused_by(e)
        }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut written = OpenOptions::new().write(true).create_new(true).open(&file).map_err(failed(&file))?;
    written.write_all(SETTINGS.as_bytes()).and_then(|()| written.sync_all()).map_err(failed(&file))?;
    for (name, mode) in DIRECTORIES {
        let path = dir.join(name);
        DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(failed(&path))?;
    }
    Ok(format!("{} is written; look through it, then `site-recovery protect NAME`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse;

    #[test]
    fn the_first_settings_are_right_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        let file = dir.path().join("site-recovery.toml");
        let settings = parse(&file, &std::fs::read_to_string(&file).unwrap()).unwrap();
        for leg in settings.legs.values().filter_map(|leg| leg.get_ref().retention.as_ref()) {
            assert!(leg.is_dir(), "{}", leg.display());
        }
        assert!(settings.vault.state.is_dir() && settings.reports().is_dir());
        std::fs::write(&file, "mine").unwrap();
        assert_eq!(init(dir.path()).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
