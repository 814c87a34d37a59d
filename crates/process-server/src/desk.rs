//! One machine at this process server: its epoch register, whose turn it is, and how far the transfer is.

use crate::blocking::blocking;
use crate::spool::durable;
use futures_util::future::{Either, select};
use site_recovery::{CutId, Epoch, Error, ErrorKind, MachineId, Op, PointId, Result};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
        self.desk.progress.end(&self.desk.machine);
    }
}

impl Desk {
    /// `register` is the file that keeps the epoch; without one it lives as long as the process, and the replica's
    /// register alone outlasts it.
    pub(crate) fn new(machine: MachineId, register: Option<PathBuf>) -> Self {
        let register = Register { loaded: register.is_none(), file: register, epoch: None };
        Self {
            machine,
            register: Arc::new(AsyncMutex::new(register)),
            raised: watch::Sender::new(None),
            work: Arc::default(),
            holder: Mutex::default(),
            progress: Progress::default(),
            cost: Mutex::default(),
        }
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
        let run = pin!(async { work(self.turn(op).await).await });
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

/// How far the transfer under way is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    transfer: AtomicU64,
    backlog: AtomicU64,
    shipped: AtomicU64,
}

impl Progress {
    pub(crate) fn begin(&self, machine: &MachineId, bytes: u64) {
        self.transfer.store(bytes, Relaxed);
        self.backlog.store(bytes, Relaxed);
        self.show(machine);
    }

    /// `done` bytes of the set are settled, for `crossed` bytes on the way.
    pub(crate) fn advance(&self, machine: &MachineId, done: u64, crossed: u64) {
        let left = self.backlog.load(Relaxed).saturating_sub(done);
        self.backlog.store(left, Relaxed);
        self.shipped.fetch_add(crossed, Relaxed);
        metrics::counter!("site_recovery_shipped_bytes_total", "machine" => machine.0.clone())
            .increment(crossed);
        self.show(machine);
    }

    fn end(&self, machine: &MachineId) {
        self.transfer.store(0, Relaxed);
        self.backlog.store(0, Relaxed);
        self.show(machine);
    }

    fn show(&self, machine: &MachineId) {
        metrics::gauge!("site_recovery_backlog_bytes", "machine" => machine.0.clone())
            .set(self.backlog.load(Relaxed) as f64);
    }

    /// Backlog, transfer, shipped since start.
    pub(crate) fn read(&self) -> (u64, u64, u64) {
        (self.backlog.load(Relaxed), self.transfer.load(Relaxed), self.shipped.load(Relaxed))
    }
}
