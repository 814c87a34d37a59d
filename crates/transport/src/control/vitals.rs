//! Whether a service is there, and how it is.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Finding, Result, RoleName, Severity, Spawner, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// How often a service is asked.
const EVERY: Duration = Duration::from_secs(30);
/// Silence that is a warning.
const LATE: Duration = Duration::from_secs(2 * 60);
/// Silence that is critical: that of Azure's process server.
const SILENT: Duration = Duration::from_secs(15 * 60);
/// Clocks further apart than this are told: recovery points bear the source's times.
const APART: Duration = Duration::from_secs(60);

/// What a service tells of itself, as of now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VitalSigns {
    /// Its release.
    pub version: String,
    /// The site where it stands, by the name that its operator gave it.
    pub site: Option<String>,
    /// Its clock. Set by the server.
    pub now: Timestamp,
    /// What an operator should see to.
    pub findings: Vec<Finding>,
    /// Numbers by name, with their unit in it: `spool_free_bytes`, ...
    pub figures: BTreeMap<String, f64>,
}

/// Who can tell how a service is.
#[async_trait]
pub trait Vitals: Debug + Send + Sync {
    /// As of now; soon, whatever the service is doing.
    async fn vital_signs(&self) -> VitalSigns;
}

/// An answer of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// What it told.
    pub signs: VitalSigns,
    /// How long its answer took.
    pub round_trip: Duration,
    /// How far its clock is from ours, give or take half the round trip.
    pub skew: Duration,
    /// When it was heard, by our clock.
    pub at: Timestamp,
}

/// A service that can be asked how it is: every role of another process.
#[async_trait]
pub trait Pulse: Debug + Send + Sync {
    /// Which.
    fn service(&self) -> RoleName;

    /// Asks it.
    ///
    /// # Errors
    /// `Unavailable` where it does not answer. That is silence, and proves nothing: least of all that a machine is off.
    async fn heard(&self) -> Result<Heard>;
}

/// Asks services how they are, every thirty seconds, as long as it lives. Its task ends with it.
#[derive(Debug)]
pub struct Heartbeat {
    watched: Arc<[Watched]>,
    clock: Arc<dyn Clock>,
    _alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Watched {
    service: Arc<dyn Pulse>,
    since: Timestamp,
    last: Mutex<Option<Heard>>,
}

impl Heartbeat {
    /// Begins to ask them.
    pub fn of(services: Vec<Arc<dyn Pulse>>, clock: Arc<dyn Clock>, spawner: &Arc<dyn Spawner>) -> Self {
        let since = clock.now();
        let watched = services.into_iter().map(|service| Watched { service, since, last: Mutex::default() });
        let (watched, (alive, is_alive)): (Arc<[_]>, _) = (watched.collect(), watch::channel(()));
        for number in 0..watched.len() {
            let beat = beat(Arc::clone(&watched), number, Arc::clone(&clock), is_alive.clone());
            spawner.spawn(Box::pin(beat));
        }
        Self { watched, clock, _alive: alive }
    }

    /// What was heard last of a service.
    pub fn last(&self, service: &RoleName) -> Option<Heard> {
        self.watched.iter().find(|watched| watched.service.service() == *service)?.last().clone()
    }

