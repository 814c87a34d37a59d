//! One machine at this process server: its epoch register, and whose turn it is.

use crate::blocking::blocking;
use crate::progress::Progress;
use crate::spool::durable;
use futures_util::future::{Either, select};
use site_recovery::{Clock, CutId, Epoch, Error, ErrorKind, MachineId, Op, Point, PointId, Result, Shipped};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

#[derive(Debug)]
pub(crate) struct Desk {
    machine: MachineId,
    register: Arc<AsyncMutex<Register>>,
    raised: watch::Sender<Option<Epoch>>,
    work: Arc<AsyncMutex<()>>,
    holder: Mutex<Option<Epoch>>,
    pub(crate) progress: Progress,
    /// What the newest point of this life of the process cost, for a repeat of its call.
    pub(crate) cost: Mutex<Option<(CutId, PointId, Cost)>>,
}

/// What a shipment cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) changed: u64,
    pub(crate) shipped: u64,
    pub(crate) incompressible: u64,
}

impl Cost {
    pub(crate) fn of(self, point: Point) -> Shipped {
        let Cost { changed, shipped, incompressible } = self;
        Shipped::Sealed { point, changed, shipped, incompressible }
    }
}

#[derive(Debug)]
struct Register {
    file: Option<PathBuf>,
    loaded: bool,
    epoch: Option<Epoch>,
}

/// The right to work for a machine: held by one call at a time, and by the blocking work that the call started, so that
/// nothing of an earlier call goes on when the next one begins.
#[derive(Debug, Clone)]
pub(crate) struct Turn(#[allow(dead_code, reason = "held, never read")] Arc<Held>);

#[derive(Debug)]
struct Held {
    desk: Arc<Desk>,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.desk.holder.lock().expect("no panic under this lock") = None;
    }
}

/// The transfer ends with the call, also when what it left behind holds the turn on.
struct Ends<'a>(&'a Progress);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Desk {
    /// `register` is the file that keeps the epoch; without one it lives as long as the process, and the replica's
    /// register alone outlasts it.
    pub(crate) fn new(machine: MachineId, register: Option<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let register = Register { loaded: register.is_none(), file: register, epoch: None };
        Self {
            progress: Progress::new(machine.clone(), clock),
            machine,
            register: Arc::new(AsyncMutex::new(register)),
            raised: watch::Sender::new(None),
            work: Arc::default(),
            holder: Mutex::default(),
            cost: Mutex::default(),
        }
    }

    pub(crate) fn machine(&self) -> &MachineId {
        &self.machine
    }

    /// Runs `work` when it is its turn, and stops it as soon as a higher epoch arrives.
    pub(crate) async fn under<T, F: Future<Output = Result<T>>>(
        self: &Arc<Self>,
        op: &Op,
        work: impl FnOnce(Turn) -> F,
    ) -> Result<T> {
        self.admit(op).await?;
        let mut raised = self.raised.subscribe();
        let stale = pin!(async { raised.wait_for(|now| !op.epoch.passes(now.as_ref())).await.is_ok() });
        let run = pin!(async {
            let turn = self.turn(op).await;
            let _ends = Ends(&self.progress);
            work(turn).await
        });
        match select(run, stale).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(self.stale(op)),
        }
    }

    /// Raises the register and waits until what an older epoch began is over.
    pub(crate) async fn claim(self: &Arc<Self>, op: &Op) -> Result<()> {
        self.admit(op).await?;
        if self.holder.lock().expect("no panic under this lock").as_ref() != Some(&op.epoch) {
            drop(self.work.lock().await);
        }
        Ok(())
    }

    async fn admit(&self, op: &Op) -> Result<()> {
        let mut register = Arc::clone(&self.register).lock_owned().await;
        let (stale, raised, epoch) = (self.stale(op), self.raised.clone(), op.epoch.clone());
        if register.loaded && register.epoch.as_ref() == Some(&epoch) {
            return Ok(());
        }
        blocking(move || {
            register.load()?;
            if !epoch.passes(register.epoch.as_ref()) {
                return Err(stale);
            }
            if register.epoch.as_ref() != Some(&epoch) {
                if let Some(file) = &register.file {
                    durable::write_json(file, &epoch)?;
                }
                register.epoch = Some(epoch.clone());
            }
            raised.send_replace(Some(epoch));
            Ok(())
        })
        .await
    }

    async fn turn(self: &Arc<Self>, op: &Op) -> Turn {
        let guard = Arc::clone(&self.work).lock_owned().await;
        *self.holder.lock().expect("no panic under this lock") = Some(op.epoch.clone());
        Turn(Arc::new(Held { desk: Arc::clone(self), _guard: guard }))
    }

    fn stale(&self, op: &Op) -> Error {
        let Epoch { number, owner } = &op.epoch;
        Error::new(ErrorKind::StaleEpoch, format!("epoch {number} of {owner} was passed by a higher one"))
            .with("machine", &self.machine)
    }
}

impl Register {
    fn load(&mut self) -> Result<()> {
        if let (false, Some(file)) = (self.loaded, &self.file) {
            self.epoch = durable::read_json(file)?;
        }
        self.loaded = true;
        Ok(())
    }
}
