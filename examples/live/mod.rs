//! What the examples with live guests share: two QEMU sites, and a guest that boots from its own full disk and appends
//! numbered, durable records for ever.
//!
//! ```text
//!  here (QEMU) ─────> process server ──> points/             the way out
//!     ^                                     │
//!     │                                     v  served over NBD
//!  master target <──── process server <── cloud (QEMU)       the way back, onto the images that are here already
//! ```

mod disk;
mod guest;
mod machines;

pub use disk::copy_out;
pub use guest::{Guest, inspect};
pub use machines::Machines;

use crate::failed;
use serde_json::{Value, json};
use site_recovery::{
    Error, ErrorKind, Instance, Leg, Result, Role, Settings, SystemClock, Vault, VaultBuilder,
};
use site_recovery_journal::SqliteJournal;
use site_recovery_master_target::MasterTarget;
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer;
use site_recovery_qemu::{Accelerator, Choice, Programs, QemuSite, QemuSiteBuilder};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The network that production guests are in, where they have one.
pub const LAN: &str = "lan";

/// The roles of both legs, over QEMU.
#[derive(Debug)]
pub struct LiveStage {
    /// What runs at both sites. Every process of it is ended with the stage.
    pub machines: Machines,
    dir: PathBuf,
    /// The site that the machines come from.
    pub here: QemuSite,
    /// The site that they fail over to.
    pub cloud: QemuSite,
    /// Moves the bytes, both ways.
    pub process_server: Arc<ProcessServer>,
    /// Keeps the points of the way out.
    pub points: Arc<Points>,
    /// Keeps the points of the way back, on the disks that are here.
    pub master_target: Arc<MasterTarget>,
}

/// Which QEMU runs the guests.
#[derive(Debug, Clone, Default)]
pub struct Emulator {
    /// A directory that a QEMU package was unpacked into; the programs of `PATH` where none is given.
    pub unpacked: Option<PathBuf>,
}

impl Emulator {
    /// The programs.
    pub fn programs(&self) -> Programs {
        let Some(dir) = &self.unpacked else { return Programs::default() };
        let share = dir.join("usr/share/qemu").display().to_string();
        let data = [share, "/usr/share/seabios".into(), "/usr/share/qemu".into()];
        let bin = dir.join("usr/bin");
        Programs {
            system: bin.join("qemu-system-x86_64"),
            system_arguments: data.into_iter().flat_map(|d| ["-L".to_owned(), d]).collect(),
            img: bin.join("qemu-img"),
            storage_daemon: bin.join("qemu-storage-daemon"),
            ..Programs::default()
        }
    }
}

/// A guest to be made.
#[derive(Debug, Clone, Default)]
pub struct GuestOptions {
    /// Words for the guest's own configuration, as `delay=20`, `hook` or `ip=10.0.0.1`.
    pub words: String,
    /// Whether it has a NIC in [`LAN`].
    pub nic: bool,
    /// Whether it has a second disk, of 1 MiB, where each record stands before it stands in the log.
    pub second: bool,
    /// Fields of its description that are others than those of a guest like any other.
    pub described: serde_json::Map<String, Value>,
}

impl LiveStage {
    /// Opens the roles over a directory; what is missing in it is made.
    ///
    /// # Errors
    /// Those of the roles.
    pub async fn open(dir: impl Into<PathBuf>, emulator: &Emulator) -> Result<Self> {
        Self::open_with(dir, emulator, |_, site| site).await
    }

