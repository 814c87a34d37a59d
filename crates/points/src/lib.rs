//! Recovery points on an object store: a directory first, a cloud's store as well.
//!
//! A machine's timeline is a log. What lands is kept as it comes, in *segments* that are written once. A point is a map of
//! which run lies in which segment: a dozen *layers*, shared with its neighbours, looked up block by block. One small
//! object, the *ledger*, says what is open and which points there are, the older ones by pages of its *catalogue*.
//! Every change creates the ledger's next number, or is not made: the ledger is the epoch register, too, so the check of
//! the epoch and the effect are one atomic act and there is no window between them.
//!
//! What dropped points wrote lies in the *gap* before the next point that is kept; once a quarter of it is dead, segments
//! that nobody needs go, and what is left of mostly dead ones moves, sealed as it is, into a *pack*.
//!
//! # What it asks of a store
//! Create-only puts (`PutMode::Create`), listings that show what was put before, and puts that are durable when they
//! return: Azure Blob Storage and S3 say so; tried are a directory and Azurite.
//! A store that takes `PutMode::Create` for a plain put loses the epoch register without a word: try it first. Where a listing lags behind, points that were sealed stay, but what
//! landed since then may be missed, and a machine that is new here. [`Points::directory`] syncs files and the directories
//! that name them, and writes past the page cache where the file system takes it.
//!
//! # On Azure Blob Storage, or on S3
//! With the feature `azure`, or `s3`, [`object_store`] has the store. Its container is made beforehand:
//! ```
//! # #[cfg(feature = "azure")]
//! # fn points() -> Result<(), Box<dyn std::error::Error>> {
//! use site_recovery::SystemClock;
//! use site_recovery_points::object_store::azure::MicrosoftAzureBuilder;
//! use site_recovery_points::{Https, Points};
//! use std::sync::Arc;
//!
//! // The account, and how to sign in: AZURE_STORAGE_ACCOUNT_NAME, AZURE_CLIENT_ID and so on.
//! let store = MicrosoftAzureBuilder::from_env()
//!     .with_container_name("recovery-points")
//!     .with_http_connector(Https)
//!     .build()?;
//! let points = Points::new("blob".into(), Arc::new(store), "production", Arc::new(SystemClock));
//! # let _ = points;
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//! - A point that is open in another process is not known here: prune from the process that opens.
//! - A lock holds against everybody who comes through this type. Against somebody with the store's own keys it holds where
//!   the store itself keeps things: every object is written once and never over, so a container of Azure's may have a
//!   time-based retention policy, a bucket an object lock, as long as the longest lock. Points are dropped all the same;
//!   their objects go when the store lets them. Until then each takes about 90 bytes in the ledger, which is written whole
//!   with each change and kept as long: for points minutes apart and days of retention, not for seconds and months. That is
//!   tried on a store of the tests that keeps everything, on neither cloud. A plain directory has nothing of the kind.
//! - What has landed and is in no point yet is known in memory, about 200 bytes a record; merging layers holds the result,
//!   about 25 bytes a record.
#![forbid(unsafe_code)]

mod attached;
mod cache;
mod catalogue;
mod directory;
mod extent_map;
mod folder;
#[cfg(test)]
mod fuzz;
#[cfg(feature = "https")]
mod https;
mod ingest;
mod layer;
mod ledger;
mod line;
mod map;
mod newest;
mod overlay;
mod pack;
mod point_disk;
mod prune;
mod reader;
mod refusal;
mod scrub;
mod sealed;
mod segment;
mod space;
mod timeline;
mod working_copy;

#[cfg(feature = "https")]
pub use https::Https;
/// What [`Points::new`] takes: any store of this crate.
pub use object_store;
pub use scrub::{Scrubbed, Share};

