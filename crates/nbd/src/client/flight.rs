//! Requests that wait for their answers, and the answers as they come: matched by cookie, in any order.

use super::turns::Turn;
use crate::fault::Fault;
use crate::fault::Result;
use crate::protocol::*;
use site_recovery::{Block, Error, ErrorKind, Run};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The most bytes of a block status that are read.
const LONGEST_STATUS: u32 = 4 << 20;
/// The most extents of one block status.
const MOST_DESCRIPTORS: usize = 1 << 20;

/// What one connection waits for.
#[derive(Debug, Default)]
pub(crate) struct Flight(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    by_cookie: HashMap<u64, Pending>,
    broken: Option<Broken>,
}

/// Why a connection is of no use any more, for everybody who asks.
#[derive(Debug, Clone)]
struct Broken {
    kind: ErrorKind,
    message: String,
    temporary: bool,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) want: Want,
    pub(crate) answer: oneshot::Sender<Result<Want>>,
    pub(crate) _slot: OwnedSemaphorePermit,
}

/// What is asked for, filled in as it comes.
#[derive(Debug)]
pub(crate) enum Want {
    /// Bytes of the disk from `start` on, for a part of a block.
    Bytes { start: u64, part: Run, block: Block, covered: Covered },
    /// Lengths and flags of a context.
    Status { context: u32, told: Vec<(u32, u32)> },
    /// That it was done. Until then nobody else writes there.
    Written { _turn: Arc<Turn> },
    /// That what was written is durable. A refusal ends the connection.
    Flushed,
}

/// Which bytes of an answer have come: no byte comes twice.
#[derive(Debug, Default)]
pub(crate) struct Covered(Vec<Run>);

impl Flight {
    /// Takes a request on, and gives it its cookie.
    pub(crate) fn board(&self, pending: Pending) -> Result<u64> {
        let mut waiting = self.lock();
        if let Some(broken) = &waiting.broken {
            return Err(broken.told());
        }
        waiting.last += 1;
        let cookie = waiting.last;
        waiting.by_cookie.insert(cookie, pending);
        Ok(cookie)
    }

    pub(crate) fn broken(&self) -> Option<Error> {
        self.lock().broken.as_ref().map(Broken::told)
    }

    /// Ends all that is under way, and all that comes after. Says why, which is what ended it first.
    pub(crate) fn end(&self, fault: Fault) -> Error {
        let error = fault.told();
        let broken = Broken {
            kind: error.kind(),
            message: error.message().to_owned(),
            temporary: error.is_temporary(),
        };
        let (broken, ended) = {
            let mut waiting = self.lock();
            let broken = waiting.broken.get_or_insert(broken).clone();
            (broken, std::mem::take(&mut waiting.by_cookie))
        };
        for pending in ended.into_values() {
            let _ = pending.answer.send(Err(broken.told()));
        }
        broken.told()
    }

    /// Reads one reply or chunk, and hands the answer over where it was the last one of its request.
    pub(crate) async fn land(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        structured: bool,
    ) -> Result<(), Fault> {
        match stream.read_u32().await? {
            SIMPLE_REPLY_MAGIC => {
                let (errno, cookie) = (stream.read_u32().await?, stream.read_u64().await?);
                let mut pending = self.take(cookie)?;
                let outcome = match errno {
                    0 if structured && pending.want.has_payload() => {
                        Err(Fault::protocol("a simple reply where structured ones were agreed on"))
                    }
                    0 => pending.want.simple(stream).await,
                    errno => return self.fail(pending, Ok(refused(errno, "")), cookie, true),
                };
                self.conclude(pending, outcome, None)
            }
            STRUCTURED_REPLY_MAGIC if structured => {
                let (flags, kind) = (stream.read_u16().await?, stream.read_u16().await?);
                let (cookie, len) = (stream.read_u64().await?, stream.read_u32().await?);
                let mut pending = self.take(cookie)?;
                if kind & chunk::ERROR_BIT != 0 {
                    let error = read_error(stream, len).await;
                    return self.fail(pending, error, cookie, flags & chunk::DONE != 0);
                }
                let outcome = pending.want.chunk(stream, kind, len).await;
                self.conclude(pending, outcome, (flags & chunk::DONE == 0).then_some(cookie))
            }
            other => Err(Fault::protocol(format!("a reply begins with {other:#010x}"))),
        }
    }

