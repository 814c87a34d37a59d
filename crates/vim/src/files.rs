//! Files on datastores over HTTPS (`/folder`): read by ranges, and small ones written.
//!
//! A range is read strictly: the host has to answer 206, with this very range and that many bytes. Hosts answer 200 with all of
//! a file to a range that they do not like, and 500 for disks of a running machine.

use crate::client::Vim;
use crate::{DatastorePath, Error, FileRefusal, Lost};
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

/// The most bytes that are written at once.
const MOST: usize = 1 << 20;

/// A file on a datastore of this server. Cheap; opens nothing.
#[derive(Debug, Clone)]
pub struct DatastoreFile {
    vim: Vim,
    path: DatastorePath,
    address: String,
}

impl Vim {
    /// The file at a path. `datacenter` is the datacenter's path in the inventory, `Berlin/DC0`; on a host `ha-datacenter`.
    pub fn file(&self, datacenter: &str, path: DatastorePath) -> DatastoreFile {
        let address = path.address(datacenter);
        DatastoreFile { vim: self.clone(), path, address }
    }
}

impl DatastoreFile {
    /// Which file.
    pub fn path(&self) -> &DatastorePath {
        &self.path
    }

    /// How many bytes it has. Privileges: `Datastore.Browse`, `Datastore.FileManagement`.
    ///
    /// # Errors
    /// [`File`](Error::File); those of any read.
    pub async fn size(&self) -> Result<u64, Error> {
        let response = self.ask(true, Method::HEAD, |request| request).await?;
        match response.status() {
            StatusCode::OK => {}
            other => return Err(self.refused(other)),
        }
        let len = response.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        len.ok_or_else(|| Error::garbage("a file has no length"))
    }

    /// Fills `buffer` with the bytes from `start`, by one request, within [`Limits::answer_ms`](crate::Limits::answer_ms). Privileges as [`DatastoreFile::size`].
    ///
    /// # Errors
    /// [`File`](Error::File) where not these very bytes come; those of any read. The buffer may hold some of them then.
    pub async fn read(&self, start: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let wanted = buffer.len() as u64;
        let Some(last) = wanted.checked_sub(1).map(|more| start.checked_add(more)) else { return Ok(()) };
        let last = last.ok_or_else(|| self.because(FileRefusal::BeyondEnd))?;
        let range = format!("bytes={start}-{last}");
        let mut tried = 0;
        loop {
            let mut response =
                self.ask(true, Method::GET, |request| request.header(RANGE, range.as_str())).await?;
            self.check(&response, start, last)?;
            let mut got = 0;
            let lost = loop {
                match response.chunk().await {
                    Ok(None) => break None,
                    Err(error) => break Some(self.vim.http().lost(&error)),
                    Ok(Some(part)) => {
                        let Some(place) = buffer.get_mut(got..got + part.len()) else {
                            return Err(self.because(FileRefusal::WrongLength {
                                wanted,
                                got: (got + part.len()) as u64,
                            }));
                        };
                        place.copy_from_slice(&part);
                        got += part.len();
                    }
                }
            };
            tried += 1;
            match lost {
                None if got as u64 == wanted => return Ok(()),
                None => return Err(self.because(FileRefusal::WrongLength { wanted, got: got as u64 })),
                Some(Lost::Broken { .. }) if tried < self.vim.limits().tries => {
                    self.vim.clock().sleep(self.vim.limits().pause(tried)).await;
                }
                Some(lost) => return Err(lost.into()),
            }
        }
    }

    /// Writes a whole small file, of at most 1 MiB, over what is there. Folders are made on the way by some hosts only.
    /// Privileges as [`DatastoreFile::size`].
    ///
    /// # Errors
    /// [`File`](Error::File); [`Unknown`](Error::Unknown) where the answer was lost.
    pub async fn put(&self, bytes: Bytes) -> Result<(), Error> {
        if bytes.len() > MOST {
            let (value, rule) = (bytes.len(), "at most 1,048,576 bytes are written at once");
            return Err(Error::invalid("file", value, rule, "write disks through a machine"));
        }
        let outcome = self.ask(false, Method::PUT, |request| request.body(bytes.clone())).await;
        match outcome {
            Ok(response) if matches!(response.status(), StatusCode::OK | StatusCode::CREATED) => Ok(()),
            Ok(response) if response.status().is_server_error() => {
                Err(unknown(self.vim.http().status(response.status())))
            }
            Ok(response) => Err(self.refused(response.status())),
            Err(Error::Lost(lost)) if lost.may_have_come() => Err(unknown(lost.into())),
            Err(error) => Err(error),
        }
    }

    /// Sends a request in the session; once more in a new one, and a read also while nobody is there.
    async fn ask(
        &self,
        read: bool,
        method: Method,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let (mut tried, mut renewed) = (0, false);
        loop {
            let (cookie, number) = self.vim.cookie().await?;
            let answer = self.vim.http().ask(&cookie, method.clone(), &self.address, &with).await;
            tried += 1;
            let again = read && tried < self.vim.limits().tries;
            match answer {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    self.vim.forget(number).await;
                }
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE && again => {
                    self.vim.clock().sleep(self.vim.limits().pause(tried)).await;
                }
                Err(Error::Lost(lost)) if again && lost.may_pass() => {
                    self.vim.clock().sleep(self.vim.limits().pause(tried)).await;
                }
                other => return other,
            }
        }
    }

    fn check(&self, response: &Response, start: u64, last: u64) -> Result<(), Error> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => return Err(self.because(FileRefusal::RangeIgnored)),
            other => return Err(self.refused(other)),
        }
        let said = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        match said.and_then(|range| range.strip_prefix("bytes ")?.split_once('/')) {
            Some((range, _)) if range == format!("{start}-{last}") => Ok(()),
            _ => Err(self.because(FileRefusal::WrongRange)),
        }
    }

    fn refused(&self, status: StatusCode) -> Error {
        let code = status.as_u16();
        match status {
            StatusCode::NOT_FOUND => self.because(FileRefusal::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.because(FileRefusal::Denied(code)),
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::LOCKED => self.because(FileRefusal::Locked(code)),
            StatusCode::RANGE_NOT_SATISFIABLE => self.because(FileRefusal::BeyondEnd),
            _ if status.is_server_error() => self.vim.http().status(status),
            _ => self.because(FileRefusal::Status(code)),
        }
    }

    fn because(&self, why: FileRefusal) -> Error {
        Error::File { path: self.path.clone(), why }
    }
}

fn unknown(cause: Error) -> Error {
    Error::Unknown { method: "PUT", cause: Box::new(cause) }
}