use async_trait::async_trait;
use cache::Cache;
use catalogue::Kept;
use directory::Directory;
use folder::{Folder, folder_name};
use line::Line;
use object_store::ObjectStore;
use object_store::path::Path;
use point_disk::OpenPoints;
use refusal::failed;
use sealed::Sealed;
use site_recovery::{
    Capability, ChangeSet, Clock, Complete, CutId, DiskId, Disks, Error, Finding, Form, Hash, Head, Ingest,
    Landed, Machine, MachineId, Manifest, Op, PhaseRecord, Point, PointId, Record, RecoveryPointStore,
    Replica, Result, Role, RoleName, Run, Seed, Settings, Timestamp,
};
use site_recovery_record::{Codec, Keyring, Packer, Unpacker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::OwnedMutexGuard;

/// Recovery points of many machines on one object store.
#[derive(Debug)]
pub struct Points {
    name: RoleName,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
    lines: Mutex<BTreeMap<MachineId, Arc<tokio::sync::Mutex<Line>>>>,
    open: OpenPoints,
    records: Arc<Records>,
    cache: Arc<Cache>,
    here: Option<Arc<std::path::Path>>,
}

/// What frames are made and opened with.
#[derive(Debug)]
struct Records {
    packer: Packer,
    unpacker: Unpacker,
}

impl Records {
    fn with(keys: Keyring) -> Arc<Self> {
        let packer = Packer::new(Codec::Raw, keys.clone());
        Arc::new(Self { packer, unpacker: Unpacker::new(keys) })
    }
}

impl Points {
    /// Points under `prefix` of any store. Touches nothing yet.
    pub fn new(
        name: RoleName,
        store: Arc<dyn ObjectStore>,
        prefix: impl Into<Path>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let prefix = prefix.into();
        let (lines, open, records) = (Mutex::default(), OpenPoints::default(), Records::with(Keyring::new()));
        Self { name, store, prefix, clock, lines, open, records, cache: Cache::new(), here: None }
    }

    /// With the keys that open the records of its machines. Records that come without a seal are sealed here, with the
    /// key that `keys` have for their machine.
    #[must_use]
    pub fn with_keys(mut self, keys: Keyring) -> Self {
        self.records = Records::with(keys);
        self
    }

    /// Points in a directory, which is made where it is missing. Blocks while it does so.
    ///
    /// # Errors
    /// `Invalid` where the directory cannot be made or used.
    pub fn directory(
        name: RoleName,
        path: impl AsRef<std::path::Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            let rule = "it must be a directory that can be written";
            Error::invalid("path", path.display(), rule, "choose another one").caused_by(error)
        };
        std::fs::create_dir_all(path).map_err(|e| unusable(e.into()))?;
        let path = path.canonicalize().map_err(|e| unusable(e.into()))?;
        let here = Some(Arc::from(path.as_path()));
        Ok(Self { here, ..Self::new(name, Arc::new(Directory::new(path)), Path::default(), clock) })
    }

    /// The machine's line, alone, and as it stands now.
    async fn enter(&self, machine: &MachineId) -> Result<OwnedMutexGuard<Line>> {
        let folder = self.folder_of(machine)?;
        let line = {
            let mut lines = self.lines.lock().expect("no panic under this lock");
            let new = || Arc::new(tokio::sync::Mutex::new(Line::new(folder, machine.clone())));
            let line = lines.entry(machine.clone()).or_insert_with(new);
            Arc::clone(line)
        };
        let mut line = line.lock_owned().await;
        line.refresh().await?;
        Ok(line)
    }

    fn folder_of(&self, machine: &MachineId) -> Result<Folder> {
        if machine.as_str().is_empty() {
            return Err(Error::invalid("machine", "empty", "a machine has a name", "name it"));
        }
        Ok(self.folder(self.prefix.clone().join(folder_name(machine))))
    }

    fn folder(&self, root: Path) -> Folder {
        let folder = Folder::new(Arc::clone(&self.store), root, Arc::clone(&self.cache));
        folder.in_directory(self.here.clone())
    }

    async fn list_machines(&self) -> Result<Vec<MachineId>> {
        let there = self.store.list_with_delimiter(Some(&self.prefix)).await.map_err(failed)?;
        let mut machines = vec![];
        for folder in there.common_prefixes {
            let mut line = Line::new(self.folder(folder), MachineId::from(""));
            line.refresh().await?;
            if line.ledger.timeline.is_some() {
                machines.push(line.ledger.machine);
            }
        }
        machines.sort();
        Ok(machines)
    }

    /// At most `most` points after this one, oldest first: of a long history, a page. Empty for a machine that is not known.
    ///
    /// # Errors
    /// `Corrupt`, naming the object; what the store says.
    pub async fn page(&self, machine: &MachineId, after: Option<PointId>, most: usize) -> Result<Vec<Point>> {
        self.list(machine, after, most).await.map_err(|e| e.at(&self.name, "page"))
    }

    async fn raise(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let next = line.ledger.admit(op)?;
        line.commit(next).await
    }
}

