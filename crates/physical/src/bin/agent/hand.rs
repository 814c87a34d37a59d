//! The rescue system's certificate, for the agent of what it restored.

use site_recovery::{Finding, Result, Severity};
use site_recovery_physical::bare::Shown;
use site_recovery_transport::enrol::{Credentials, ServiceKind};
use std::path::{Path, PathBuf};

/// Hands this system's credentials over.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) credentials: PathBuf,
    /// The server's name, which is its agent's.
    pub(crate) name: String,
}

impl Shown for Hand {
    fn put(&self, credentials: &Path) -> Result<()> {
        if let Some(other) = Credentials::hand_over(&self.credentials, credentials)? {
            tracing::warn!(
                "the restored system's agent keeps its own certificate: it is {other}, and this one is not"
            );
        }
        Ok(())
    }

    fn findings(&self) -> Vec<Finding> {
        let cause = match Credentials::whose(&self.credentials) {
            Ok(Some(service)) if service.kind() == ServiceKind::Agent && service.name() == self.name => {
                return vec![];
            }
            Ok(Some(service)) => {
                format!(
                    "the rescue system is {service}: the restored system's agent cannot show its certificate"
                )
            }
            Ok(None) => "the rescue system has no certificate".to_owned(),
            Err(error) => format!("the rescue system's certificate cannot be read: {error}"),
        };
        let remedy = format!(
            "join it as agent/{}, by a token for both roles, source and landing-site; or let the restored agent join anew",
            self.name
        );
        vec![Finding::new("landing.installed", Severity::Warning, cause, remedy)]
    }
}
