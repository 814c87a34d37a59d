//! A Unix socket, read by lines, with a deadline to everything.

use crate::deadline::Deadline;
use crate::error::{Error, excerpt};
use crate::limits::Limits;
use crate::lines::{Lines, TooLong};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most bytes of a socket's path: the system has 108 with a zero at the end.
const LONGEST_PATH: usize = 107;
const CHUNK: usize = 64 << 10;
/// How many chunks are read before lines are looked at.
const CHUNKS: usize = 16;

/// Why there is no line, or why bytes could not be sent.
#[derive(Debug)]
pub(crate) enum Stop {
    Late,
    Closed,
    Failed(io::Error),
    TooLong,
}

impl From<TooLong> for Stop {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    socket: UnixStream,
    pub(crate) path: PathBuf,
    lines: Lines,
    closed: bool,
}

impl Wire {
    /// Waits for a place in the peer's queue of clients, too: where it is full, the system lets a client wait for ever.
    ///
    /// # Errors
    /// `None` where the time is over.
    pub(crate) fn connect(path: &Path, limits: &Limits, by: &mut Deadline) -> Result<Self, Option<Error>> {
        let address = address(path)?;
        let failed = |e: Errno| Some(refused(path, e));
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        loop {
            // The system takes zero for no limit at all.
            let left = by.left().ok_or(None)?.max(Duration::from_millis(1));
            set_socket_timeout(&socket, Timeout::Send, Some(left)).map_err(failed)?;
            match connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        set_socket_timeout(&socket, Timeout::Send, None).map_err(failed)?;
        Ok(Self::over(socket.into(), path, limits))
    }

    pub(crate) fn over(socket: UnixStream, path: &Path, limits: &Limits) -> Self {
        Self { socket, path: path.into(), lines: Lines::of_at_most(limits.line), closed: false }
    }

    /// All bytes, or an error after some of them. What the peer says in the meantime is kept.
    pub(crate) fn send(&mut self, mut bytes: &[u8], by: &mut Deadline) -> Result<(), Stop> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // A peer may take nothing before it has got rid of what it says.
                    let listen = !self.closed && self.lines.has_room();
                    let flags = if listen { PollFlags::OUT | PollFlags::IN } else { PollFlags::OUT };
                    if self.ready(flags, by)?.contains(PollFlags::IN) {
                        self.read()?;
                    }
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Stop::Closed),
                Err(e) => return Err(Stop::Failed(e.into())),
            }
        }
        Ok(())
    }

    /// The next line.
    pub(crate) fn line(&mut self, by: &mut Deadline) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(line) = self.lines.next()? {
                return Ok(line.to_vec());
            }
            if self.closed {
                return Err(Stop::Closed);
            }
            self.ready(PollFlags::IN, by)?;
            self.read()?;
        }
    }

    /// What the caller is told of a stop: that there was no `what` within `span`, and what to do then; or what was worse.
    pub(crate) fn told(&self, stop: Stop, what: &str, span: Duration, remedy: &'static str) -> Error {
        let socket = self.path.clone();
        match stop {
            Stop::Late => Error::Silent { socket, what: what.into(), span, remedy },
            Stop::Closed => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed it");
                Error::Broken { socket, source }
            }
            Stop::Failed(source) => Error::Broken { socket, source },
            Stop::TooLong => self.garbage(format!("a line of more than {} bytes", self.lines.most())),
        }
    }

    pub(crate) fn garbage(&self, what: String) -> Error {
        Error::Garbage { socket: self.path.clone(), what }
    }

    /// What the caller is told of a peer that is not the `wanted` one, by the beginning of what it said.
    pub(crate) fn stranger(&self, wanted: &'static str, said: &[u8]) -> Error {
        let said = excerpt(&String::from_utf8_lossy(&said[..said.len().min(300)]), 60);
        Error::Stranger { socket: self.path.clone(), wanted, said: format!("“{said}”") }
    }

    /// What came after the last whole line.
    pub(crate) fn rest(&self) -> &[u8] {
        self.lines.rest()
    }

    /// Forgets the line that is too long, as far as it came.
    pub(crate) fn forget(&mut self) {
        self.lines.forget();
    }

    fn ready(&self, flags: PollFlags, by: &mut Deadline) -> Result<PollFlags, Stop> {
        loop {
            let left = by.left().ok_or(Stop::Late)?;
            let left = Timespec::try_from(left).expect("a deadline is some years away at most");
            let mut polled = [PollFd::new(&self.socket, flags)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(polled[0].revents()),
                Err(e) => return Err(Stop::Failed(e.into())),
            }
        }
    }

    /// Takes what is there.
    fn read(&mut self) -> Result<(), Stop> {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS {
            match recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => self.closed = true,
                Ok((_, len)) => {
                    self.lines.push(&chunk[..len]);
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(e) => return Err(Stop::Failed(e.into())),
            }
            break;
        }
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    let bytes = path.as_os_str().as_bytes();
    let address = SocketAddrUnix::new(path).ok();
    address.filter(|_| (1..=LONGEST_PATH).contains(&bytes.len())).ok_or_else(|| Error::Invalid {
        field: "socket",
        value: format!("{path:?} ({} bytes)", bytes.len()),
        rule: format!("the system takes 1 to {LONGEST_PATH} bytes for a socket, and no zero among them"),
        remedy: "put the socket into a directory with a short name, or name it by a short symbolic link",
    })
}

/// What the caller is told of a connection that does not come about.
fn refused(path: &Path, why: Errno) -> Error {
    let (socket, source) = (path.into(), why.into());
    match why {
        Errno::NOENT | Errno::NOTDIR | Errno::CONNREFUSED => Error::Absent { socket, source },
        Errno::ACCESS | Errno::PERM => Error::Denied { socket, source },
        Errno::PROTOTYPE => {
            Error::Stranger { socket, wanted: "a stream socket", said: "it is of another type".into() }
        }
        _ => Error::Broken { socket, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_may_not_be_written_to_is_denied() {
        // Not by a real one: root, who may run the tests, may write to all.
        let error = refused(Path::new("/run/web/qmp.sock"), Errno::ACCESS);
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        assert!(error.to_string().contains("/run/web/qmp.sock: Permission denied"), "{error}");
    }
}
