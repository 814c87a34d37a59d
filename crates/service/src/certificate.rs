//! How long a service's certificate is good, told before it is over: a service that reaches no authority until then has to be let
//! in anew by an operator.

use crate::settings::Settings;
use async_trait::async_trait;
use site_recovery::{Clock, Finding, Severity, SystemClock, Timestamp};
use site_recovery_transport::enrol::Credentials;
use site_recovery_transport::{VitalSigns, Vitals};
use std::sync::Arc;

const CODE: &str = "service.certificate";

/// What a service says of itself, and how its certificate stands.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) own: Arc<dyn Vitals>,
    pub(crate) credentials: Credentials,
}

#[async_trait]
impl Vitals for Certified {
    async fn vital_signs(&self) -> VitalSigns {
        let mut signs = self.own.vital_signs().await;
        let (now, until) = (SystemClock.now(), self.credentials.until());
        signs.findings.extend(standing(self.credentials.from(), until, now));
        signs.figures.insert("certificate_seconds".into(), until.since(now).as_secs_f64());
        signs
    }
}

/// How the certificate on this host stands, for a look before the service runs.
pub async fn certificate(settings: &Settings) -> Finding {
    let told = |severity, cause: String, remedy: &str| Finding::new(CODE, severity, cause, remedy);
    if !settings.credentials().exists() {
        return told(Severity::Info, "it has not joined".into(), "join, by a token of the authority");
    }
    match Credentials::at(settings.credentials()).open().await {
        Ok(credentials) => {
            let until = credentials.until();
            standing(credentials.from(), until, SystemClock.now()).unwrap_or_else(|| {
                let cause = format!("{} is let in until {until}", credentials.service());
                told(Severity::Info, cause, "nothing: it is renewed while the service runs")
            })
        }
        Err(error) => told(Severity::Critical, error.to_string(), "join anew, by a fresh token"),
    }
}

/// It is renewed at half of its life: in what is left then, something keeps it from that.
fn standing(from: Timestamp, until: Timestamp, now: Timestamp) -> Option<Finding> {
    let (life, left) = (until.since(from), until.since(now));
    let severity = match left {
        left if left * 4 < life => Severity::Critical,
        left if left * 20 < life * 9 => Severity::Warning,
        _ => return None,
    };
    let minutes = left.as_secs() / 60;
    let cause = format!("its certificate ends in {minutes} minutes, and could not be renewed");
    let remedy =
        "see to the authority and the way to it; once it is over, join anew by a token and start again";
    Some(Finding::new(CODE, severity, cause, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_renewed_is_told_of_before_it_is_over() {
        const HOUR: u64 = 3_600_000;
        let at = |hours: u64| {
            let found = standing(Timestamp(0), Timestamp(24 * HOUR), Timestamp(hours * HOUR));
            found.map(|finding| finding.severity)
        };
        assert_eq!([at(0), at(12), at(13)], [None, None, None]);
        assert_eq!([at(14), at(17)], [Some(Severity::Warning); 2]);
        assert_eq!([at(19), at(24), at(30)], [Some(Severity::Critical); 3]);
    }

    #[tokio::test]
    async fn a_service_that_has_not_joined_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            state: dir.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: "h:1".into(),
            site: None,
            allow: None,
        };
        assert_eq!(certificate(&settings).await.severity, Severity::Info);
        std::fs::create_dir(settings.credentials()).unwrap();
        let broken = certificate(&settings).await;
        assert_eq!((broken.code.as_str(), broken.severity), (CODE, Severity::Critical));
    }
}
