//! What a check found.

use crate::{Error, ErrorKind, Result, Timestamp};
use serde::{Deserialize, Serialize};

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Works, but will cost something.
    Warning,
    /// Does not work, or will not when needed.
    Critical,
}

/// One finding of a readiness or health check: what, how bad, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable, for programs: `target.name`, `fence.unavailable`, …
    pub code: String,
    /// How bad. [`Severity::Critical`] refuses the operation that the check stands before.
    pub severity: Severity,
    /// What was found, with the field, its value and the rule.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A finding.
    pub fn new(
        code: impl Into<String>,
        severity: Severity,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code: code.into(), severity, cause: cause.into(), remedy: remedy.into() }
    }

    /// A setting that breaks a rule of the site.
    pub fn setting(field: &str, value: impl std::fmt::Display, rule: &str, remedy: &str) -> Self {
        Self::new(
            format!("setting.{field}"),
            Severity::Critical,
            format!("{field} is {value}: {rule}"),
            remedy,
        )
    }

    /// Refuses what a check finds critical: the error of the first such finding, which carries its whole code as `field`.
    ///
    /// # Errors
    /// `Invalid` for a setting, `otherwise` for all else.
    pub fn refuse_critical(found: &[Self], otherwise: ErrorKind) -> Result<()> {
        let Some(first) = found.iter().find(|f| f.blocks()) else { return Ok(()) };
        let kind = if first.code.starts_with("setting.") { ErrorKind::Invalid } else { otherwise };
        Err(first.error(kind).with("field", &first.code))
    }

    /// The error of what a finding refuses, naming the field that a setting's code tells.
    pub(crate) fn refusal(&self) -> Error {
        let error = self.error(ErrorKind::Invalid);
        match self.code.strip_prefix("setting.") {
            Some(field) => error.with("field", field),
            None => error.with("code", &self.code),
        }
    }

    /// Its cause and its remedy, as an error.
    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, format!("{}; {}", self.cause, self.remedy))
    }

    /// Whether it refuses the operation.
    pub fn blocks(&self) -> bool {
        self.severity == Severity::Critical
    }
}

/// Findings and when they were made. Evidence grows old: past `expires` nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What was found.
    pub findings: Vec<Finding>,
    /// When.
    pub checked: Timestamp,
    /// Until when it counts.
    pub expires: Timestamp,
}

impl Readiness {
    /// Whether the whole circle is ready, by evidence that still counts at `now`.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        now <= self.expires && !self.findings.iter().any(Finding::blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_critical_finding_refuses_by_what_it_is_about() {
        let told = |code: &str, severity| Finding::new(code, severity, format!("{code} is so"), "mend it");
        let warned = [told("setting.size", Severity::Info), told("target.space", Severity::Warning)];
        Finding::refuse_critical(&warned, ErrorKind::Refused).expect("nothing is critical");
        let [busy, name] = ["landing.busy", "setting.name"].map(|code| told(code, Severity::Critical));
        for (found, otherwise, kind, code) in [
            ([&busy, &name], ErrorKind::Refused, ErrorKind::Refused, "landing.busy"),
            ([&busy, &name], ErrorKind::Invalid, ErrorKind::Invalid, "landing.busy"),
            ([&name, &busy], ErrorKind::Refused, ErrorKind::Invalid, "setting.name"),
        ] {
            let found: Vec<Finding> = warned.iter().chain(found).cloned().collect();
            let error = Finding::refuse_critical(&found, otherwise).expect_err(code);
            assert_eq!((error.kind(), error.fact("field")), (kind, Some(code)), "{error}");
            assert_eq!(error.message(), format!("{code} is so; mend it"));
        }
    }
}
