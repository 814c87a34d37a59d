//! One device of a lease, as it comes.

use crate::lease::{Lease, LeaseDevice};
use crate::{Error, Lost};
use bytes::Bytes;
use futures_util::future::{Either, select};
use reqwest::{Response, StatusCode};
use site_recovery::Timestamp;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// A device of a lease that is being fetched. The lease is kept alive by [`chunk`](Download::chunk), so ask for the next one
/// before long.
pub struct Download<'a> {
    lease: &'a Lease,
    response: Response,
    /// Host and port, for people.
    server: String,
    most: u64,
    got: u64,
    /// When the lease has to hear of us again.
    due: Timestamp,
}

impl<'a> Download<'a> {
    pub(crate) async fn begin(lease: &'a Lease, device: &LeaseDevice, most: u64) -> Result<Self, Error> {
        let vim = lease.vim();
        let address = &device.address;
        let host = address.host_str().unwrap_or_default();
        let server = address.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let (cookie, _) = vim.cookie().await?;
        // Without a limit of its own: what is sent takes hours.
        let request = vim.http().open(address.clone(), &cookie);
        let stall = vim.limits().answer();
        let answer = within(vim.clock().sleep(stall), request.send()).await;
        let silent = || Lost::Silent { server: server.clone(), span: stall };
        let response = answer.ok_or_else(silent)?.map_err(|e| Lost::of(&e, &server, stall))?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status { server, status: response.status().as_u16() });
        }
        let due = vim.clock().now().after(lease.every());
        Ok(Self { lease, response, server, most, got: 0, due })
    }

    /// The next bytes; none at the end of what is sent. That it is whole is for the reader of its format to say.
    ///
    /// # Errors
    /// [`Silent`](Lost::Silent) where nothing comes for [`Limits::answer_ms`](crate::Limits::answer_ms),
    /// [`Broken`](Lost::Broken); [`Garbage`](Error::Garbage) for more bytes than were to be taken; those of
    /// [`Lease::progress`].
    ///
    /// # Cancel safety
    /// Dropped, it loses no bytes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let vim = self.lease.vim();
        let (clock, stall) = (vim.clock(), vim.limits().answer());
        let end = clock.now().after(stall);
        loop {
            let now = clock.now();
            if now >= self.due {
                self.due = now.after(self.lease.every());
                self.lease.progress(self.percent()).await?;
            }
            let wait = self.due.since(now).min(end.since(now)).max(Duration::from_millis(1));
            match within(clock.sleep(wait), self.response.chunk()).await {
                Some(Ok(Some(bytes))) => {
                    self.got = self.got.saturating_add(bytes.len() as u64);
                    if self.got > self.most {
                        let what = format!("a disk is sent as more than {} bytes", self.most);
                        return Err(Error::Garbage { what });
                    }
                    return Ok(Some(bytes));
                }
                Some(Ok(None)) => return Ok(None),
                Some(Err(error)) => return Err(Lost::of(&error, &self.server, stall).into()),
                None if clock.now() >= end => {
                    return Err(Lost::Silent { server: self.server.clone(), span: stall }.into());
                }
                None => {}
            }
        }
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.got
    }

    /// Roughly: what compresses well ends sooner.
    fn percent(&self) -> u32 {
        (u128::from(self.got) * 100 / u128::from(self.most.max(1))).min(99) as u32
    }
}

// By hand: the response knows the address that it came from, and that holds the ticket.
impl fmt::Debug for Download<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("server", &self.server)
            .field("most", &self.most)
            .field("got", &self.got)
            .finish_non_exhaustive()
    }
}

/// What the work gives, or nothing where the limit comes first.
async fn within<T>(limit: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