    /// As [`open`](Self::open), with more said about each site, by its name.
    ///
    /// # Errors
    /// Those of the roles.
    pub async fn open_with(
        dir: impl Into<PathBuf>,
        emulator: &Emulator,
        more: impl Fn(&str, QemuSiteBuilder) -> QemuSiteBuilder,
    ) -> Result<Self> {
        let (dir, clock) = (dir.into(), Arc::new(SystemClock));
        let site = |name: &str| {
            // Emulation everywhere: what is shown here does not need a processor that can virtualise.
            let site = QemuSite::builder(name.into(), dir.join(name))
                .accelerator(Choice::Fixed(Accelerator::Tcg))
                .programs(emulator.programs())
                .patience(Duration::from_secs(60));
            more(name, site).open()
        };
        let (here, cloud) = (site("here").await?, site("cloud").await?);
        let process_server = ProcessServer::builder("process-server")
            .spool(dir.join("spool"))
            .spool_limit(1 << 30)
            .build()
            .await?;
        let points = Points::directory("points".into(), dir.join("points"), clock.clone())?;
        let landing = Arc::new(here.clone());
        let master_target =
            MasterTarget::open("master-target", landing, dir.join("retention"), clock).await?;
        Ok(Self {
            machines: Machines::of(&dir),
            dir,
            here,
            cloud,
            process_server: Arc::new(process_server),
            points: Arc::new(points),
            master_target: Arc::new(master_target),
        })
    }

    /// A vault over this stage and the journal in its directory, for more than the defaults.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn builder(&self) -> Result<VaultBuilder> {
        let journal = SqliteJournal::open(self.dir.join("journal.db")).await?;
        let (here, cloud) = (Arc::new(self.here.clone()), Arc::new(self.cloud.clone()));
        let (points, master_target) = (Arc::clone(&self.points), Arc::clone(&self.master_target));
        Ok(Vault::builder()
            .out(Leg::out(here, self.process_server.clone(), points, cloud.clone()))
            .back(Leg::back(cloud, self.process_server.clone(), master_target))
            .journal(Arc::new(journal)))
    }

    /// Makes a machine of the live guest's image here, and starts it.
    ///
    /// # Errors
    /// Those of QEMU's tools and of the site.
    pub async fn add_guest(&self, name: &str, options: &GuestOptions) -> Result<Guest> {
        self.make_guest(name, options)?;
        self.here.power_on(name).await?;
        Ok(self.guest("here", name))
    }

    /// Makes a machine of the live guest's image here.
    ///
    /// # Errors
    /// Those of QEMU's tools.
    pub fn make_guest(&self, name: &str, options: &GuestOptions) -> Result<()> {
        let image = site_recovery_guest::image();
        let dir = self.dir.join("here").join(name);
        fs::create_dir_all(dir.join("disks")).map_err(|e| failed("make", &dir, e))?;
        let (root, second) = (dir.join("disks/root.qcow2"), dir.join("disks/second.qcow2"));
        let convert = ["convert", "-O", "qcow2"].map(str::as_ref);
        tool("qemu-img", convert.into_iter().chain([image.as_os_str(), root.as_os_str()]))?;
        let (mut disks, mut words) =
            (vec![json!({ "id": "root", "file": "root.qcow2" })], options.words.clone());
        if options.second {
            let create = ["create", "-q", "-f", "qcow2"].map(str::as_ref);
            tool("qemu-img", create.into_iter().chain([second.as_os_str(), "1M".as_ref()]))?;
            disks.push(json!({ "id": "second", "file": "second.qcow2" }));
            words.push_str(" second=/dev/vdb");
        }
        let nics: Vec<Value> =
            options.nic.then(|| json!({ "id": "n0", "network": LAN })).into_iter().collect();
        let mut description = json!({
            "disks": disks, "nics": nics, "os": "linux",
            "machine": "pc", "memory": 256 << 20, "agent": "hooks", "console": true,
            "smbios": { "serial": format!("A-{name}"), "sku": words },
        });
        for (field, value) in &options.described {
            description[field] = value.clone();
        }
        let path = dir.join("machine.json");
        fs::write(&path, description.to_string()).map_err(|e| failed("describe", &path, e))
    }

    /// What the recovered guest is told that it is not told here: that it is at the other site.
    pub fn settings(&self, name: &str) -> Settings {
        let site = [("serial", format!("B-{name}")), ("console", "on".into())];
        Settings { site: site.map(|(k, v)| (k.to_owned(), v)).into(), ..Settings::default() }
    }

    /// The guest of a machine.
    pub fn guest(&self, site: &str, name: &str) -> Guest {
        Guest::of(self.dir.join(site).join(name).join("console.log"))
    }

    /// The guest of an instance.
    pub fn guest_of(&self, instance: &Instance) -> Guest {
        self.guest(instance.site.as_str(), &instance.name)
    }

    /// Closes the roles and lets the machines run, as a replicator's host does that dies: whoever opens the stage again
    /// finds them.
    pub fn leave(self) -> Machines {
        self.machines
    }

    /// Cuts a machine's power, as a failing host does: `kill -9` of its process.
    ///
    /// # Errors
    /// `NotFound` where no process is found.
    pub async fn kill(&self, site: &QemuSite, name: &str) -> Result<()> {
        self.machines.kill(site.name().as_str(), name).await
    }

    /// Asks QEMU for one thing, as a person with a monitor would: `stop`, `cont`, `system_powerdown`.
    ///
    /// # Errors
    /// `NotFound` where no process is found; what the monitor says.
    pub fn ask(&self, site: &QemuSite, name: &str, command: &str) -> Result<()> {
        self.machines.ask(site.name().as_str(), name, command, Value::Null).map(drop)
    }

    /// Waits until a machine has no process any more.
    ///
    /// # Errors
    /// `Unavailable` when it goes on for minutes.
    pub async fn until_off(&self, site: &QemuSite, name: &str) -> Result<()> {
        self.machines.until_off(site.name().as_str(), name).await
    }

    /// The image of a machine's first disk, wherever it stands now.
    pub fn image(&self, site: &str, name: &str) -> PathBuf {
        let dir = self.dir.join(site).join(name);
        let found =
            ["fenced", "disks"].into_iter().flat_map(|d| fs::read_dir(dir.join(d)).into_iter().flatten());
        let mut images: Vec<PathBuf> = found.flatten().map(|e| e.path()).collect();
        images.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
        images.into_iter().next().unwrap_or(dir)
    }
}

