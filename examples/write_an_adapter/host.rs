//! The platform: a folder of machines whose disks are qcow2 images, and what their guests and owners do to them.
//!
//! ```text
//! web/machine.json               what it is, and whether it runs
//! web/0.qcow2                    its first disk, as QEMU knows it
//! web/captures/<key>/0.qcow2     the same, as of a capture
//! ```

use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder};
use imago::{Storage as _, StorageCreateOptions, StorageOpenOptions};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use site_recovery::{Capture, DiskId, DiskSpec, Error, ErrorKind, Machine, Op, OpKey, Result, Timestamp};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open image.
pub(crate) type Image = FormatAccess<Storage>;

/// A machine, as its file keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(skip)]
    pub(crate) home: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) running: bool,
    /// Whether it is in our care.
    pub(crate) enrolled: bool,
    /// While it stands, nobody starts the machine.
    pub(crate) fence: Option<Fence>,
    /// Starts that are not made again.
    pub(crate) started_by: Vec<OpKey>,
    /// Keys that have lifted a fence: none lifts a newer one.
    pub(crate) lifted_by: Vec<OpKey>,
    pub(crate) captures: Vec<Capture>,
}

/// What a fence leaves, for us and for whoever finds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fence {
    pub(crate) by: Op,
    pub(crate) at: Timestamp,
    pub(crate) ran: bool,
    pub(crate) lifted_by: String,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Host(PathBuf);

impl Host {
    /// Opens it, or makes it.
    pub(crate) fn open(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(failed)?;
        Ok(Self(dir))
    }

    /// A turn: while it lasts, nobody else writes here, guests included. What has begun ends also when nobody waits for it
    /// any more; what has not, begins nothing.
    pub(crate) async fn turn<T, F>(&self, act: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Path) -> Result<T> + Send + 'static,
    {
        let (dir, caller) = (self.0.clone(), Arc::new(()));
        let waits = Arc::downgrade(&caller);
        let turn = blocking(move || {
            let lock = File::create(dir.join("lock")).map_err(failed)?;
            lock.lock().map_err(failed)?; // let go when `lock` is dropped, or when the process dies
            if waits.strong_count() == 0 {
                return Err(Error::new(ErrorKind::Cancelled, "nobody waits for this any more"));
            }
            act(&dir)
        });
        let done = turn.await;
        drop(caller);
        done
    }

    /// Puts a machine there, turned on, with empty disks.
    pub(crate) async fn add(&self, machine: Machine) -> Result<()> {
        self.turn(move |dir| {
            let home = dir.join(&machine.instance.name);
            fs::create_dir_all(&home).map_err(failed)?;
            for (number, disk) in machine.disks.iter().enumerate() {
                let file = StorageCreateOptions::new().filename(disk_file(&home, number));
                let file = Storage::create_open(file).map_err(failed)?;
                Qcow2::<_, Image>::create_builder(file).size(disk.size).create().map_err(failed)?;
            }
            let (running, enrolled, fence) = (true, false, None);
            Record {
                home,
                machine,
                running,
                enrolled,
                fence,
                started_by: vec![],
                lifted_by: vec![],
                captures: vec![],
            }
            .save()
        })
        .await
    }

    /// The guest writes.
    pub(crate) async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.turn(move |dir| {
            let image = open_image(&disk_file(&dir.join(name), disk), true)?;
            image.write(&bytes, at).and_then(|()| image.flush()).map_err(failed)
        })
        .await
    }

    /// What a disk holds.
    pub(crate) async fn content(&self, name: &str, disk: usize) -> Result<Vec<u8>> {
        let name = name.to_owned();
        self.turn(move |dir| {
            let image = open_image(&disk_file(&dir.join(name), disk), false)?;
            let mut bytes = vec![0; image.size() as usize];
            image.read(&mut bytes, 0).map_err(failed)?;
            Ok(bytes)
        })
        .await
    }

    /// Whether it runs.
    pub(crate) async fn is_running(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.turn(move |dir| Ok(Record::of(&dir.join(name))?.running)).await
    }
}

impl Record {
    /// Every machine's.
    pub(crate) fn all(dir: &Path) -> Result<Vec<Self>> {
        let homes = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        homes
            .iter()
            .map(fs::DirEntry::path)
            .filter(|path| path.is_dir())
            .map(|home| Self::of(&home))
            .collect()
    }

    /// That of the machine in a folder.
    pub(crate) fn of(home: &Path) -> Result<Self> {
        let missing =
            || Error::new(ErrorKind::NotFound, format!("there is no machine in {}", home.display()));
        let record: Self = get(&home.join("machine.json"))?.ok_or_else(missing)?;
        Ok(Self { home: home.to_owned(), ..record })
    }

