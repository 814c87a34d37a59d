//! The side that a machine comes from: a directory, or a server of VMware's, simulated.

use crate::ground::{Content, PAGE, pattern};
use crate::process::{Mode, Sim};
use crate::server::World;
use site_recovery::{LandingSite, Result, Settings, Source, SystemClock};
use site_recovery_local::LocalSite;
use site_recovery_vmware::Builder;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// In bytes; the second is no whole KiB.
const OF_A_DIRECTORY: [(&str, u64); 2] = [("boot", 512 << 10), ("data", (256 << 10) + 512)];
/// In KiB.
const OF_A_SERVER: [u64; 2] = [512, 260];

/// What outlives an engine.
pub(crate) enum Stands {
    Directory,
    Server { sim: Arc<Sim>, dir: Arc<TempDir>, appliance: String, web: String },
}

/// The side as an engine has opened it.
pub(crate) enum Here {
    Directory { site: LocalSite, web: PathBuf },
    Server { world: Box<World>, web: String },
}

fn open(sim: &Sim, state: PathBuf) -> Builder {
    site_recovery_vsphere::VCenter::new(sim.settings.clone()).site("here".into(), state)
}

impl Stands {
    /// A machine `web` that runs, with bytes on both disks.
    pub(crate) async fn directory(dir: &Path) -> Self {
        let web = dir.join("here/web");
        fs::create_dir_all(&web).unwrap();
        let mut disks = vec![];
        for (id, size) in OF_A_DIRECTORY {
            let mut bytes = vec![0; size as usize];
            for page in (0..size / PAGE).step_by(3) {
                bytes[(page * PAGE) as usize..][..PAGE as usize].copy_from_slice(&pattern(page + size));
            }
            fs::write(web.join(format!("{id}.raw")), bytes).unwrap();
            disks.push(serde_json::json!({ "id": id, "file": format!("{id}.raw") }));
        }
        let nics = [serde_json::json!({ "id": "n0", "mac": "52:54:00:12:34:56", "network": "lan" })];
        let described =
            serde_json::json!({ "os": "linux", "firmware": "bios", "disks": disks, "nics": nics });
        fs::write(web.join("machine.json"), described.to_string()).unwrap();
        Self::started(dir).await
    }

    /// A guest, on a copy of its disk.
    pub(crate) async fn guest(dir: &Path, disk: &Path) -> Self {
        let web = dir.join("here/web");
        fs::create_dir_all(&web).unwrap();
        let copied = Command::new("cp").arg("--sparse=always").arg(disk).arg(web.join("root.raw")).status();
        assert!(copied.unwrap().success(), "cp {}", disk.display());
        let disks = [serde_json::json!({ "id": "root", "file": "root.raw" })];
        let described = serde_json::json!({ "os": "linux", "firmware": "bios", "disks": disks });
        fs::write(web.join("machine.json"), described.to_string()).unwrap();
        Self::started(dir).await
    }

    async fn started(dir: &Path) -> Self {
        let site = LocalSite::open("here".into(), dir.join("here"), Arc::new(SystemClock)).unwrap();
        site.switch_on("web").await.unwrap();
        Self::Directory
    }

    /// The same as a machine of the server's. Nothing where the simulator is absent; that is said, and fails where it has to be
    /// there.
    pub(crate) async fn server() -> Option<Self> {
        let world = World::start(Mode::VCenter, open).await?;
        let web = world.machine("web", &OF_A_SERVER).await;
        for (disk, kib) in OF_A_SERVER.into_iter().enumerate() {
            for page in (0..kib * 1024 / PAGE).step_by(3) {
                world.write(&web, disk, page * PAGE, &pattern(page + kib)).await;
            }
        }
        let (sim, dir, appliance) = (world.sim.clone(), world.dir.clone(), world.appliance.clone());
        Some(Self::Server { sim, dir, appliance, web })
    }

    pub(crate) async fn opened(&self, below: &Path) -> Result<Here> {
        Ok(match self {
            Self::Directory => {
                let site = LocalSite::open("here".into(), below.join("here"), Arc::new(SystemClock))?;
                Here::Directory { site, web: below.join("here/web") }
            }
            Self::Server { sim, dir, appliance, web } => {
                let world = World::over(sim.clone(), dir.clone(), open, appliance).await;
                Here::Server { world: Box::new(world), web: web.clone() }
            }
        })
    }
}

impl Here {
    pub(crate) fn source(&self) -> Arc<dyn Source> {
        match self {
            Self::Directory { site, .. } => Arc::new(site.clone()),
            Self::Server { world, .. } => Arc::new(world.site.clone()),
        }
    }

    pub(crate) fn landing(&self) -> Arc<dyn LandingSite> {
        match self {
            Self::Directory { site, .. } => Arc::new(site.clone()),
            Self::Server { world, .. } => Arc::new(world.site.clone()),
        }
    }

    /// What `web` is called here.
    pub(crate) fn web(&self) -> &str {
        match self {
            Self::Directory { .. } => "web",
            Self::Server { web, .. } => web,
        }
    }

    /// What a reprotect towards here has to be told.
    pub(crate) fn settings(&self) -> Option<Settings> {
        let datastore = || Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
        matches!(self, Self::Server { .. }).then(datastore)
    }

    /// Writes as the guest does.
    ///
    /// # Errors
    /// Where it does not run.
    pub(crate) async fn write(&self, disk: usize, at: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Directory { site, .. } => {
                let id = OF_A_DIRECTORY[disk].0.into();
                site.write_disk("web", &id, at, bytes.to_vec().into()).await
            }
            Self::Server { world, web } => {
                let refused = || site_recovery::Error::new(site_recovery::ErrorKind::Refused, "it is off");
                world.runs(web).await.then_some(()).ok_or_else(refused)?;
                world.write(web, disk, at, bytes).await;
                Ok(())
            }
        }
    }

    /// The bytes of its disks, past the adapter.
    pub(crate) async fn content(&self) -> Content {
        match self {
            Self::Directory { web, .. } => {
                let text = fs::read(web.join("machine.json")).unwrap();
                let described: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let file =
                    |disk: &serde_json::Value| fs::read(web.join(disk["file"].as_str().unwrap())).unwrap();
                described["disks"].as_array().unwrap().iter().map(file).collect()
            }
            Self::Server { world, web } => vec![world.content(web, 0).await, world.content(web, 1).await],
        }
    }

    /// Whether it runs, past the adapter.
    pub(crate) async fn runs(&self) -> bool {
        match self {
            Self::Directory { web, .. } => {
                let text = fs::read(web.join(".site-recovery/power.json")).unwrap();
                let power: serde_json::Value = serde_json::from_slice(&text).unwrap();
                power["state"] == "on"
            }
            Self::Server { world, web } => world.runs(web).await,
        }
    }

    /// Whether somebody could start it past us.
    pub(crate) async fn lets_itself_be_started(&self) -> bool {
        match self {
            Self::Directory { site, .. } => site.switch_on("web").await.is_ok(),
            Self::Server { world, web } => world.power(web, "on").await,
        }
    }

    /// Nothing of ours is left here but the marks.
    pub(crate) async fn nothing_is_left(&self, when: &str) {
        match self {
            Self::Directory { web, .. } => {
                let captures = fs::read_dir(web.join(".site-recovery/captures"));
                let left: Vec<_> = captures.into_iter().flatten().map(|e| e.unwrap().path()).collect();
                assert!(left.is_empty(), "{when}: {left:?}");
            }
            Self::Server { world, web } => {
                assert_eq!(world.snapshots(web).await, Vec::<String>::new(), "{when}: snapshots");
            }
        }
    }
}
