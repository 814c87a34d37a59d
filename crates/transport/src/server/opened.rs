//! Disks that a connection has open, by the client's handles: of points, of captures, of landings.

use super::served::Served;
use crate::fault::Result;
use crate::frame::Place;
use crate::message::{Openable, Opened};
use crate::told::Told;
use site_recovery::{CutId, Disk, DiskMut, Disks, Error, ErrorKind, MachineId, PointId, Replica};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What a handle stands for: nothing yet, disks, or why there are none.
type Outcome = Option<Result<Open, Told>>;

#[derive(Debug, Clone)]
enum Open {
    ToRead(Arc<Disks>),
    Landing(Arc<dyn DiskMut>),
}

#[derive(Debug, Default)]
pub(super) struct OpenDisks(Mutex<HashMap<u64, watch::Receiver<Outcome>>>);

/// A handle whose point is being opened.
#[derive(Debug)]
pub(super) struct Opening(watch::Sender<Outcome>);

impl OpenDisks {
    /// Takes a handle, before its point is opened: reads that follow wait for it.
    pub(super) fn begin(&self, handle: u64) -> Opening {
        let (outcome, told) = watch::channel(None);
        self.lock().insert(handle, told);
        Opening(outcome)
    }

    /// Lets a point go.
    pub(super) fn close(&self, handle: u64) {
        let closed = self.lock().remove(&handle);
        drop(closed);
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// One of the disks behind a handle.
    pub(super) async fn disk(&self, place: Place) -> Result<Arc<dyn Disk>> {
        match self.open(place.handle).await? {
            Open::ToRead(disks) => disks.values().nth(place.disk as usize).cloned().ok_or_else(|| {
                let said = format!("there is no disk number {} behind this handle", place.disk);
                Error::new(ErrorKind::NotFound, said)
            }),
            Open::Landing(disk) => Ok(disk as _),
        }
    }

    /// The landing disk behind a handle.
    pub(super) async fn landing(&self, handle: u64) -> Result<Arc<dyn DiskMut>> {
        match self.open(handle).await? {
            Open::Landing(disk) => Ok(disk),
            Open::ToRead(_) => {
                Err(Error::new(ErrorKind::Refused, format!("handle {handle} is open to be read alone")))
            }
        }
    }

    async fn open(&self, handle: u64) -> Result<Open> {
        let gone = || Error::new(ErrorKind::NotFound, format!("handle {handle} is not open"));
        let mut told = self.lock().get(&handle).cloned().ok_or_else(gone)?;
        let outcome = told.wait_for(Option::is_some).await.map_err(|_| gone())?;
        match outcome.as_ref().expect("waited for") {
            Ok(open) => Ok(open.clone()),
            Err(told) => Err(told.clone().into()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, watch::Receiver<Outcome>>> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Opening {
    /// Opens what the handle is to stand for. With `cut`, only where it is that cut.
    pub(super) async fn open(self, on: &Served, what: Openable, cut: Option<CutId>) -> Result<Opened> {
        match open(on, what, cut).await {
            Ok((open, opened)) => {
                self.0.send_replace(Some(Ok(open)));
                Ok(opened)
            }
            Err(error) => {
                self.0.send_replace(Some(Err(Told::from(&error))));
                Err(error)
            }
        }
    }
}

async fn open(on: &Served, what: Openable, cut: Option<CutId>) -> Result<(Open, Opened)> {
    let (disks, now) = match what {
        Openable::Point { machine, point } => {
            let replica = on.replica()?;
            let disks = replica.open(&machine, point).await?;
            let now = cut_of(&**replica, &machine, point).await?;
            if let Some(then) = cut.filter(|then| *then != now) {
                let said = format!("point {point} was cut {then} when it was opened, and is {now} now");
                return Err(Error::new(ErrorKind::NotFound, said));
            }
            (disks, now)
        }
        Openable::Captured { op, capture, machine } => {
            (on.source()?.disks(&op, &capture, &machine).await?, capture.cut)
        }
        Openable::Landing { instance, disk } => {
            let open = on.landing_site()?.disk(&instance, &disk).await?;
            let opened = Opened { cut: None, disks: vec![(disk, open.size())] };
            return Ok((Open::Landing(open), opened));
        }
    };
    let sizes = disks.iter().map(|(id, disk)| (id.clone(), disk.size())).collect();
    Ok((Open::ToRead(Arc::new(disks)), Opened { cut: Some(now), disks: sizes }))
}

/// Point zero of a landing was never sealed: it is listed, and has no manifest.
async fn cut_of(replica: &dyn Replica, machine: &MachineId, point: PointId) -> Result<CutId> {
    let error = match replica.manifest(machine, point).await {
        Ok(manifest) => return Ok(manifest.cut),
        Err(error) => error,
    };
    let listed = replica.points(machine).await?.into_iter().find(|listed| listed.id == point);
    listed.map(|listed| listed.cut).ok_or(error)
}
