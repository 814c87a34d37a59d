//! Answers on their way out: simple ones, and chunks of structured ones.

use super::export::PIECE;
use crate::address::Stream;
use crate::fault::Fault;
use crate::protocol::*;
use site_recovery::{Error, ErrorKind, Pool};
use tokio::io::{AsyncWriteExt, BufWriter, WriteHalf};

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The way out of one connection. Who holds it writes whole answers or chunks.
pub(crate) struct Outlet {
    stream: BufWriter<WriteHalf<Box<dyn Stream>>>,
    /// Memory for who is in the middle of an answer, since all other memory may wait for its end.
    pub(crate) spare: Pool,
}

/// What is wrong with a request, as the client is told.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: u32,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn invalid(message: &str) -> Self {
        Self { errno: errno::INVAL, message: message.to_owned() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let errno = match error.kind() {
            ErrorKind::Invalid => errno::INVAL,
            ErrorKind::Denied => errno::PERM,
            ErrorKind::OutOfSpace => errno::NOSPC,
            ErrorKind::Unsupported => errno::NOTSUP,
            _ => errno::IO,
        };
        Self { errno, message: error.to_string() }
    }
}

impl Outlet {
    pub(crate) fn new(stream: WriteHalf<Box<dyn Stream>>) -> Self {
        Self { stream: BufWriter::with_capacity(64 * 1024, stream), spare: Pool::new(2 * PIECE as usize) }
    }

    /// The head of a simple reply; the bytes of a read follow.
    pub(crate) async fn simple(&mut self, request: &Request, errno: u32) -> Result<(), Fault> {
        let mut head = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
        head.extend(errno.to_be_bytes());
        head.extend(request.cookie.to_be_bytes());
        self.bytes(&head).await
    }

    /// The head of a chunk and the first of its bytes; `more` follow.
    pub(crate) async fn chunk(
        &mut self,
        request: &Request,
        (kind, done): (u16, bool),
        data: &[u8],
        more: u32,
    ) -> Result<(), Fault> {
        let mut head = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
        head.extend(if done { chunk::DONE } else { 0 }.to_be_bytes());
        head.extend(kind.to_be_bytes());
        head.extend(request.cookie.to_be_bytes());
        head.extend((data.len() as u32 + more).to_be_bytes());
        head.extend(data);
        self.bytes(&head).await
    }

    pub(crate) async fn error_chunk(
        &mut self,
        request: &Request,
        refusal: &Refusal,
        at: Option<u64>,
    ) -> Result<(), Fault> {
        let message = &refusal.message[..refusal.message.floor_char_boundary(LONGEST_TEXT)];
        let mut data = refusal.errno.to_be_bytes().to_vec();
        data.extend((message.len() as u16).to_be_bytes());
        data.extend(message.as_bytes());
        data.extend(at.into_iter().flat_map(u64::to_be_bytes));
        let kind = if at.is_some() { chunk::ERROR_OFFSET } else { chunk::ERROR };
        self.chunk(request, (kind, true), &data, 0).await
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        Ok(self.stream.write_all(bytes).await?)
    }

    pub(crate) async fn zeros(&mut self, len: u64) -> Result<(), Fault> {
        let mut left = len as usize;
        while left > 0 {
            let now = left.min(ZEROS.len());
            self.stream.write_all(&ZEROS[..now]).await?;
            left -= now;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Fault> {
        Ok(self.stream.flush().await?)
    }

    pub(crate) async fn shut(&mut self) -> Result<(), Fault> {
        Ok(self.stream.shutdown().await?)
    }
}