/// Whether everything that a live guest needs is here. Says so where not; fails where peers are required.
///
/// # Panics
/// Where something is absent and `SITE_RECOVERY_PEERS` is `required`.
pub fn is_here(example: &str, emulator: &Emulator) -> bool {
    let old = emulator.unpacked.as_ref().is_none_or(|dir| dir.join("usr/bin/qemu-system-x86_64").exists());
    if !old {
        println!(
            "SKIPPED {example} on another QEMU: it is not in {}",
            emulator.unpacked.as_deref().unwrap_or(Path::new("")).display()
        );
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "that QEMU is required");
        return false;
    }
    let programs = ["qemu-system-x86_64", "qemu-img", "qemu-storage-daemon", "e2fsck", "debugfs"];
    site_recovery_guest::peers(example, &programs)
}

/// Runs a program to its end.
///
/// # Errors
/// What it complains about.
pub fn tool<'a>(program: &str, arguments: impl IntoIterator<Item = &'a std::ffi::OsStr>) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output
        .map_err(|e| Error::new(ErrorKind::Unsupported, format!("{program} cannot be run")).caused_by(e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(ErrorKind::Unavailable, format!("{program} failed: {complaint}")))
}

/// Says what holds, or ends the story.
///
/// # Errors
/// `Corrupt` where it does not hold.
pub fn prove(holds: bool, what: impl Into<String>) -> Result<()> {
    let what = what.into();
    if !holds {
        return Err(Error::new(ErrorKind::Corrupt, format!("not so: {what}")));
    }
    println!("    proven: {what}");
    Ok(())
}

/// What has to be there and is not.
pub fn missing(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, what)
}
