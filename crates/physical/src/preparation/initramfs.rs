//! Drivers in the initramfs: which are missing there, and who builds it anew.

use super::file::{MARK, OurFile};
use super::program::Runner;
use super::{Destination, MEND};
use crate::inventory::{Archive, Root, built_in, in_kernel, initramfs, module};
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Finding, Result, Severity};
use std::collections::BTreeSet;
use std::fs;

/// Who builds the initramfs of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Builder {
    /// Debian's and Ubuntu's.
    InitramfsTools,
    /// Red Hat's, SUSE's and others'.
    Dracut,
}

impl Builder {
    pub(crate) fn of(root: &Root) -> Option<Self> {
        let has = |program: &str| {
            ["usr/sbin", "usr/bin", "sbin", "bin"].iter().any(|dir| root.has(format!("/{dir}/{program}")))
        };
        // dracut has an `update-initramfs`, too, but no `mkinitramfs`.
        if has("update-initramfs") && has("mkinitramfs") {
            Some(Self::InitramfsTools)
        } else {
            has("dracut").then_some(Self::Dracut)
        }
    }

    /// Our file in its configuration: a hook of our own beside the user's, which adds to what `MODULES=` chooses.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::InitramfsTools => "/etc/initramfs-tools/hooks/site-recovery",
            Self::Dracut => "/etc/dracut.conf.d/site-recovery.conf",
        }
    }

    fn file(self, drivers: &BTreeSet<String>) -> OurFile {
        let drivers = drivers.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let (text, mode) = match self {
            Self::InitramfsTools => (
                format!(
                    "#!/bin/sh\n{MARK}\ncase \"$1\" in prereqs) exit 0 ;; esac\n. /usr/share/initramfs-tools/hook-functions\nmanual_add_modules {drivers}\n"
                ),
                0o755,
            ),
            Self::Dracut => (format!("{MARK}\nadd_drivers+=\" {drivers} \"\n"), 0o644),
        };
        OurFile { path: self.path().into(), text, mode }
    }

    /// The same file, which adds nothing any more: what stands while it is taken away.
    pub(crate) fn without_drivers(self) -> OurFile {
        match self {
            Self::InitramfsTools => {
                OurFile { path: self.path().into(), text: format!("#!/bin/sh\n{MARK}\n"), mode: 0o755 }
            }
            Self::Dracut => OurFile { path: self.path().into(), text: format!("{MARK}\n"), mode: 0o644 },
        }
    }

    /// Builds one, at its place.
    fn command<'a>(self, kernel: &'a str, path: &'a str) -> (&'static str, Vec<&'a str>) {
        match self {
            Self::InitramfsTools => ("update-initramfs", vec!["-u", "-k", kernel]),
            // Its own idea of the place is not every distribution's.
            Self::Dracut => ("dracut", vec!["--force", path, kernel]),
        }
    }

    /// Builds the initramfs of every kernel that has one anew.
    pub(crate) fn build(self, root: &Root, runner: &Runner) -> Result<()> {
        room(root)?;
        for (kernel, path) in kernels(root)? {
            if let Some(path) = path {
                let (program, arguments) = self.command(&kernel, &path);
                runner.run(root, program, &arguments)?;
            }
        }
        Ok(())
    }
}

/// Whether `/boot` has room for the largest initramfs once more: builders write the new one beside the old one.
///
/// # Errors
/// `OutOfSpace`.
pub(crate) fn room(root: &Root) -> Result<()> {
    let sizes = kernels(root)?.into_iter().filter_map(|(_, path)| {
        let told = fs::metadata(root.path(path?)).ok()?;
        Some(told.len())
    });
    let largest = sizes.max().unwrap_or_default();
    match root.free("/boot").filter(|free| *free < largest + largest / 4) {
        Some(free) => {
            let message = format!("/boot has {free} bytes free; a new initramfs takes {largest}: make room");
            Err(Error::new(ErrorKind::OutOfSpace, message))
        }
        None => Ok(()),
    }
}

