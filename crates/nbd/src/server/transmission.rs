//! Requests and their answers, once an export is chosen. Requests are answered beside each other, in any order.

use super::export::{From, PIECE, Part};
use super::handshake::Agreed;
use super::reply::{Outlet, Refusal};
use super::{Export, Limits, Offer};
use crate::address::Stream;
use crate::fault::{Fault, within};
use crate::protocol::*;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use site_recovery::{Pool, Run};
use std::future::Future;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, ReadHalf};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

/// Serves until the client leaves or the server is stopped.
pub(crate) async fn transmit(agreed: Agreed, offer: Arc<Offer>) -> Result<(), Fault> {
    let (reader, writer) = tokio::io::split(agreed.stream);
    let (jobs, queue) = mpsc::channel(1);
    let session = Arc::new(Session {
        export: agreed.export,
        structured: agreed.structured,
        contexts: agreed.contexts,
        limits: offer.limits,
        pool: Pool::new(offer.limits.memory - 2 * PIECE as usize),
        slots: Arc::new(Semaphore::new(offer.limits.requests)),
        outlet: Mutex::new(Outlet::new(writer)),
        offer,
    });
    let reading = session.read_requests(BufReader::with_capacity(64 * 1024, reader), jobs);
    tokio::try_join!(reading, answer_all(Arc::clone(&session), queue))?;
    // Who has left need not hear it.
    let mut out = session.outlet.lock().await;
    let _ = session.promptly("end", out.shut()).await;
    Ok(())
}

/// Beside each other, as many as are under way.
async fn answer_all(session: Arc<Session>, mut queue: mpsc::Receiver<Job>) -> Result<(), Fault> {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(job) = queue.recv() => {
                let session = Arc::clone(&session);
                under_way.push(async move { session.answer(job).await });
            }
            Some(answered) = under_way.next() => answered?,
            else => return Ok(()),
        }
    }
}

struct Session {
    export: Arc<Export>,
    structured: bool,
    contexts: Vec<u32>,
    limits: Limits,
    pool: Pool,
    slots: Arc<Semaphore>,
    outlet: Mutex<Outlet>,
    offer: Arc<Offer>,
}

/// A request, and its outcome where it was done while it was read.
struct Job {
    request: Request,
    written: Option<Result<(), Refusal>>,
    _slot: OwnedSemaphorePermit,
}

const WRITING: &str = "reader of an answer";

type Reader = BufReader<ReadHalf<Box<dyn Stream>>>;

