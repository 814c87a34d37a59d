//! Ctrl-C and SIGTERM, heard from now on. SIGHUP is heard and does nothing: a job whose terminal is gone goes on to its end.

use site_recovery::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was heard and not yet taken.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// Hears them from now on.
    ///
    /// # Errors
    /// `Unavailable` where the system does not let it.
    pub(crate) fn heard() -> Result<Self> {
        let hear = |kind| {
            signal(kind).map_err(|e| Error::new(ErrorKind::Unavailable, "signals cannot be heard").caused_by(e))
        };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }

    /// The next Ctrl-C or SIGTERM.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {}
            }
        }
    }
}
