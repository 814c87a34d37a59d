//! A disk of a snapshot by VMware's VDDK, behind `nbdkit`: any run of a running machine's disk, over port 902 of its host.
//!
//! VDDK is VMware's, may not be passed on, and could not be had: `nbdkit` was run with its own plugins and with a stand-in for
//! `vddk`, which show how it is started, told the password, listened to, read and ended. That VDDK takes these arguments is known
//! from the documentation of `nbdkit-vddk-plugin` and from what other programs give it, and was never tried.

use super::nbdkit::Nbdkit;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Clock, Disk, Error, ErrorKind, Extent, Pool, Result, Run, SystemClock};
use site_recovery_nbd::{Address, RemoteDisk};
use site_recovery_register::{Told, blocking};
use site_recovery_vim::{DatastorePath, Login, Moref, Vim};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Between two looks whether it is ready.
const LOOK: Duration = Duration::from_millis(10);
/// How often is looked for the words of what has failed; they come by another way than the failure.
const LOOKS: usize = 50;

/// Where the user has VMware's VDDK, behind `nbdkit`. It may not be passed on, and was never run with this crate: what is given to
/// it is what the documentation of `nbdkit-vddk-plugin` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vddk {
    /// `nbdkit`, with its plugin `vddk`.
    pub nbdkit: PathBuf,
    /// The folder `vmware-vix-disklib-distrib`; without it, where the plugin looks by itself.
    pub libdir: Option<PathBuf>,
    /// In order of preference, `file:nbdssl:nbd`; without them VDDK chooses.
    pub transports: Option<String>,
}

/// Which disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frozen<'a> {
    pub(crate) machine: &'a Moref,
    pub(crate) snapshot: &'a Moref,
    /// As the snapshot's configuration names it.
    pub(crate) file: &'a DatastorePath,
    pub(crate) capacity: u64,
}

/// A disk that is read through VDDK. Dropped, it ends the program behind it.
#[derive(Debug)]
pub(crate) struct VddkDisk {
    // Its connections end before the program is asked to.
    disk: RemoteDisk,
    nbdkit: Nbdkit,
}

impl Vddk {
    /// Starts a program that has the disk open, and connects to it. Both have to be done within the limit, and so has each read.
    ///
    /// # Errors
    /// `Unsupported` where `nbdkit`, its plugin or VDDK is not there; `Unavailable` where VDDK does not open the disk, with the words
    /// of `nbdkit`; `Conflict` for another capacity.
    ///
    /// # Cancel safety
    /// Dropped, it ends what it has started.
    pub(crate) async fn open(&self, vim: &Vim, frozen: Frozen<'_>, limit: Duration) -> Result<VddkDisk> {
        let login = vim.login().await?;
        let end = SystemClock.now().after(limit);
        // For its owner alone, and only until we are connected.
        let dir = tempfile::Builder::new()
            .prefix("vddk-")
            .tempdir()
            .told("make a folder in", &std::env::temp_dir())?;
        let mut command = Command::new(&self.nbdkit);
        command.args(self.arguments(&login, frozen, dir.path()));
        if let Some(libdir) = &self.libdir {
            // Else the plugin starts itself anew with it, and writes the password into a file on the way.
            command.env("LD_LIBRARY_PATH", libdir.join("lib64"));
        }
        let password = login.password;
        let nbdkit = blocking(move || Nbdkit::start(command, password)).await?;
        let ready = pid_file(dir.path());
        while !ready.exists() {
            if nbdkit.is_over() {
                return Err(unstarted(&nbdkit.said()));
            }
            if SystemClock.now() >= end {
                let message = format!("nbdkit is not ready after {limit:?}: {}", nbdkit.said());
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            SystemClock.sleep(LOOK).await;
        }
        let address = Address::Unix(socket(dir.path()));
        let left = end.since(SystemClock.now()).max(LOOK);
        let connecting = RemoteDisk::builder(address, "").timeout(limit).connect();
        let connected = tokio::time::timeout(left, connecting).await;
        let silent = || Error::new(ErrorKind::Unavailable, format!("nothing is told within {limit:?}"));
        let disk = match connected.unwrap_or_else(|_| Err(silent())) {
            Ok(disk) => disk,
            Err(error) => return Err(unopened(frozen, &nbdkit, error).await),
        };
        if disk.size() != frozen.capacity {
            let (file, size) = (frozen.file, disk.size());
            let message = format!("{file} has {size} bytes by VDDK, not {}", frozen.capacity);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(VddkDisk { disk, nbdkit })
    }

    /// All that others may see of the program: no password.
    fn arguments(&self, login: &Login, frozen: Frozen<'_>, dir: &Path) -> Vec<OsString> {
        let option = |name: &str, path: PathBuf| [OsString::from(name), path.into_os_string()];
        let said = |name: &str, value: &dyn std::fmt::Display| OsString::from(format!("{name}={value}"));
        let mut all: Vec<OsString> =
            ["--readonly", "--foreground", "--exit-with-parent"].map(Into::into).into();
        all.extend(option("--unix", socket(dir)));
        all.extend(option("--pidfile", pid_file(dir)));
        all.push("vddk".into());
        if let Some(libdir) = &self.libdir {
            let mut argument = OsString::from("libdir=");
            argument.push(libdir);
            all.push(argument);
        }
        all.extend([
            said("server", &login.server),
            said("port", &login.port),
            said("user", &login.user),
            // Its standard input.
            said("password", &"+/dev/stdin"),
            said("thumbprint", &login.thumbprint),
            said("vm", &format_args!("moref={}", frozen.machine.id)),
            said("snapshot", &frozen.snapshot.id),
        ]);
        if let Some(transports) = &self.transports {
            all.push(said("transports", transports));
        }
        all.push(said("file", frozen.file));
        all
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("nbd.sock")
}

/// There once it listens.
fn pid_file(dir: &Path) -> PathBuf {
    dir.join("nbdkit.pid")
}

/// Why it has ended before it listened.
fn unstarted(said: &str) -> Error {
    let absent = said.contains("cannot open plugin") || said.contains("libvixDiskLib");
    let (kind, remedy) = match absent {
        true => {
            (ErrorKind::Unsupported, "; install nbdkit's plugin vddk and VMware's VDDK, and name its folder")
        }
        false => (ErrorKind::Unavailable, ""),
    };
    Error::new(kind, format!("nbdkit does not start: {said}{remedy}"))
}

/// Why it does not give out the disk. The plugin opens it for each who connects.
async fn unopened(frozen: Frozen<'_>, nbdkit: &Nbdkit, error: Error) -> Error {
    let mut said = nbdkit.said();
    for _ in 0..LOOKS {
        SystemClock.sleep(LOOK).await;
        let before = std::mem::replace(&mut said, nbdkit.said());
        if nbdkit.is_over() || !said.is_empty() && said == before {
            break;
        }
    }
    let message = format!("VDDK does not open {}: {said}", frozen.file);
    Error::new(ErrorKind::Unavailable, message).caused_by(error)
}

impl VddkDisk {
    /// What VDDK says of a failure stands in no answer.
    fn told(&self, error: Error) -> Error {
        error.with("nbdkit", self.nbdkit.said())
    }
}

#[async_trait]
impl Disk for VddkDisk {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.disk.extents(range).await.map_err(|e| self.told(e))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.disk.read(run, pool).await.map_err(|e| self.told(e))
    }
}
