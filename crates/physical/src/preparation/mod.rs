//! What a server needs before it can start elsewhere, and making it so ahead of the disaster.
//!
//! Three things are looked at: whether the initramfs of each kernel holds the drivers of the destination's hardware, whether
//! anything asks for an address on its adapters, and whether disks are named in ways that only hold here. The first two are
//! made so by files of ours alone, and by building the initramfs anew; how the server starts and is reached where it stands
//! does not change.

mod destination;
mod file;
mod initramfs;
mod names;
mod network;
mod program;

pub use destination::Destination;
pub use file::OurFile;
pub use initramfs::Builder;

use crate::inventory::{Root, Server};
use program::Runner;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, Finding, Result};
use site_recovery_register::act;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What to do about what `apply` can mend.
const MEND: &str = "apply the preparation";

/// Prepares a system to start at destinations.
#[derive(Debug, Clone)]
pub struct Preparation {
    root: Root,
    runner: Runner,
    towards: BTreeSet<Destination>,
}

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Files that are missing, or are not as they should be.
    pub files: Vec<OurFile>,
    /// Who builds each initramfs anew, where one lacks a driver.
    pub build: Option<Builder>,
    /// What is not ready now; what stays so says something else than to apply the preparation.
    pub findings: Vec<Finding>,
}

impl Plan {
    /// Whether there is nothing to do. Findings may be left that only a person can mend.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.build.is_none()
    }
}

impl Preparation {
    /// Of the system that this process runs on.
    ///
    /// # Errors
    /// `Invalid` without a destination.
    pub fn here(towards: impl IntoIterator<Item = Destination>) -> Result<Self> {
        Self::of("/", towards)
    }

    /// Of the system below `root`, whose programs are run by `chroot`.
    ///
    /// # Errors
    /// `Invalid` without a destination.
    pub fn of(root: impl Into<PathBuf>, towards: impl IntoIterator<Item = Destination>) -> Result<Self> {
        let towards: BTreeSet<Destination> = towards.into_iter().collect();
        if towards.is_empty() {
            let rule = "a server is prepared for a place";
            return Err(Error::invalid("preparation.towards", "empty", rule, "name a destination"));
        }
        Ok(Self { root: Root::of(root.into()), runner: Runner::System, towards })
    }

    /// Takes the system's programs (`update-initramfs`, `dracut`, `NetworkManager`) from a directory, as they are there.
    #[must_use]
    pub fn programs(self, dir: impl Into<PathBuf>) -> Self {
        Self { runner: Runner::From(dir.into()), ..self }
    }

    /// Whether the system is ready, and why not: read from the archives and files themselves, never from what was done.
    ///
    /// # Errors
    /// `Conflict` where a file that is not ours stands where ours belongs; those of the file system.
    pub async fn check(&self, server: &Server) -> Result<Vec<Finding>> {
        Ok(self.plan(server).await?.findings)
    }

    /// What [`apply`](Self::apply) would do. Changes nothing.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub async fn plan(&self, server: &Server) -> Result<Plan> {
        let (this, server) = (self.clone(), server.clone());
        act(move || this.planned(&server)).await
    }

    /// Does what is to be done, and reads it back: what is not ready then is returned. A repeat does what is left; with
    /// nothing left it changes nothing.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), before anything is changed; `OutOfSpace` where `/boot` has no room for an initramfs
    /// beside the one that is there; `Unavailable` where building one failed, with its complaint: our files stay, and a
    /// repeat goes on.
    ///
    /// # Cancel safety
    /// Dropped, it is finished all the same.
    pub async fn apply(&self, server: &Server) -> Result<Vec<Finding>> {
        let (this, server) = (self.clone(), server.clone());
        act(move || {
            let plan = this.planned(&server)?;
            plan.files.iter().try_for_each(|file| file.has_place(&this.root))?;
            if plan.build.is_some() {
                initramfs::room(&this.root)?;
            }
            plan.files.iter().try_for_each(|file| file.write(&this.root))?;
            if let Some(builder) = plan.build {
                builder.build(&this.root, &this.runner)?;
            }
            Ok(this.planned(&server)?.findings)
        })
        .await
    }

    /// Takes all of it back: our files go, and each initramfs is built anew without what they added. Nothing of ours there
    /// is no error, and changes nothing.
    ///
    /// # Errors
    /// As [`apply`](Self::apply). After one a repeat goes on.
    ///
    /// # Cancel safety
    /// Dropped, it is finished all the same.
    pub async fn revert(&self) -> Result<()> {
        let this = self.clone();
        act(move || {
            let root = &this.root;
            let network = [network::NETWORKD, network::RULE, network::PROFILE];
            let builders = [Builder::InitramfsTools, Builder::Dracut];
            // All are ours, or none is touched.
            for path in network.into_iter().chain(builders.map(Builder::path)) {
                file::read(root, path)?;
            }
            network.into_iter().try_for_each(|path| file::remove(root, path))?;
            for builder in builders {
                if file::read(root, builder.path())?.is_none() {
                    continue;
                }
                // It stands until all are built without it: a revert that is cut off is seen, and goes on.
                builder.without_drivers().write(root)?;
                if Builder::of(root) == Some(builder) {
                    builder.build(root, &this.runner)?;
                }
                file::remove(root, builder.path())?;
            }
            Ok(())
        })
        .await
    }

    fn planned(&self, server: &Server) -> Result<Plan> {
        let root = &self.root;
        let drivers = initramfs::wanted(root, &self.towards, server.system.kernel.as_deref())?;
        let network = network::wanted(root, &self.runner, server, &self.towards)?;
        let mut files = vec![];
        for file in drivers.file.into_iter().chain(network.files) {
            if !file.stands(root)? {
                files.push(file);
            }
        }
        let build = if drivers.build { Builder::of(root) } else { None };
        let mut findings = drivers.findings;
        findings.extend(network.findings);
        findings.extend(names::findings(root)?);
        Ok(Plan { files, build, findings })
    }
}
