//! Input that is refused before anything is sent.

/// An argument, a setting, or what a setting refers to breaks a rule. Never with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {rule}; {remedy}")]
pub struct Unusable {
    /// What is wrong: `url`, `limits.tries`, `password`, `trust.ca`.
    pub field: &'static str,
    /// Its value and what is wrong with it, or its kind or place where that may be secret.
    pub value: String,
    /// What it has to be.
    pub rule: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Unusable {
    /// This field, which is not what it has to be.
    pub fn new(field: &'static str, value: impl ToString, rule: &'static str, remedy: &'static str) -> Self {
        Self { field, value: value.to_string(), rule, remedy }
    }
}

impl From<Unusable> for site_recovery::Error {
    fn from(Unusable { field, value, rule, remedy }: Unusable) -> Self {
        Self::invalid(field, value, rule, remedy)
    }
}
