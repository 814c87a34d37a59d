//! What a check found.

use crate::Timestamp;
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

    /// The error of what a finding refuses, naming the field that a setting's code tells.
    pub(crate) fn refusal(&self) -> crate::Error {
        let error = crate::Error::new(crate::ErrorKind::Invalid, format!("{}; {}", self.cause, self.remedy));
        match self.code.strip_prefix("setting.") {
            Some(field) => error.with("field", field),
            None => error.with("code", &self.code),
        }
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
