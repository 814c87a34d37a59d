//! Waits for a port of a machine, at whichever of its addresses it opens.

use crate::actions::Actions;
use futures_util::future::select_ok;
use site_recovery::Clock;
use std::time::Duration;

/// How long one round of connections is waited for: an address that nothing answers at keeps silent for minutes.
const ROUND: Duration = Duration::from_secs(5);
/// Between two rounds.
const NEXT_ROUND: Duration = Duration::from_secs(1);

/// The names and addresses among what a site tells; others are paths and consoles.
pub(crate) fn hosts(reach: &[String]) -> Vec<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    let is_host = |text: &&str| !text.is_empty() && text.chars().all(plain);
    reach.iter().map(String::as_str).filter(is_host).collect()
}

/// Ends once one of these takes a connection; all are tried at once, again and again.
pub(crate) async fn opens(actions: &dyn Actions, clock: &dyn Clock, hosts: &[&str], port: u16) {
    loop {
        let tries = hosts.iter().map(|host| actions.connect(host, port));
        tokio::select! {
            opened = select_ok(tries) => if opened.is_ok() { return },
            () = clock.sleep(ROUND) => {}
        }
        clock.sleep(NEXT_ROUND).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::{Command, Output};
    use async_trait::async_trait;
    use futures_util::FutureExt;
    use site_recovery::{Error, ErrorKind, Result};
    use site_recovery_testkit::clock::ManualClock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// `open` takes connections, `closed` refuses them, `silent` answers nothing, and `late` does so only once.
    #[derive(Debug, Default)]
    struct Hosts(AtomicU32);

    #[async_trait]
    impl Actions for Hosts {
        async fn run(&self, _command: &Command, _output: &Output) -> Result<Option<i32>> {
            unreachable!("nobody runs a program")
        }

        async fn connect(&self, host: &str, _port: u16) -> Result<()> {
            match host {
                "open" => Ok(()),
                "late" if self.0.fetch_add(1, Ordering::SeqCst) > 0 => Ok(()),
                "closed" => Err(Error::new(ErrorKind::Unavailable, "closed")),
                _ => std::future::pending().await,
            }
        }
    }

    #[test]
    fn an_address_that_keeps_silent_holds_up_no_other() {
        let (hosts, clock) = (Hosts::default(), ManualClock::new());
        let opened = opens(&hosts, &clock, &["silent", "closed", "open"], 443);
        assert_eq!(opened.now_or_never(), Some(()), "at once");
    }

    #[test]
    fn a_round_without_an_answer_is_followed_by_another() {
        let (hosts, clock) = (Hosts::default(), ManualClock::new());
        let mut opened = Box::pin(opens(&hosts, &clock, &["late", "closed"], 443));
        for span in [ROUND, NEXT_ROUND] {
            assert_eq!(opened.as_mut().now_or_never(), None);
            clock.advance(span - Duration::from_millis(1));
            assert_eq!(opened.as_mut().now_or_never(), None);
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(opened.now_or_never(), Some(()));
    }

    #[test]
    fn paths_and_consoles_are_no_hosts() {
        let reach = ["web.cloud", "10.0.0.7", "fd00::7", "", "/run/web.sock", "a console"].map(str::to_owned);
        assert_eq!(hosts(&reach), ["web.cloud", "10.0.0.7", "fd00::7"]);
    }
}
