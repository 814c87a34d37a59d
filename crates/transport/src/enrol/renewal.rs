//! Keeps credentials fresh beside whoever uses them.

use super::credentials::Credentials;
use crate::fault::Result;
use site_recovery::{Error, ErrorKind, Spawner, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Of the pauses after failures.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How credentials are kept fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How often the authority is asked what is revoked, and where services are. It bounds how long a revoked service is
    /// still let in. A second to an hour.
    pub ask: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { ask: Duration::from_secs(60) }
    }
}

/// Keeps credentials fresh until it is dropped: renews at half of a certificate's life, asks what is revoked and where
/// services are, and tries again what fails, more and more rarely.
#[derive(Debug)]
pub struct Renewal {
    _ends: watch::Sender<()>,
    failing: watch::Receiver<Option<Arc<Error>>>,
}

impl Renewal {
    /// Why the last attempt to reach the authority failed; `None` after one that did not.
    pub fn failing(&self) -> watch::Receiver<Option<Arc<Error>>> {
        self.failing.clone()
    }
}

impl Credentials {
    /// Keeps these fresh, by a task of its own and by the credentials' clock.
    ///
    /// # Errors
    /// `Invalid` for a span out of bounds.
    pub fn keep(&self, keeping: Keeping, spawner: &dyn Spawner) -> Result<Renewal> {
        if !(Duration::from_secs(1)..=Duration::from_secs(60 * 60)).contains(&keeping.ask) {
            let rule = "it is a second to an hour";
            return Err(Error::invalid("ask", format!("{:?}", keeping.ask), rule, "choose another span"));
        }
        let (ends, mut ended) = watch::channel(());
        let (tells, failing) = watch::channel(None);
        let credentials = self.clone();
        spawner.spawn(Box::pin(async move {
            tokio::select! {
                biased;
                _ = ended.changed() => {}
                () = keep(&credentials, keeping, &tells) => {}
            }
        }));
        Ok(Renewal { _ends: ends, failing })
    }
}

/// One thing that is done again and again.
#[derive(Default)]
struct Turn {
    next: Timestamp,
    failures: u32,
}

impl Turn {
    /// Whether its time has come. Nothing is ever put off by more than `most`: where it seems so, the clock was set back.
    fn is_due(&self, now: Timestamp, most: Duration) -> bool {
        now >= self.next || self.next.since(now) > most
    }

    /// What came of it; `later` is when it is due again when all is well.
    fn done(&mut self, now: Timestamp, outcome: &Result<()>, later: Timestamp) {
        let failed = outcome.as_ref().err();
        self.failures = if failed.is_some() { self.failures + 1 } else { 0 };
        self.next = match failed {
            None => later,
            // That will not change by itself.
            Some(error) if error.kind() == ErrorKind::Denied => now.after(LONGEST),
            Some(_) => now.after((SHORTEST * (1 << (self.failures - 1).min(16))).min(LONGEST)),
        };
    }
}

async fn keep(credentials: &Credentials, keeping: Keeping, tells: &watch::Sender<Option<Arc<Error>>>) {
    let clock = Arc::clone(&credentials.0.clock);
    let (mut renewal, mut asking) = (Turn::default(), Turn::default());
    let most = keeping.ask.max(LONGEST);
    loop {
        let now = clock.now();
        let mut outcome = None;
        if now >= credentials.due() && renewal.is_due(now, most) {
            let renewed = credentials.renew().await;
            renewal.done(now, &renewed, now);
            outcome = Some(renewed);
        }
        if asking.is_due(now, most) && !matches!(outcome, Some(Err(_))) {
            let asked = credentials.refresh().await;
            asking.done(now, &asked, now.after(keeping.ask));
            outcome = Some(asked);
        }
        match outcome {
            Some(Ok(())) => {
                tells.send_replace(None);
            }
            Some(Err(error)) => {
                tracing::warn!(target: "site_recovery_transport", service = %credentials.service(), %error,
                    "credentials could not be kept fresh");
                tells.send_replace(Some(Arc::new(error)));
            }
            None => {}
        }
        // Short, so that a clock that was set, and what a service says anew, are noticed.
        let now = clock.now();
        let due = credentials.due().max(renewal.next).min(asking.next);
        clock.sleep(due.since(now).clamp(Duration::from_millis(200), keeping.ask)).await;
    }
}
