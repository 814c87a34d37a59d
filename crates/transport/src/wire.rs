//! Frames over one secure connection: out with their payloads as they lie in memory, in to where they are wanted.

use crate::fault::{Fault, within};
use crate::frame::{Header, Kind};
use crate::tls::Secure;
use bytes::{Buf, Bytes};
use site_recovery::Clock;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

/// What has to move within one stall, so that a peer that trickles is found out.
const PIECE: usize = 256 * 1024;
/// How long a peer has to read what was said last, and to hang up.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Slices handed on at a time.
const SLICES: usize = 32;

/// The way out.
pub(crate) struct Outlet {
    stream: WriteHalf<Secure>,
    clock: Arc<dyn Clock>,
    stall: Duration,
}

/// The way in.
pub(crate) struct Inlet {
    stream: ReadHalf<Secure>,
    clock: Arc<dyn Clock>,
    stall: Duration,
}

/// Both ways of a connection. A peer that moves nothing for `stall` is given up.
pub(crate) fn ways(stream: Secure, clock: &Arc<dyn Clock>, stall: Duration) -> (Outlet, Inlet) {
    let (inward, outward) = tokio::io::split(stream);
    let outlet = Outlet { stream: outward, clock: Arc::clone(clock), stall };
    (outlet, Inlet { stream: inward, clock: Arc::clone(clock), stall })
}

impl Outlet {
    /// Sends one frame with a body of all `parts` in their order.
    pub(crate) async fn send(&mut self, kind: Kind, id: u64, parts: &[Bytes]) -> Result<(), Fault> {
        let len: usize = parts.iter().map(Bytes::len).sum();
        let header = Header::new(kind, id, u32::try_from(len).expect("frames are kept below their limit"));
        let mut rest = vec![Bytes::copy_from_slice(&header.to_bytes())];
        rest.extend(parts.iter().filter(|p| !p.is_empty()).cloned());
        let mut rest = &mut rest[..];
        while !rest.is_empty() {
            within(&*self.clock, self.stall, "progress of a send", async {
                let mut moved = 0;
                while moved < PIECE && !rest.is_empty() {
                    let slices: Vec<_> = rest.iter().take(SLICES).map(|p| IoSlice::new(p)).collect();
                    let written = self.stream.write_vectored(&slices).await?;
                    if written == 0 {
                        return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
                    }
                    moved += written;
                    rest = advance(std::mem::take(&mut rest), written);
                }
                Ok(())
            })
            .await?;
        }
        let flushed = async { Ok(self.stream.flush().await?) };
        within(&*self.clock, self.stall, "progress of a send", flushed).await
    }

    /// Ends this way in order: the peer finds all that was sent, and then the end.
    pub(crate) async fn finish(&mut self) -> Result<(), Fault> {
        let end = async { Ok(self.stream.shutdown().await?) };
        within(&*self.clock, self.stall, "end", end).await
    }
}

fn advance(mut rest: &mut [Bytes], mut written: usize) -> &mut [Bytes] {
    while let Some(first) = rest.first_mut() {
        if first.len() > written {
            first.advance(written);
            break;
        }
        written -= first.len();
        rest = &mut std::mem::take(&mut rest)[1..];
    }
    rest
}

impl Inlet {
    /// The next frame's header; nothing where the peer ended its way before one.
    pub(crate) async fn next(&mut self) -> Result<Option<Header>, Fault> {
        let mut bytes = [0; Header::SIZE];
        let read = async {
            let mut at = 0;
            while at < bytes.len() {
                match self.stream.read(&mut bytes[at..]).await? {
                    0 if at == 0 => return Ok(None),
                    0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                    read => at += read,
                }
            }
            Ok(Some(()))
        };
        match within(&*self.clock, self.stall, "sign of life", read).await? {
            Some(()) => Ok(Some(Header::parse(bytes)?)),
            None => Ok(None),
        }
    }

    /// The next frame's header, where one has to come.
    pub(crate) async fn header(&mut self) -> Result<Header, Fault> {
        self.next().await?.ok_or(Fault::Ended("the peer hung up"))
    }

    /// A body that is not longer than `most`.
    pub(crate) async fn body(&mut self, header: Header, most: u32) -> Result<Vec<u8>, Fault> {
        if header.len > most {
            let what = format!("a body of {} bytes in a frame {:?}, at most {most}", header.len, header.kind);
            return Err(Fault::Protocol(what));
        }
        // As it comes, not as it is announced.
        let mut body = vec![];
        while body.len() < header.len as usize {
            let at = body.len();
            body.resize((at + PIECE).min(header.len as usize), 0);
            self.fill(&mut body[at..]).await?;
        }
        Ok(body)
    }

    /// Reads as many bytes as there is room for.
    pub(crate) async fn fill(&mut self, room: &mut [u8]) -> Result<(), Fault> {
        for piece in room.chunks_mut(PIECE) {
            let read = async {
                self.stream.read_exact(piece).await?;
                Ok(())
            };
            within(&*self.clock, self.stall, "sign of life", read).await?;
        }
        Ok(())
    }

    /// Reads until the peer ends its way, for a short while, and forgets what comes.
    pub(crate) async fn drain(&mut self) -> Result<(), Fault> {
        let read = async {
            let mut spare = vec![0; 16 * 1024];
            while self.stream.read(&mut spare).await? > 0 {}
            Ok(())
        };
        within(&*self.clock, self.stall.min(LAST_WORDS), "end", read).await
    }
}
