//! Points that a connection has open, by the client's handles.

use crate::fault::Result;
use crate::frame::Place;
use crate::message::Opened;
use crate::told::Told;
use site_recovery::{CutId, Disk, Disks, Error, ErrorKind, MachineId, PointId, RecoveryPointStore};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What a handle stands for: nothing yet, disks, or why there are none.
type Outcome = Option<Result<Arc<Disks>, Told>>;

#[derive(Debug, Default)]
pub(super) struct OpenPoints(Mutex<HashMap<u64, watch::Receiver<Outcome>>>);

/// A handle whose point is being opened.
#[derive(Debug)]
pub(super) struct Opening(watch::Sender<Outcome>);

impl OpenPoints {
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
        let gone = || Error::new(ErrorKind::NotFound, format!("handle {} is not open", place.handle));
        let mut told = self.lock().get(&place.handle).cloned().ok_or_else(gone)?;
        let outcome = told.wait_for(Option::is_some).await.map_err(|_| gone())?;
        match outcome.as_ref().expect("waited for") {
            Ok(disks) => {
                let disk = disks.values().nth(place.disk as usize);
                disk.cloned().ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("the point has no disk number {}", place.disk))
                })
            }
            Err(told) => Err(told.clone().into()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, watch::Receiver<Outcome>>> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Opening {
    /// Opens the point for the handle. With `cut`, only where it is that cut.
    pub(super) async fn open(
        self,
        role: &dyn RecoveryPointStore,
        machine: &MachineId,
        point: PointId,
        cut: Option<CutId>,
    ) -> Result<Opened> {
        let opened = async {
            let disks = role.open(machine, point).await?;
            let now = role.manifest(machine, point).await?.cut;
            match cut {
                Some(then) if then != now => {
                    let said = format!("point {point} was cut {then} when it was opened, and is {now} now");
                    Err(Error::new(ErrorKind::NotFound, said))
                }
                _ => Ok((disks, now)),
            }
        };
        match opened.await {
            Ok((disks, cut)) => {
                let sizes = disks.iter().map(|(id, disk)| (id.clone(), disk.size())).collect();
                self.0.send_replace(Some(Ok(Arc::new(disks))));
                Ok(Opened { cut, disks: sizes })
            }
            Err(error) => {
                self.0.send_replace(Some(Err(Told::from(&error))));
                Err(error)
            }
        }
    }
}