#[async_trait]
impl Role for Points {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability { takes: Form::Sealed, locks: true, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.raise(op, machine).await.map_err(|e| e.at(&self.name, "claim"))
    }
}

#[async_trait]
impl Replica for Points {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.list_machines().await.map_err(|e| e.at(&self.name, "machines"))
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, _settings: &Settings) -> Result<()> {
        self.set_up(op, machine, seed).await.map_err(|e| e.at(&self.name, "prepare"))
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.stand(machine).await.map_err(|e| e.at(&self.name, "head"))
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        self.open_ingest(op, machine, cut, plan).await.map_err(|e| e.at(&self.name, "begin"))
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.land(ingest, batch, records).await.map_err(|e| e.at(&self.name, "write"))
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.make_point(ingest, manifest, complete).await.map_err(|e| e.at(&self.name, "seal"))
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.list(machine, None, usize::MAX).await.map_err(|e| e.at(&self.name, "points"))
    }

    async fn newest(&self, machines: &[MachineId]) -> Vec<Result<Option<Point>>> {
        let newest = self.newest_of(machines).await.into_iter();
        newest.map(|told| told.map_err(|e| e.at(&self.name, "newest"))).collect()
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        let read = async {
            let line = self.enter(machine).await?;
            let kept = line.ledger.timeline()?.catalogue.get(&line.folder, point).await?;
            Sealed::read(&line.folder, &kept.object).await.map(|sealed| sealed.manifest)
        };
        read.await.map_err(|e| e.at(&self.name, "manifest"))
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        self.disks_at(machine, point).await.map_err(|e| e.at(&self.name, "open"))
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.hash_run(machine, disk, run).await.map_err(|e| e.at(&self.name, "hashes"))
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.difference(machine, from, to).await.map_err(|e| e.at(&self.name, "changed"))
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let edit = |kept: &mut Kept| {
            kept.pins.insert(why.to_owned());
            Ok(())
        };
        self.mark(op, machine, ("pin", &(point, why)), point, edit).await.map_err(|e| e.at(&self.name, "pin"))
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let edit = |kept: &mut Kept| {
            kept.pins.remove(why);
            Ok(())
        };
        self.mark(op, machine, ("unpin", &(point, why)), point, edit)
            .await
            .map_err(|e| e.at(&self.name, "unpin"))
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        self.drop_points(op, machine, drop).await.map_err(|e| e.at(&self.name, "prune"))
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.forget(op, machine).await.map_err(|e| e.at(&self.name, "delete"))
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.note_phase(op, machine, record).await.map_err(|e| e.at(&self.name, "remember"))
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        let line = self.enter(machine).await.map_err(|e| e.at(&self.name, "recall"))?;
        Ok(line.ledger.phase.clone())
    }
}

#[async_trait]
impl RecoveryPointStore for Points {
    async fn lock(&self, op: &Op, machine: &MachineId, point: PointId, until: Timestamp) -> Result<()> {
        let edit = |kept: &mut Kept| Self::lock_point(kept, until);
        self.mark(op, machine, ("lock", &(point, until)), point, edit)
            .await
            .map_err(|e| e.at(&self.name, "lock"))
    }

    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        self.read_share(machine, point, Share::Whole, |_| {}).await.map_err(|e| e.at(&self.name, "scrub"))
    }
}