impl Session {
    async fn read_requests(&self, mut reader: Reader, jobs: mpsc::Sender<Job>) -> Result<(), Fault> {
        while let Some(request) = self.next(&mut reader).await? {
            if request.command == command::DISC {
                break;
            }
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let slot = slot.map_err(|_| Fault::Ended("no more requests"))?;
            let written = match request.command {
                command::WRITE => Some(self.receive(&mut reader, &request).await?),
                _ => None,
            };
            if jobs.send(Job { request, written, _slot: slot }).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The next request, or nothing when the client has left or the server stops.
    async fn next(&self, reader: &mut Reader) -> Result<Option<Request>, Fault> {
        loop {
            tokio::select! {
                biased;
                () = self.offer.stopping() => return Ok(None),
                more = reader.fill_buf() => if more?.is_empty() { return Ok(None) } else { break },
                () = self.offer.clock.sleep(self.limits.idle) => {
                    if self.slots.available_permits() == self.limits.requests {
                        return Err(Fault::Silent { what: "request", span: self.limits.idle });
                    }
                }
            }
        }
        let mut head = [0; Request::SIZE];
        self.promptly("rest of a request", async { Ok(reader.read_exact(&mut head).await?) }).await?;
        Request::parse(&head).map(Some)
    }

    /// Takes the bytes of a write in any case, since the next request lies behind them.
    async fn receive(&self, reader: &mut Reader, request: &Request) -> Result<Result<(), Refusal>, Fault> {
        if request.len > LONGEST_PAYLOAD {
            return Err(Fault::protocol(format!("a write of {} bytes", request.len)));
        }
        let mut outcome = self.check(request).map(drop);
        for piece in Run::new(0, request.len.into()).pieces(PIECE) {
            let taken =
                self.promptly("memory for a write", async { Ok(self.pool.take(piece.len as usize).await) });
            let mut block = taken.await?.map_err(Fault::CutShort)?;
            self.promptly("rest of a write", async { Ok(reader.read_exact(&mut block).await?) }).await?;
            if let (Ok(()), Some(overlay)) = (&outcome, self.export.overlay()) {
                outcome =
                    overlay.write(request.offset + piece.start, block.freeze()).await.map_err(Refusal::from);
            }
        }
        Ok(outcome)
    }

    async fn answer(&self, job: Job) -> Result<(), Fault> {
        let request = &job.request;
        let outcome = match (job.written, self.check(request)) {
            (Some(outcome), _) => outcome,
            (None, Err(refusal)) => Err(refusal),
            (None, Ok(run)) => match request.command {
                command::READ => return self.answer_read(request, run).await,
                command::BLOCK_STATUS => return self.answer_status(request, run).await,
                command::TRIM | command::WRITE_ZEROES => match self.export.overlay() {
                    Some(overlay) => overlay.zero(run).await.map_err(Refusal::from),
                    None => Ok(()),
                },
                // What is thrown away needs not survive a power cut, and what is cached is at hand anyway.
                _ => Ok(()),
            },
        };
        self.conclude(request, outcome, None).await
    }

    /// The run that a request is about.
    fn check(&self, request: &Request) -> Result<Run, Refusal> {
        use command::*;
        let flags = match request.command {
            READ if self.structured => command_flag::DF,
            READ | FLUSH | CACHE => 0,
            WRITE | TRIM => 0,
            WRITE_ZEROES => command_flag::NO_HOLE,
            BLOCK_STATUS => command_flag::REQ_ONE,
            _ => return Err(Refusal::invalid("no such command")),
        };
        if request.flags & !(flags | command_flag::FUA) != 0 {
            return Err(Refusal::invalid("a flag that was not offered"));
        }
        if matches!(request.command, WRITE | TRIM | WRITE_ZEROES) && self.export.overlay().is_none() {
            return Err(Refusal { errno: errno::PERM, message: "the export is read-only".into() });
        }
        if request.command == FLUSH {
            return Ok(Run::new(0, 0));
        }
        let end = request.offset.checked_add(request.len.into());
        if end.is_none_or(|end| end > self.export.size()) {
            let past_end = match request.command {
                WRITE | WRITE_ZEROES => errno::NOSPC,
                _ => errno::INVAL,
            };
            return Err(Refusal { errno: past_end, message: "past the end of the disk".into() });
        }
        if request.command == READ && request.len > LONGEST_PAYLOAD {
            return Err(Refusal::invalid("longer than the longest payload"));
        }
        if request.command == BLOCK_STATUS && (request.len == 0 || self.contexts.is_empty()) {
            return Err(Refusal::invalid("nothing is asked for"));
        }
        Ok(Run::new(request.offset, request.len.into()))
    }

    async fn answer_read(&self, request: &Request, run: Run) -> Result<(), Fault> {
        let parts = match self.export.parts(run).await {
            Ok(parts) => parts,
            Err(error) => return self.conclude(request, Err(error.into()), Some(run.start)).await,
        };
        if run.len == 0 || !self.structured || request.flags & command_flag::DF != 0 {
            return self.answer_in_one(request, &parts).await;
        }
        for (at, part) in parts.iter().enumerate() {
            let done = at + 1 == parts.len();
            let place = part.run.start.to_be_bytes();
            if part.from == From::Zeros {
                let mut hole = place.to_vec();
                hole.extend((part.run.len as u32).to_be_bytes());
                let mut out = self.outlet.lock().await;
                let say = async {
                    out.chunk(request, (chunk::OFFSET_HOLE, done), &hole, 0).await?;
                    out.flush().await
                };
                self.promptly(WRITING, say).await?;
                continue;
            }
            match self.export.read(*part, &self.pool).await {
                Ok(bytes) => {
                    let mut out = self.outlet.lock().await;
                    let say = async {
                        let more = bytes.len() as u32;
                        out.chunk(request, (chunk::OFFSET_DATA, done), &place, more).await?;
                        out.bytes(&bytes).await?;
                        out.flush().await
                    };
                    self.promptly(WRITING, say).await?;
                }
                Err(error) => {
                    return self.conclude(request, Err(error.into()), Some(part.run.start)).await;
                }
            }
        }
        Ok(())
    }

    /// All bytes behind one head. What fails after the head can only be told by the end of the connection.
    async fn answer_in_one(&self, request: &Request, parts: &[Part]) -> Result<(), Fault> {
        let mut first = None;
        if let Some(part) = parts.first().filter(|p| p.from != From::Zeros) {
            match self.export.read(*part, &self.pool).await {
                Ok(bytes) => first = Some(bytes),
                Err(error) => return self.conclude(request, Err(error.into()), Some(part.run.start)).await,
            }
        }
        let mut out = self.outlet.lock().await;
        let say = async {
            match self.structured {
                false => out.simple(request, 0).await?,
                true if request.len == 0 => out.chunk(request, (chunk::NONE, true), &[], 0).await?,
                true => {
                    let place = request.offset.to_be_bytes();
                    out.chunk(request, (chunk::OFFSET_DATA, true), &place, request.len).await?;
                }
            }
            for part in parts {
                match (part.from, first.take()) {
                    (_, Some(bytes)) => out.bytes(&bytes).await?,
                    (From::Zeros, None) => out.zeros(part.run.len).await?,
                    (_, None) => {
                        let bytes = self.export.read(*part, &out.spare).await.map_err(Fault::CutShort)?;
                        out.bytes(&bytes).await?;
                    }
                }
            }
            out.flush().await
        };
        self.promptly(WRITING, say).await
    }

    async fn answer_status(&self, request: &Request, run: Run) -> Result<(), Fault> {
        for (at, context) in self.contexts.iter().enumerate() {
            let mut descriptors = match self.export.status(*context, run).await {
                Ok(descriptors) => descriptors,
                Err(error) => return self.conclude(request, Err(error.into()), None).await,
            };
            if request.flags & command_flag::REQ_ONE != 0 {
                descriptors.truncate(1);
            }
            let mut data = context.to_be_bytes().to_vec();
            for (len, flags) in descriptors {
                data.extend(len.to_be_bytes());
                data.extend(flags.to_be_bytes());
            }
            let done = at + 1 == self.contexts.len();
            let mut out = self.outlet.lock().await;
            let say = async {
                out.chunk(request, (chunk::BLOCK_STATUS, done), &data, 0).await?;
                out.flush().await
            };
            self.promptly(WRITING, say).await?;
        }
        Ok(())
    }

    /// The last or only answer to a request; of a failed read `at` a place.
    async fn conclude(
        &self,
        request: &Request,
        outcome: Result<(), Refusal>,
        at: Option<u64>,
    ) -> Result<(), Fault> {
        if let Err(refusal) = &outcome {
            tracing::debug!(target: "site_recovery_nbd", export = self.export.name(), ?request, ?refusal, "refused");
        }
        let mut out = self.outlet.lock().await;
        let say = async {
            match (&outcome, self.structured) {
                (Ok(()), true) => out.chunk(request, (chunk::NONE, true), &[], 0).await,
                (Err(refusal), true) => out.error_chunk(request, refusal, at).await,
                (Ok(()), false) => out.simple(request, 0).await,
                (Err(refusal), false) => out.simple(request, refusal.errno).await,
            }?;
            out.flush().await
        };
        self.promptly(WRITING, say).await
    }

    async fn promptly<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        within(&*self.offer.clock, self.limits.stall, what, work).await
    }
}