    /// Puts a request back that more is to come for, or ends it.
    fn conclude(&self, pending: Pending, outcome: Result<(), Fault>, more: Option<u64>) -> Result<(), Fault> {
        match (outcome, more) {
            (Err(fault), _) => {
                // With all others, by whoever reads here.
                self.put_back(u64::MAX, pending);
                Err(fault)
            }
            (Ok(()), Some(cookie)) => {
                self.put_back(cookie, pending);
                Ok(())
            }
            (Ok(()), None) => {
                let Pending { want, answer, _slot } = pending;
                if !want.is_complete() {
                    let fault = Fault::protocol("an answer ends before all of it has come");
                    self.put_back(u64::MAX, Pending { want, answer, _slot });
                    return Err(fault);
                }
                let _ = answer.send(Ok(want));
                Ok(())
            }
        }
    }

    fn fail(
        &self,
        pending: Pending,
        error: Result<Error, Fault>,
        cookie: u64,
        done: bool,
    ) -> Result<(), Fault> {
        match error {
            Err(fault) => {
                self.put_back(cookie, pending);
                Err(fault)
            }
            // Another flush could succeed over bytes that this one has lost.
            Ok(error) if matches!(pending.want, Want::Flushed) => {
                self.put_back(cookie, pending);
                Err(Fault::Unflushed(error))
            }
            Ok(error) if done => {
                self.give(pending, Err(error));
                Ok(())
            }
            // Chunks may follow; the request stays, and its answer is known.
            Ok(error) => {
                let Pending { want, answer, _slot } = pending;
                let _ = answer.send(Err(error));
                let (nobody, _) = oneshot::channel();
                self.put_back(cookie, Pending { want, answer: nobody, _slot });
                Ok(())
            }
        }
    }

    fn give(&self, pending: Pending, outcome: Result<Want>) {
        let _ = pending.answer.send(outcome);
    }

    fn take(&self, cookie: u64) -> Result<Pending, Fault> {
        let pending = self.lock().by_cookie.remove(&cookie);
        pending.ok_or_else(|| Fault::protocol(format!("an answer to nothing that was asked: {cookie}")))
    }