    /// Reads it, changes it, and saves it.
    pub(crate) fn change<T>(home: &Path, effect: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut record = Self::of(home)?;
        let answer = effect(&mut record)?;
        record.save()?;
        Ok(answer)
    }

    /// Makes it count, in one step; then throws away the images of captures that it does not tell of.
    fn save(&self) -> Result<()> {
        put(&self.home.join("machine.json"), self)?;
        let Ok(folders) = fs::read_dir(self.home.join("captures")) else { return Ok(()) };
        for folder in folders {
            let folder = folder.map_err(failed)?.path();
            if self.captures.iter().all(|c| self.folder_of(c) != folder) {
                fs::remove_dir_all(folder).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Turned off, and no start from here on. A mark that stands already stays.
    pub(crate) fn stop_and_block(&mut self, by: Op, at: Timestamp) {
        let (ran, lifted_by) = (self.running, "unfence".into());
        self.fence.get_or_insert(Fence { by, at, ran, lifted_by });
        self.running = false;
    }

    /// Turns it on, once for each key.
    pub(crate) fn start(&mut self, key: OpKey) {
        if !self.started_by.contains(&key) {
            self.running = true;
            self.started_by.push(key);
        }
    }

    /// Lifts the fence, once for each key, and says whether the machine ran before it.
    pub(crate) fn lift(&mut self, key: &OpKey) -> bool {
        if self.lifted_by.contains(key) {
            return false;
        }
        self.lifted_by.push(key.clone());
        self.fence.take().is_some_and(|fence| fence.ran)
    }

    /// Copies the disks, for a capture that will be told of.
    pub(crate) fn copy_disks(&self, capture: &Capture) -> Result<()> {
        let folder = self.folder_of(capture);
        fs::create_dir_all(&folder).map_err(failed)?;
        for number in 0..self.machine.disks.len() {
            let (from, to) = (disk_file(&self.home, number), disk_file(&folder, number));
            fs::copy(from, &to).and_then(|_| File::open(to)?.sync_all()).map_err(failed)?;
        }
        File::open(folder).and_then(|f| f.sync_all()).map_err(failed)
    }

    /// The included disks of a capture that it tells of.
    pub(crate) fn images_of(&self, capture: &Capture) -> Result<Vec<(DiskId, Image)>> {
        let gone = || Error::new(ErrorKind::NotFound, format!("the capture {} is gone", capture.cut));
        let capture = self.captures.iter().find(|c| *c == capture).ok_or_else(gone)?;
        let disks = capture.members.iter().flat_map(|m| m.machine.disks.iter().enumerate());
        let open = |(number, disk): (usize, &DiskSpec)| {
            Ok((disk.id.clone(), open_image(&disk_file(&self.folder_of(capture), number), false)?))
        };
        disks.filter(|(_, disk)| disk.included).map(open).collect()
    }

    /// Where the images of a capture are.
    fn folder_of(&self, capture: &Capture) -> PathBuf {
        self.home.join("captures").join(OpKey(capture.cut.0.clone()).to_name())
    }
}

/// The image of the n-th disk.
fn disk_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.qcow2"))
}

/// Opens an image that stands alone: one that names a backing file is refused.
fn open_image(file: &Path, write: bool) -> Result<Image> {
    let file = Storage::open(StorageOpenOptions::new().filename(file).write(write)).map_err(failed)?;
    let image = Qcow2::<_, Image>::builder(file).write(write).open(DenyImplicitOpenGate::default());
    Ok(FormatAccess::new(image.map_err(failed)?))
}

/// What a file of JSON says; `None` where it is absent.
pub(crate) fn get<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    let damaged =
        |e| Error::new(ErrorKind::Corrupt, format!("{} cannot be read", file.display())).caused_by(e);
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(damaged),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

/// Replaces a file of JSON, durably, and never by half of it.
pub(crate) fn put(file: &Path, value: &impl Serialize) -> Result<()> {
    let (bytes, next) = (serde_json::to_vec(value).expect("plain data"), file.with_extension("next"));
    let folder = file.parent().expect("a file is in a folder");
    fs::write(&next, bytes).and_then(|()| File::open(&next)?.sync_all()).map_err(failed)?;
    fs::rename(&next, file).and_then(|()| File::open(folder)?.sync_all()).map_err(failed)
}

/// Off the async workers. It goes on when nobody waits for it any more.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let lost = |e| Error::new(ErrorKind::Unavailable, "the call did not end").caused_by(e);
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

pub(crate) fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the host's folder cannot be used").caused_by(error)
}
