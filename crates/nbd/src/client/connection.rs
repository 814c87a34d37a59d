//! One connection: requests go out as they come, answers are matched as they come back.

use super::flight::{Covered, Flight, Pending, Want};
use super::handshake::Agreed;
use super::turns::Turn;
use crate::address::Stream;
use crate::fault::Result;
use crate::fault::{Fault, within};
use crate::protocol::*;
use bytes::{Buf, Bytes};
use site_recovery::{Block, Clock, Error, ErrorKind, Run, Spawner};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Requests in flight at a time.
const WINDOW: usize = 32;
/// What is read ahead of an answer's bytes, and copied once more: small beside them, large beside their heads.
const AHEAD: usize = 4096;

#[derive(Debug)]
pub(crate) struct Connection {
    flight: Arc<Flight>,
    queue: mpsc::UnboundedSender<Outgoing>,
    slots: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    /// Set to end the connection.
    cut: watch::Sender<bool>,
}

/// A request on its way to the stream, whole: who sends it may be gone before the stream takes it.
struct Outgoing {
    head: [u8; Request::SIZE],
    /// Nothing but of a write.
    payload: Bytes,
}

impl Connection {
    /// Runs in a task of its own, until it breaks or is dropped.
    pub(crate) fn start(
        stream: Box<dyn Stream>,
        agreed: &Agreed,
        clock: Arc<dyn Clock>,
        timeout: Duration,
        spawner: &dyn Spawner,
    ) -> Self {
        let (queue, requests) = mpsc::unbounded_channel();
        let (cut, is_cut) = watch::channel(false);
        let flight = Arc::new(Flight::default());
        let task = run(stream, requests, Arc::clone(&flight), agreed.structured, is_cut, timeout);
        spawner.spawn(Box::pin(task));
        Self { flight, queue, slots: Arc::new(Semaphore::new(WINDOW)), clock, timeout, cut }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.flight.broken().is_some()
    }

    pub(crate) fn broken(&self) -> Option<Error> {
        self.flight.broken()
    }

    /// How many more requests go out at once.
    pub(crate) fn free(&self) -> usize {
        self.slots.available_permits()
    }

    /// Fills `part` of a block that holds the disk's bytes from `base` on.
    pub(crate) async fn read(&self, base: u64, part: Run, block: Block) -> Result<Block> {
        let start = base + part.start;
        let want = Want::Bytes { start, part, block, covered: Covered::default() };
        match self.call(command::READ, Run::new(start, part.len), Bytes::new(), want).await? {
            Want::Bytes { block, .. } => Ok(block),
            _ => unreachable!("a request keeps its kind"),
        }
    }

    /// Lengths and flags from the start of `run`: at least one, not always all.
    pub(crate) async fn status(&self, run: Run, context: u32) -> Result<Vec<(u32, u32)>> {
        let want = Want::Status { context, told: vec![] };
        match self.call(command::BLOCK_STATUS, run, Bytes::new(), want).await? {
            Want::Status { told, .. } => Ok(told),
            _ => unreachable!("a request keeps its kind"),
        }
    }

    /// Writes `data`, and holds `turn` until the server has answered.
    pub(crate) async fn write(&self, start: u64, data: Bytes, turn: &Arc<Turn>) -> Result<()> {
        let run = Run::new(start, data.len() as u64);
        self.call(command::WRITE, run, data, Want::Written { _turn: Arc::clone(turn) }).await.map(drop)
    }

    /// Makes `run` read as zeros, and holds `turn` until the server has answered.
    pub(crate) async fn zero(&self, run: Run, turn: &Arc<Turn>) -> Result<()> {
        let want = Want::Written { _turn: Arc::clone(turn) };
        self.call(command::WRITE_ZEROES, run, Bytes::new(), want).await.map(drop)
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        self.call(command::FLUSH, Run::new(0, 0), Bytes::new(), Want::Flushed).await.map(drop)
    }

    async fn call(&self, command: u16, run: Run, payload: Bytes, want: Want) -> Result<Want> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the window is never closed");
        let (answer, answered) = oneshot::channel();
        let cookie = self.flight.board(Pending { want, answer, _slot: slot })?;
        let head = Request { flags: 0, command, cookie, offset: run.start, len: run.len as u32 }.encode();
        // Where the task has ended, so has the flight, and says why below.
        let _ = self.queue.send(Outgoing { head, payload });
        let outcome = within(&*self.clock, self.timeout, "answer", async { Ok(answered.await) }).await;
        match outcome {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let gone = || Error::new(ErrorKind::Unavailable, "the connection's task is gone");
                Err(self.flight.broken().unwrap_or_else(gone))
            }
            Err(fault) => {
                // Now, and not when the task notices: nothing is asked for after this.
                let error = self.flight.end(fault);
                let _ = self.cut.send(true);
                Err(error)
            }
        }
    }
}

async fn run(
    stream: Box<dyn Stream>,
    requests: mpsc::UnboundedReceiver<Outgoing>,
    flight: Arc<Flight>,
    structured: bool,
    mut is_cut: watch::Receiver<bool>,
    timeout: Duration,
) {
    let (reader, writer) = tokio::io::split(stream);
    let fault = tokio::select! {
        biased;
        Ok(_) = is_cut.wait_for(|cut| *cut) => Fault::Silent { what: "answer", span: timeout },
        fault = receive(reader, &flight, structured) => fault,
        fault = send(writer, requests) => fault,
    };
    flight.end(fault);
}

async fn receive(reader: ReadHalf<Box<dyn Stream>>, flight: &Flight, structured: bool) -> Fault {
    let mut reader = BufReader::with_capacity(AHEAD, reader);
    loop {
        if let Err(fault) = flight.land(&mut reader, structured).await {
            return fault;
        }
    }
}

/// Several requests go out as one, where several wait, up to the first one with a payload.
async fn send(
    mut writer: WriteHalf<Box<dyn Stream>>,
    mut requests: mpsc::UnboundedReceiver<Outgoing>,
) -> Fault {
    let mut heads = Vec::with_capacity(WINDOW * Request::SIZE);
    while let Some(Outgoing { head, mut payload }) = requests.recv().await {
        heads.clear();
        heads.extend(head);
        while payload.is_empty() {
            let Ok(next) = requests.try_recv() else { break };
            heads.extend(next.head);
            payload = next.payload;
        }
        let written = async {
            writer.write_all_buf(&mut heads.as_slice().chain(payload)).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
    }
    let bye = Request { flags: 0, command: command::DISC, cookie: 0, offset: 0, len: 0 };
    let _ = writer.write_all(&bye.encode()).await;
    let _ = writer.shutdown().await;
    Fault::Ended("closed by its owner")
}