    fn put_back(&self, cookie: u64, pending: Pending) {
        self.lock().by_cookie.insert(cookie, pending);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Want {
    /// Whether the answer has more to it than that it was done.
    fn has_payload(&self) -> bool {
        matches!(self, Self::Bytes { .. } | Self::Status { .. })
    }

    /// All bytes of a read behind a simple reply.
    async fn simple(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Fault> {
        match self {
            Self::Bytes { part, block, covered, .. } => {
                covered.add(Run::new(0, part.len), part.len)?;
                stream.read_exact(&mut block[part.start as usize..part.end() as usize]).await?;
                Ok(())
            }
            Self::Status { .. } => Err(Fault::protocol("a simple reply to a block status")),
            Self::Written { .. } | Self::Flushed => Ok(()),
        }
    }

    async fn chunk(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        kind: u16,
        len: u32,
    ) -> Result<(), Fault> {
        match (self, kind) {
            (_, chunk::NONE) if len == 0 => Ok(()),
            (Self::Bytes { start, part, block, covered }, chunk::OFFSET_DATA) if len > 8 => {
                let place = place(stream.read_u64().await?, u64::from(len) - 8, *start, part.len)?;
                covered.add(place, part.len)?;
                let at = (part.start + place.start) as usize;
                stream.read_exact(&mut block[at..at + place.len as usize]).await?;
                Ok(())
            }
            (Self::Bytes { start, part, block, covered }, chunk::OFFSET_HOLE) if len == 12 => {
                let (offset, len) = (stream.read_u64().await?, stream.read_u32().await?);
                let place = place(offset, len.into(), *start, part.len)?;
                covered.add(place, part.len)?;
                let at = (part.start + place.start) as usize;
                block[at..at + place.len as usize].fill(0);
                Ok(())
            }
            (Self::Status { context, told }, chunk::BLOCK_STATUS)
                if len % 8 == 4 && len > 4 && len <= LONGEST_STATUS =>
            {
                let id = stream.read_u32().await?;
                let mut data = vec![0; len as usize - 4];
                stream.read_exact(&mut data).await?;
                if id != *context {
                    return Ok(());
                }
                let mut fields = Fields(&data);
                while fields.end().is_err() {
                    let (len, flags) = (fields.u32()?, fields.u32()?);
                    if len == 0 {
                        return Err(Fault::protocol("an extent of no bytes"));
                    }
                    told.push((len, flags));
                }
                if told.len() > MOST_DESCRIPTORS {
                    return Err(Fault::protocol("extents without end"));
                }
                Ok(())
            }
            _ => {
                Err(Fault::protocol(format!("a chunk of type {kind} with {len} bytes that nobody asked for")))
            }
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Bytes { part, covered, .. } => covered.all(part.len),
            Self::Status { told, .. } => !told.is_empty(),
            Self::Written { .. } | Self::Flushed => true,
        }
    }
}

/// Where in an answer of `most` bytes from `start` on a chunk belongs.
fn place(offset: u64, len: u64, start: u64, most: u64) -> Result<Run, Fault> {
    let at = offset.checked_sub(start).filter(|at| at.checked_add(len).is_some_and(|end| end <= most));
    at.map(|at| Run::new(at, len)).ok_or_else(|| Fault::protocol("a chunk outside what was asked for"))
}

impl Covered {
    fn add(&mut self, run: Run, most: u64) -> Result<(), Fault> {
        let at = self.0.partition_point(|r| r.start < run.start);
        let before = at.checked_sub(1).map_or(0, |i| self.0[i].end());
        let after = self.0.get(at).map_or(most, |r| r.start);
        if run.len == 0 || before > run.start || run.end() > after {
            return Err(Fault::protocol("a chunk of no bytes, or of bytes that came before"));
        }
        match at.checked_sub(1) {
            Some(last) if before == run.start && self.0[last].len > 0 => self.0[last].len += run.len,
            _ => self.0.insert(at, run),
        }
        Ok(())
    }

    fn all(&self, most: u64) -> bool {
        self.0.iter().map(|r| r.len).sum::<u64>() == most
    }
}

async fn read_error(stream: &mut (impl AsyncRead + Unpin), len: u32) -> Result<Error, Fault> {
    if !(6..=LONGEST_OPTION).contains(&len) {
        return Err(Fault::protocol(format!("an error of {len} bytes")));
    }
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data).await?;
    let mut fields = Fields(&data);
    let (errno, len) = (fields.u32()?, usize::from(fields.u16()?));
    let message =
        fields.0.get(..len).ok_or_else(|| Fault::protocol("an error's text is longer than the error"))?;
    Ok(refused(errno, &String::from_utf8_lossy(message)))
}

/// What the server says of a request.
fn refused(errno: u32, message: &str) -> Error {
    let (kind, name) = match errno {
        errno::PERM => (ErrorKind::Denied, "EPERM"),
        errno::INVAL => (ErrorKind::Invalid, "EINVAL"),
        errno::NOSPC => (ErrorKind::OutOfSpace, "ENOSPC"),
        errno::NOTSUP => (ErrorKind::Unsupported, "ENOTSUP"),
        errno::NOMEM => (ErrorKind::Busy, "ENOMEM"),
        errno::IO => (ErrorKind::Unavailable, "EIO"),
        _ => (ErrorKind::Unavailable, "an error"),
    };
    let said = if message.is_empty() { String::new() } else { format!(": {message:?}") };
    Error::new(kind, format!("the server answers with {name}{said}")).with("errno", errno)
}

impl Broken {
    fn told(&self) -> Error {
        use site_recovery::ErrorStatus::{Permanent, Temporary};
        let status = if self.temporary { Temporary } else { Permanent };
        Error::new(self.kind, self.message.clone()).status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_an_answer_comes_once() {
        let mut covered = Covered::default();
        covered.add(Run::new(50, 50), 100).unwrap();
        covered.add(Run::new(0, 10), 100).unwrap();
        assert!(covered.add(Run::new(5, 10), 100).is_err());
        assert!(covered.add(Run::new(40, 20), 100).is_err());
        assert!(covered.add(Run::new(10, 0), 100).is_err());
        assert!(!covered.all(100));
        covered.add(Run::new(10, 40), 100).unwrap();
        assert!(covered.all(100));
    }

    #[test]
    fn chunks_lie_inside_what_was_asked() {
        assert_eq!(place(110, 10, 100, 50).unwrap(), Run::new(10, 10));
        for (offset, len) in [(99, 1), (140, 11), (u64::MAX, 1), (100, u64::MAX)] {
            assert!(place(offset, len, 100, 50).is_err());
        }
    }
}
