//! What the examples share: two sites, and everything that stands between them, in one directory.
//!
//! ```text
//!  here/web ──────> process server ──> points/            the way out
//!     ^                                    │
//!     │                                    v
//!  master target <── process server <── cloud/web         the way back, onto the disks that are here already
//! ```
//!
//! An embedder writes [`Stage::open`] and [`Stage::vault`] once, with the adapters of its own platforms.
#![forbid(unsafe_code)]

#[cfg(feature = "qemu")]
pub mod live;

use bytes::Bytes;
use site_recovery::{
    Error, ErrorKind, ItemHandle, Journal, Leg, Policy, ProtectRequest, Result, Role, SystemClock, Vault,
    VaultBuilder,
};
use site_recovery_journal::SqliteJournal;
use site_recovery_local::LocalSite;
use site_recovery_master_target::MasterTarget;
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The roles of both legs, each opened once.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    /// The site that the machines come from.
    pub here: LocalSite,
    /// The site that they fail over to.
    pub cloud: LocalSite,
    /// Moves the bytes, both ways.
    pub process_server: Arc<ProcessServer>,
    /// Keeps the points of the way out.
    pub points: Arc<Points>,
    /// Keeps the points of the way back, on the disks that are here.
    pub master_target: Arc<MasterTarget>,
}

impl Stage {
    /// Opens the roles over a directory; what is missing in it is made.
    ///
    /// # Errors
    /// Those of the roles.
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let (dir, clock) = (dir.into(), Arc::new(SystemClock));
        let here = LocalSite::open("here".into(), dir.join("here"), clock.clone())?;
        let cloud = LocalSite::open("cloud".into(), dir.join("cloud"), clock.clone())?;
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
            dir,
            here,
            cloud,
            process_server: Arc::new(process_server),
            points: Arc::new(points),
            master_target: Arc::new(master_target),
        })
    }

    /// A vault over this stage and the journal in its directory. Two vaults at a time would fence each other.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn vault(&self) -> Result<Vault> {
        let journal = SqliteJournal::open(self.journal_file()).await?;
        self.builder(Arc::new(journal)).build().await
    }

    /// What [`vault`](Stage::vault) builds, for more than the defaults.
    pub fn builder(&self, journal: Arc<dyn Journal>) -> VaultBuilder {
        let (here, cloud) = (Arc::new(self.here.clone()), Arc::new(self.cloud.clone()));
        let (points, master_target) = (Arc::clone(&self.points), Arc::clone(&self.master_target));
        Vault::builder()
            .out(Leg::out(here, self.process_server.clone(), points, cloud.clone()))
            .back(Leg::back(cloud, self.process_server.clone(), master_target))
            .journal(journal)
    }

    /// Where the journal is.
    pub fn journal_file(&self) -> PathBuf {
        self.dir.join("journal.db")
    }

    /// Makes a machine here, of raw disks of so many bytes, and turns it on.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn add_machine(&self, name: &str, disks: &[(&str, u64)]) -> Result<()> {
        let dir = self.dir.join("here").join(name);
        std::fs::create_dir_all(&dir).map_err(|e| failed("make", &dir, e))?;
        let mut described = vec![];
        for (id, size) in disks {
            let file = self.disk(&self.here, name, id);
            // What a person has put there already stays.
            let disk = std::fs::OpenOptions::new().create(true).append(true).open(&file);
            disk.and_then(|d| d.set_len(*size)).map_err(|e| failed("make", &file, e))?;
            described.push(format!(r#"{{ "id": "{id}", "file": "disk-{id}.raw" }}"#));
        }
        let text = format!(r#"{{ "os": "linux", "disks": [{}] }}"#, described.join(", "));
        std::fs::write(dir.join("machine.json"), text).map_err(|e| failed("describe", &dir, e))?;
        self.here.switch_on(name).await
    }

    /// The file of a disk of a machine at a site.
    pub fn disk(&self, site: &LocalSite, machine: &str, disk: &str) -> PathBuf {
        self.dir.join(site.name().as_str()).join(machine).join(format!("disk-{disk}.raw"))
    }

    /// The bytes of the disks of a machine that stands at a site. For small disks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn bytes(&self, site: &LocalSite, machine: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let dir = self.dir.join(site.name().as_str()).join(machine);
        let mut disks = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).map_err(|e| failed("list", &dir, e))? {
            let path = entry.map_err(|e| failed("list", &dir, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(id) = name.strip_prefix("disk-").and_then(|n| n.strip_suffix(".raw")) {
                disks.insert(id.to_owned(), std::fs::read(&path).map_err(|e| failed("read", &path, e))?);
            }
        }
        Ok(disks)
    }

    /// Writes as the guest of a running machine does.
    ///
    /// # Errors
    /// Those of the site.
    pub async fn write(
        &self,
        site: &LocalSite,
        machine: &str,
        disk: &str,
        at: u64,
        text: &str,
    ) -> Result<()> {
        site.write_disk(machine, &disk.into(), at, Bytes::from(text.to_owned())).await
    }
}

/// Protects a machine of the stage, and waits for its first point.
///
/// # Errors
/// Those of the engine.
pub async fn protect(vault: &Vault, machine: &str) -> Result<ItemHandle> {
    let policy = Policy::every(Duration::from_secs(300));
    let item = vault.protect(ProtectRequest::machine(machine).policy(policy)).await?;
    item.until_done().await?;
    Ok(item)
}

/// An error that names the file.
pub fn failed(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {verb} {}", path.display())).caused_by(error)
}
