//! Where the sockets and process files of one machine stand: a short path, since a socket's has a limit.

use crate::home::{Home, plain};
use crate::{OWN, Site};
use site_recovery::{Error, Result};
use site_recovery_register::durable;
use std::path::{Path, PathBuf};

/// Most bytes of a Unix socket's path. Source: unix(7), `sun_path`, without its closing zero.
const MOST_PATH: usize = 107;

/// `.site-recovery/run/<machine>/` of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
}

impl Place {
    /// Process of the machine.
    pub(crate) fn pid(&self) -> PathBuf {
        self.dir.join("pid")
    }
    pub(crate) fn monitor(&self) -> PathBuf {
        self.dir.join("qmp")
    }
    pub(crate) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }
    /// NBD server of the machine's process.
    pub(crate) fn exports(&self) -> PathBuf {
        self.dir.join("nbd")
    }
    pub(crate) fn tpm(&self) -> PathBuf {
        self.dir.join("tpm")
    }
    /// Process that holds the images of a machine that is off.
    pub(crate) fn storage_pid(&self) -> PathBuf {
        self.dir.join("s-pid")
    }
    pub(crate) fn storage_monitor(&self) -> PathBuf {
        self.dir.join("s-qmp")
    }
    pub(crate) fn storage_exports(&self) -> PathBuf {
        self.dir.join("s-nbd")
    }
    /// Our own server of the point that the images stand on.
    pub(crate) fn point(&self) -> PathBuf {
        self.dir.join("point")
    }
    /// One client of a monitor at a time.
    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }
}

impl Site {
    /// The place of a machine. It keeps it when its directory is renamed.
    pub(crate) fn place(&self, home: &Home) -> Result<Place> {
        let named: Option<String> = durable::read(&home.own("place.json"))?;
        Ok(self.place_called(&named.unwrap_or_else(|| short(&home.name))))
    }

    pub(crate) fn place_called(&self, name: &str) -> Place {
        Place { dir: self.root.join(OWN).join("run").join(name) }
    }
}

/// A short name for any text, different for different texts.
pub(crate) fn short(text: &str) -> String {
    let digest = plain(&format!("{text}/"));
    digest[digest.len() - 16..].to_owned()
}

/// # Errors
/// `Invalid` where the sockets of a machine would have paths that are too long.
pub(crate) fn must_be_short(root: &Path) -> Result<()> {
    let longest = root.join(OWN).join("run").join("0".repeat(16)).join("s-nbd");
    if longest.as_os_str().len() <= MOST_PATH {
        return Ok(());
    }
    let most = MOST_PATH - (longest.as_os_str().len() - root.as_os_str().len());
    let rule = format!("at most {most} bytes: the path of a socket has at most {MOST_PATH}");
    Err(Error::invalid("dir", root.display(), &rule, "choose a directory with a shorter path"))
}
