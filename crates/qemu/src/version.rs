//! How old QEMU may be.

use crate::Programs;
use crate::program::run;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_qmp::Version;
use std::fmt;
use std::time::Duration;

/// The oldest whose copy-before-write filter breaks the capture instead of the guest. Source: QEMU QMP reference,
/// `BlockdevOptionsCbw`, `on-cbw-error`.
const OLDEST: Version = Version { major: 7, minor: 1, micro: 0 };

/// How long a program may take to say its version.
const LIMIT: Duration = Duration::from_secs(30);

impl Programs {
    /// # Errors
    /// `Unsupported`, naming the program that is too old or is none of QEMU's.
    pub(crate) fn must_be_new_enough(&self) -> Result<()> {
        [&self.system, &self.img, &self.storage_daemon].into_iter().try_for_each(|program| {
            let said = run(program, ["--version"], LIMIT)?;
            let said = String::from_utf8_lossy(&said);
            let version = version(&said).ok_or_else(|| {
                let line: String = said.lines().next().unwrap_or_default().chars().take(80).collect();
                let message = format!("{} does not say a version of QEMU, but {line:?}", program.display());
                Error::new(ErrorKind::Unsupported, message)
            })?;
            must_be_new_enough(program.display(), version)
        })
    }
}

/// # Errors
/// `Unsupported`.
pub(crate) fn must_be_new_enough(program: impl fmt::Display, version: Version) -> Result<()> {
    if version >= OLDEST {
        return Ok(());
    }
    let message = format!(
        "{program} is QEMU {version}, and {}.{} is the oldest that serves: with an older one a capture that fails \
         takes the guest with it; install a newer one, and stop and start the machines that run in the old one",
        OLDEST.major, OLDEST.minor
    );
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// Of `qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)`.
fn version(said: &str) -> Option<Version> {
    let (_, rest) = said.lines().next()?.split_once("version ")?;
    let number = |c: char| !c.is_ascii_digit();
    let mut parts = rest.split(|c: char| c != '.' && number(c)).next()?.split('.').map(str::parse);
    let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
    Some(Version { major, minor, micro: parts.next().and_then(|p| p.ok()).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_the_programs_say_it() {
        let of = |text| version(text).map(|v| v.to_string());
        assert_eq!(of("qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some("10.0.2".into()));
        assert_eq!(of("QEMU emulator version 7.1.0"), Some("7.1.0".into()));
        assert_eq!(of("qemu-storage-daemon version 7.2.22 (Debian)"), Some("7.2.22".into()));
        assert_eq!(of("QEMU emulator version 11.0"), Some("11.0.0".into()));
        assert_eq!(of("QEMU emulator version 9.2.50-dirty"), Some("9.2.50".into()));
        assert_eq!(of("busybox"), None);
        assert_eq!(of("version latest"), None);
        assert_eq!(of(""), None);
    }
}
