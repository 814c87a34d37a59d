//! A Unix socket, read by lines, with a deadline to everything.

use crate::deadline::Deadline;
use crate::error::Error;
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
    /// # Errors
    /// [`Stop::Late`] as an error of its own where the peer's queue of clients is full: `None`.
    pub(crate) fn connect(path: &Path, limits: &Limits) -> Result<Option<Self>, Error> {
        let bytes = path.as_os_str().as_bytes();
        let invalid = |rule: String| Error::Invalid {
            field: "socket",
            value: format!("{:?}", path),
            rule,
            remedy: "put the socket into a directory with a short name, or connect by a symbolic link to it",
        };
        if bytes.is_empty() || bytes.len() > LONGEST_PATH || bytes.contains(&0) {
            let rule = format!("a path of a socket has 1 to {LONGEST_PATH} bytes and no zero among them");
            return Err(invalid(rule));
        }
        let address = SocketAddrUnix::new(path).map_err(|e| invalid(e.to_string()))?;
        let failed = |e: Errno| match e {
            Errno::NOENT | Errno::NOTDIR | Errno::CONNREFUSED => {
                Error::Absent { socket: path.into(), source: e.into() }
            }
            Errno::ACCESS | Errno::PERM => Error::Denied { socket: path.into(), source: e.into() },
            Errno::PROTOTYPE => Error::Stranger {
                socket: path.into(),
                wanted: "a socket of QEMU",
                said: "that it is a socket of another kind".into(),
            },
            e => Error::Broken { socket: path.into(), source: e.into() },
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
        // Without it, a connection would wait for ever where many wait already.
        set_socket_timeout(&socket, Timeout::Send, Some(limits.greeting.max(SHORTEST))).map_err(failed)?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        set_socket_timeout(&socket, Timeout::Send, None).map_err(failed)?;
        Ok(Some(Self::over(socket.into(), path, limits)))
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

/// The system takes zero for no limit at all.
const SHORTEST: std::time::Duration = std::time::Duration::from_millis(1);

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
