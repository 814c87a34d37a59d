//! Where every call goes through: the lock of its machine, the epoch register, and a task that ends what was begun.

use crate::folder::Folder;
use crate::line::Line;
use crate::register;
use crate::timeline::Timeline;
use site_recovery::{
    Clock, DiskId, DiskMut, Error, ErrorKind, Instance, LandingSite, MachineId, Op, OpKey, Pool, Result,
    RoleName, Spawner,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot};

/// Bytes of memory for what is read of landing disks.
const MEMORY: usize = 32 << 20;

/// What all calls share.
pub(crate) struct Desk {
    pub(crate) name: RoleName,
    pub(crate) landing: Arc<dyn LandingSite>,
    pub(crate) root: Folder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: Pool,
    spawner: Arc<dyn Spawner>,
    lines: Mutex<BTreeMap<MachineId, Arc<RwLock<Line>>>>,
}

/// A machine whose timeline nobody else reads or changes.
#[derive(Debug)]
pub(crate) struct Entered {
    line: Option<OwnedRwLockWriteGuard<Line>>,
    _lock: File,
}

/// A machine whose timeline nobody changes.
#[derive(Debug)]
pub(crate) struct Looking {
    line: OwnedRwLockReadGuard<Line>,
    _lock: File,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("name", &self.name).field("root", &self.root).finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(
        name: RoleName,
        landing: Arc<dyn LandingSite>,
        root: Folder,
        clock: Arc<dyn Clock>,
        spawner: Arc<dyn Spawner>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            landing,
            root,
            clock,
            pool: Pool::new(MEMORY),
            spawner,
            lines: Mutex::default(),
        })
    }

    /// Runs a call to its end, whether or not anybody waits for it.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        self.spawner.spawn(Box::pin(async move {
            // Nobody waits any more: the answer is found again by the same key.
            drop(tell.send(call.await));
        }));
        let lost = |_| Err(Error::new(ErrorKind::Unavailable, "the call was cut off before it could answer"));
        told.await.unwrap_or_else(lost).map_err(|e| e.at(&self.name, operation))
    }

    /// Takes a machine in hand under an authority.
    pub(crate) async fn enter(&self, op: &Op, machine: &MachineId) -> Result<Entered> {
        let mut entered = self.take(machine).await?;
        let op = op.clone();
        entered.blocking(move |line| register::pass(&line.folder, &op)).await?;
        Ok(entered)
    }

    /// Takes a machine in hand to write down what was seen, which needs no authority.
    pub(crate) async fn take(&self, machine: &MachineId) -> Result<Entered> {
        let mut line = self.line(machine).write_owned().await;
        let (line, lock) = blocking(move || {
            line.folder.make()?;
            let lock = line.lock(true)?;
            if !line.is_fresh()? {
                line.load()?;
            }
            Ok((line, lock))
        })
        .await?;
        Ok(Entered { line: Some(line), _lock: lock })
    }

    /// Looks at a machine; none where nothing was ever written of it.
    pub(crate) async fn look(&self, machine: &MachineId) -> Result<Option<Looking>> {
        loop {
            let line = self.line(machine).read_owned().await;
            let looked = blocking(move || {
                if !line.folder.exists() {
                    return Ok(Looked::Nothing);
                }
                let lock = line.lock(false)?;
                Ok(if line.is_fresh()? {
                    Looked::Fresh(Looking { line, _lock: lock })
                } else {
                    Looked::Stale
                })
            });
            match looked.await? {
                Looked::Nothing => return Ok(None),
                Looked::Fresh(looking) => return Ok(Some(looking)),
                Looked::Stale => drop(self.take(machine).await?),
            }
        }
    }

    /// As [`look`](Self::look), at a machine that has a timeline.
    pub(crate) async fn look_at(&self, machine: &MachineId) -> Result<Looking> {
        let unknown = || Error::new(ErrorKind::NotFound, format!("no timeline of {machine}"));
        self.look(machine).await?.filter(|l| l.timeline.is_some()).ok_or_else(unknown)
    }

    /// One landing disk, by a handle that is kept while it is good.
    pub(crate) async fn disk(&self, line: &Line, id: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let known = line.handles.lock().expect("no panic under this lock").get(id).cloned();
        if let Some(disk) = known {
            return Ok(disk);
        }
        let disk = self.landing.disk(&line.known()?.landing, id).await?;
        line.handles.lock().expect("no panic under this lock").insert(id.clone(), Arc::clone(&disk));
        Ok(disk)
    }

    fn line(&self, machine: &MachineId) -> Arc<RwLock<Line>> {
        let mut lines = self.lines.lock().expect("no panic under this lock");
        let new = || Arc::new(RwLock::new(Line::new(self.root.below(&folder_name(machine)))));
        Arc::clone(lines.entry(machine.clone()).or_insert_with(new))
    }
}

enum Looked {
    Nothing,
    Stale,
    Fresh(Looking),
}

impl Entered {
    /// Runs file or CPU work on the line, off the async workers.
    pub(crate) async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Line) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut line = self.line.take().expect("put back by every call before");
        let (line, done) = blocking(move || {
            let done = work(&mut line);
            Ok((line, done))
        })
        .await?;
        self.line = Some(line);
        done
    }

    /// Changes the timeline; durable when this returns.
    pub(crate) async fn publish(&mut self, change: impl FnOnce(&mut Timeline)) -> Result<()> {
        let mut next = self.known()?.clone();
        change(&mut next);
        self.blocking(move |line| line.publish(next)).await
    }

    /// Every handle given out before has ended.
    pub(crate) fn end_handles(&mut self) {
        self.handles = Mutex::default();
    }

    pub(crate) fn landing(&self) -> Result<Instance> {
        Ok(self.known()?.landing.clone())
    }
}

impl Deref for Entered {
    type Target = Line;
    fn deref(&self) -> &Line {
        self.line.as_ref().expect("put back by every call")
    }
}

impl DerefMut for Entered {
    fn deref_mut(&mut self) -> &mut Line {
        self.line.as_mut().expect("put back by every call")
    }
}

impl Deref for Looking {
    type Target = Line;
    fn deref(&self) -> &Line {
        &self.line
    }
}

/// Runs work that blocks off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let cut = |e| Error::new(ErrorKind::Unavailable, "work was cut off").caused_by(e);
    tokio::task::spawn_blocking(work).await.map_err(cut)?
}

/// A machine's folder: a name that every file system takes.
pub(crate) fn folder_name(machine: &MachineId) -> String {
    format!("machine-{}", OpKey(machine.0.clone()).to_name())
}