/// The kernels that are installed, and the initramfs of each.
fn kernels(root: &Root) -> Result<Vec<(String, Option<String>)>> {
    let mut found = vec![];
    for kernel in root.names("/lib/modules")? {
        // Directories of kernels that were removed may stay behind.
        if root.has(format!("/lib/modules/{kernel}/modules.dep")) {
            let path = initramfs(root, &kernel)?;
            found.push((kernel, path));
        }
    }
    Ok(found)
}

/// What is to be done about drivers.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) file: Option<OurFile>,
    /// Whether an initramfs lacks a driver that its kernel has.
    pub(crate) build: bool,
    pub(crate) findings: Vec<Finding>,
}

/// Compares what each kernel's initramfs holds with what the destinations ask for.
pub(crate) fn wanted(root: &Root, towards: &BTreeSet<Destination>, running: Option<&str>) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let mut tell = |code: &str, severity, cause: String, remedy: &str| {
        wanted.findings.push(Finding::new(format!("preparation.{code}"), severity, cause, remedy));
    };
    let needed: BTreeSet<&str> = towards.iter().flat_map(|d| d.needed()).copied().collect();
    let useful: BTreeSet<&str> = towards.iter().flat_map(|d| d.useful()).copied().collect();
    let mut adds = BTreeSet::new();
    let kernels = kernels(root)?;
    if !kernels.iter().any(|(k, path)| path.is_some() && running.is_none_or(|r| r == k)) {
        let cause = format!("no initramfs is found for the kernel {}", running.unwrap_or("that runs"));
        tell("initramfs", Severity::Critical, cause, "use a kernel of the distribution, with an initramfs");
    }
    for (kernel, path) in kernels {
        let Some(path) = path else { continue };
        let built = built_in(root, &kernel)?.unwrap_or_default();
        let modules = modules(root, &kernel)?;
        let absent: Vec<&str> =
            needed.iter().filter(|d| !built.contains(**d) && !modules.contains(**d)).copied().collect();
        if !absent.is_empty() {
            let cause = format!("the kernel {kernel} has no {}", absent.join(", "));
            let remedy =
                "install a kernel of the distribution that has it: the server would not find its disks";
            tell("drivers.absent", Severity::Critical, cause, remedy);
        }
        let adds_here: BTreeSet<&str> =
            needed.union(&useful).filter(|d| modules.contains(**d)).copied().collect();
        let archive = match Archive::read(&root.path(&path)) {
            Ok(archive) => archive,
            Err(e) => {
                tell(
                    "initramfs",
                    Severity::Critical,
                    format!("{path}: {e}"),
                    "make it readable, and check again",
                );
                continue;
            }
        };
        let missing: Vec<&str> = adds_here.iter().filter(|d| !archive.has_module(d)).copied().collect();
        if !missing.is_empty() {
            wanted.build = true;
            let severe = missing.iter().any(|d| needed.contains(d));
            let severity = if severe { Severity::Critical } else { Severity::Warning };
            tell("drivers", severity, format!("{path} lacks {}", missing.join(", ")), MEND);
        }
        adds.extend(adds_here.into_iter().map(str::to_owned));
    }
    match Builder::of(root) {
        Some(builder) if !adds.is_empty() => wanted.file = Some(builder.file(&adds)),
        Some(_) => {}
        None if wanted.build => {
            let cause = "neither initramfs-tools nor dracut builds the initramfs".to_owned();
            let remedy = "add the drivers by the means of the system, and check again";
            tell("builder", Severity::Critical, cause, remedy);
            wanted.build = false;
        }
        None => {}
    }
    Ok(wanted)
}

/// The modules of a kernel, by depmod's list: `kernel/drivers/hv/hv_vmbus.ko: kernel/...`.
fn modules(root: &Root, kernel: &str) -> Result<BTreeSet<String>> {
    let text = root.text(format!("/lib/modules/{kernel}/modules.dep"))?.unwrap_or_default();
    let paths = text.lines().filter_map(|line| line.split_once(':'));
    Ok(paths.filter_map(|(path, _)| module(path)).map(|m| in_kernel(&m)).collect())
}