    /// Who is silent, whose clock is off, and what the others told of themselves.
    pub fn findings(&self) -> Vec<Finding> {
        let now = self.clock.now();
        self.watched.iter().flat_map(|watched| watched.findings(now)).collect()
    }
}

async fn beat(watched: Arc<[Watched]>, number: usize, clock: Arc<dyn Clock>, mut alive: watch::Receiver<()>) {
    let asking = async {
        loop {
            if let Ok(heard) = watched[number].service.heard().await {
                *watched[number].last() = Some(heard);
            }
            clock.sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = asking => {}
        _ = alive.changed() => {}
    }
}

impl Watched {
    fn last(&self) -> MutexGuard<'_, Option<Heard>> {
        self.last.lock().expect("no panic under this lock")
    }

    fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let (name, last) = (self.service.service(), self.last().clone());
        let silence = now.since(last.as_ref().map_or(self.since, |heard| heard.at));
        let mut findings = vec![];
        let severity = match silence {
            silence if silence >= SILENT => Some(Severity::Critical),
            silence if silence >= LATE => Some(Severity::Warning),
            _ => None,
        };
        if let Some(severity) = severity {
            let cause = format!("{name} has not been heard of for {} s", silence.as_secs());
            let remedy =
                "see to the service, its host and the network; silence proves nothing about machines";
            findings.push(Finding::new("service.silent", severity, cause, remedy));
        }
        let Some(heard) = last else { return findings };
        if heard.skew >= APART {
            let cause = format!("the clock of {name} is {} s away from ours", heard.skew.as_secs());
            let remedy = "set both by the same time service: recovery points bear the source's times";
            findings.push(Finding::new("service.clock", Severity::Warning, cause, remedy));
        }
        findings.extend(heard.signs.findings);
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::{Error, ErrorKind};
    use site_recovery_testkit::clock::ManualClock;

    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Pulse for Silent {
        fn service(&self) -> RoleName {
            "ps".into()
        }
        async fn heard(&self) -> Result<Heard> {
            Err(Error::new(ErrorKind::Unavailable, "no answer"))
        }
    }

    fn watched(last: Option<Heard>) -> Watched {
        Watched { service: Arc::new(Silent), since: Timestamp(0), last: Mutex::new(last) }
    }

    fn told(watched: &Watched, now: Duration) -> Vec<(String, Severity)> {
        let findings = watched.findings(Timestamp(now.as_millis() as u64));
        findings.into_iter().map(|f| (f.code, f.severity)).collect()
    }

    #[test]
    fn silence_is_told_and_is_critical_after_a_quarter_of_an_hour() {
        let never = watched(None);
        assert_eq!(told(&never, LATE - Duration::from_secs(1)), []);
        assert_eq!(told(&never, LATE), [("service.silent".into(), Severity::Warning)]);
        assert_eq!(told(&never, SILENT), [("service.silent".into(), Severity::Critical)]);
    }

    #[test]
    fn a_clock_that_is_off_is_told_beside_what_the_service_tells() {
        let full = Finding::new("process_server.spool", Severity::Critical, "full", "empty it");
        let signs = VitalSigns { findings: vec![full], ..VitalSigns::default() };
        let heard = Heard { signs, round_trip: Duration::ZERO, skew: APART, at: Timestamp(1_000) };
        let codes = told(&watched(Some(heard)), Duration::from_secs(2));
        let expected = [
            ("service.clock".into(), Severity::Warning),
            ("process_server.spool".into(), Severity::Critical),
        ];
        assert_eq!(codes, expected);
    }

    #[tokio::test]
    async fn a_service_that_answers_again_is_silent_no_more_and_the_asking_ends_with_its_owner() {
        #[derive(Debug)]
        struct Answers(ManualClock);
        #[async_trait]
        impl Pulse for Answers {
            fn service(&self) -> RoleName {
                "ps".into()
            }
            async fn heard(&self) -> Result<Heard> {
                let at = self.0.now();
                let signs = VitalSigns { site: Some("hall".into()), ..VitalSigns::default() };
                Ok(Heard { signs, round_trip: Duration::ZERO, skew: Duration::ZERO, at })
            }
        }
        let clock = ManualClock::new();
        let spawner: Arc<dyn Spawner> = Arc::new(site_recovery::TokioSpawner::current().unwrap());
        let service = Arc::new(Answers(clock.clone()));
        let held = Arc::downgrade(&service);
        let beat = Heartbeat::of(vec![service], Arc::new(clock), &spawner);
        let soon = Duration::from_secs(30);
        let heard = async {
            while beat.last(&"ps".into()).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(soon, heard).await.unwrap();
        assert_eq!(beat.last(&"ps".into()).unwrap().signs.site.as_deref(), Some("hall"));
        assert_eq!(beat.findings(), []);
        drop(beat);
        let over = async {
            while held.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(soon, over).await.expect("its task ends");
    }
}
