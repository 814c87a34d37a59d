//! What goes wrong with a blob, told apart by what its caller does about it.

use crate::Answer;
use azure_core::error::ErrorKind as Kind;
use site_recovery::{ErrorKind, ErrorStatus};
use site_recovery_https::{Lost, Unusable};
use std::time::Duration;

/// Why the service did not do what it was asked. None holds a token, a signature, a key or the body of a request.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; nothing was sent.
    #[error(transparent)]
    Invalid(#[from] Unusable),
    /// It is not there, or its container is not.
    #[error("{0} is not there")]
    Absent(Answer),
    /// It was to be made, and is there already.
    #[error("{0} is there already")]
    Exists(Answer),
    /// It is not as it was when it was read: read it again.
    #[error("{0} has changed since it was read; read it again")]
    Changed(Answer),
    /// Its sequence number is another one: somebody else writes it now. Stop.
    #[error("{0} is written by somebody else now; stop")]
    Superseded(Answer),
    /// Who asks may not do this.
    #[error(
        "{0} is not given to who asks; look at the roles on the account, and at the rules of its network"
    )]
    Denied(Answer),
    /// No token was given out.
    #[error("no token is given to who asks: {because}")]
    NoToken {
        /// What the sign-in says.
        because: String,
    },
    /// The sign-in does not answer, which is asked several times: nothing was sent.
    #[error("no token is given to who asks: {lost}")]
    Unsigned {
        /// How it ended.
        lost: Lost,
    },
    /// Too much is asked: again, but later.
    #[error("{answer} is asked too much; ask less, or later")]
    Throttled {
        /// Of what.
        answer: Answer,
        /// How long the service wants to be left alone.
        after: Option<Duration>,
    },
    /// Somebody else is at it: a copy is under way, or a lease is held.
    #[error("{0} is in use; wait until its copy or lease has ended")]
    Busy(Answer),
    /// The service failed; the change may have been made.
    #[error("{0}: the service failed; look at what is, then try again")]
    Failed(Answer),
    /// The service refused for another reason.
    #[error("{0} refuses; its code says why")]
    Refused(Answer),
    /// No answer came, or not whole.
    #[error("{blob}: {lost}")]
    Lost {
        /// The blob, or the container.
        blob: String,
        /// What happened.
        lost: Lost,
    },
    /// The answer is not what the protocol allows.
    #[error("the answer about {blob} makes no sense: {what}")]
    Garbage {
        /// The blob, or the container.
        blob: String,
        /// What is wrong with it, without its bytes.
        what: String,
    },
}

impl Error {
    pub(crate) fn invalid(
        field: &'static str,
        value: impl ToString,
        rule: &'static str,
        remedy: &'static str,
    ) -> Self {
        Unusable::new(field, value, rule, remedy).into()
    }

    pub(crate) fn garbage(blob: &str, what: impl Into<String>) -> Self {
        Self::Garbage { blob: blob.into(), what: what.into() }
    }

    /// By what the SDK says. Its words are left behind: they hold addresses and bodies.
    pub(crate) fn of(error: &azure_core::Error, blob: &str) -> Self {
        if let Some(lost) = Lost::behind(error) {
            let lost = lost.clone();
            return match (error.kind(), &lost) {
                (Kind::Credential, Lost::Stranger { .. }) => Self::NoToken { because: lost.to_string() },
                (Kind::Credential, _) => Self::Unsigned { lost },
                _ => Self::Lost { blob: blob.into(), lost },
            };
        }
        match error.kind() {
            Kind::HttpResponse { status, raw_response: Some(raw), .. } => {
                let answer = Answer::of(blob, u16::from(*status), raw.headers());
                let after = raw.headers().get_optional_str(&"retry-after".into());
                let after = after.and_then(|a| a.trim().parse().ok()).map(Duration::from_secs);
                Self::answered(answer, after)
            }
            Kind::HttpResponse { status, .. } => {
                let answer =
                    Answer { blob: blob.into(), status: u16::from(*status), code: None, request: None };
                Self::answered(answer, None)
            }
            Kind::Credential => Self::NoToken { because: first_line(&error.to_string()) },
            kind => Self::garbage(blob, format!("{kind}")),
        }
    }

    fn answered(answer: Answer, after: Option<Duration>) -> Self {
        let code = answer.code.as_deref().unwrap_or_default();
        match (answer.status, code) {
            (..=399, _) => Self::garbage(&answer.blob, format!("HTTP {}", answer.status)),
            (404, _) => Self::Absent(answer),
            (_, "BlobAlreadyExists" | "ContainerAlreadyExists" | "UnauthorizedBlobOverwrite") => {
                Self::Exists(answer)
            }
            (412, "SequenceNumberConditionNotMet") => Self::Superseded(answer),
            (412, "ConditionNotMet" | "TargetConditionNotMet" | "") => Self::Changed(answer),
            (412, code) if code.starts_with("Lease") => Self::Busy(answer),
            (
                409,
                "PendingCopyOperation"
                | "ContainerBeingDeleted"
                | "BlobBeingRehydrated"
                | "OperationInProgress"
                | "SnapshotOperationRateExceeded",
            ) => Self::Busy(answer),
            (409, code) if code.starts_with("Lease") => Self::Busy(answer),
            (401 | 403, _) => Self::Denied(answer),
            (429 | 503, _) => Self::Throttled { answer, after },
            (408 | 500 | 502 | 504, _) => Self::Failed(answer),
            _ => Self::Refused(answer),
        }
    }

    /// The service's refusal, where it answered.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Absent(answer)
            | Self::Exists(answer)
            | Self::Changed(answer)
            | Self::Superseded(answer)
            | Self::Denied(answer)
            | Self::Throttled { answer, .. }
            | Self::Busy(answer)
            | Self::Failed(answer)
            | Self::Refused(answer) => Some(answer),
            Self::Invalid(_)
            | Self::NoToken { .. }
            | Self::Unsigned { .. }
            | Self::Lost { .. }
            | Self::Garbage { .. } => None,
        }
    }

    /// Whether a change that was asked for may have been made although there is an error.
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::Lost { lost, .. } => lost.may_have_come(),
            Self::Failed(_) | Self::Garbage { .. } => true,
            _ => false,
        }
    }

    /// Whether the same request may come through a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Failed(_) => true,
            Self::Lost { lost, .. } => !matches!(lost, Lost::Stranger { .. }),
            _ => false,
        }
    }

    /// What a caller of the library can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Absent(_) => ErrorKind::NotFound,
            Self::Exists(_) | Self::Changed(_) => ErrorKind::Conflict,
            Self::Superseded(_) | Self::Refused(_) => ErrorKind::Refused,
            Self::Denied(_) | Self::NoToken { .. } => ErrorKind::Denied,
            Self::Throttled { .. } | Self::Busy(_) => ErrorKind::Busy,
            Self::Failed(_) => ErrorKind::Unavailable,
            Self::Lost { lost, .. } | Self::Unsigned { lost } => lost.kind(),
            Self::Garbage { .. } => ErrorKind::Corrupt,
        }
    }
}

/// As much of it as helps; the rest are links and addresses.
fn first_line(words: &str) -> String {
    let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl From<Error> for site_recovery::Error {
    /// With the facts `blob`, `status`, `code`, `request`, `field` and `outcome` (`unknown`), where they are known.
    fn from(error: Error) -> Self {
        let mut made = Self::new(error.kind(), error.to_string());
        if let Some(answer) = error.answer() {
            made = made.with("blob", &answer.blob).with("status", answer.status);
            for (name, known) in [("code", &answer.code), ("request", &answer.request)] {
                if let Some(known) = known {
                    made = made.with(name, known);
                }
            }
        }
        match &error {
            Error::Invalid(wrong) => made = made.with("field", wrong.field),
            Error::Lost { blob, .. } | Error::Garbage { blob, .. } => made = made.with("blob", blob),
            _ => {}
        }
        if error.may_have_been_done() {
            made = made.with("outcome", "unknown");
        }
        if matches!(error, Error::Lost { lost: Lost::Stranger { .. }, .. }) {
            made = made.status(ErrorStatus::Permanent);
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_what_its_caller_does_about_it() {
        use ErrorKind::{Busy, Conflict, Corrupt, Denied, NotFound, Refused, Unavailable};
        let cases = [
            (200, "", Corrupt, true),
            (307, "", Corrupt, true),
            (400, "InvalidHeaderValue", Refused, false),
            (401, "NoAuthenticationInformation", Denied, false),
            (403, "AuthorizationPermissionMismatch", Denied, false),
            (403, "UnauthorizedBlobOverwrite", Conflict, false),
            (404, "BlobNotFound", NotFound, false),
            (404, "", NotFound, false),
            (408, "", Unavailable, true),
            (409, "BlobAlreadyExists", Conflict, false),
            (409, "ContainerBeingDeleted", Busy, false),
            (409, "LeaseAlreadyPresent", Busy, false),
            (409, "PendingCopyOperation", Busy, false),
            (409, "SnapshotsPresent", Refused, false),
            (412, "ConditionNotMet", Conflict, false),
            (412, "", Conflict, false),
            (412, "LeaseIdMissing", Busy, false),
            (412, "SequenceNumberConditionNotMet", Refused, false),
            (413, "RequestBodyTooLarge", Refused, false),
            (416, "InvalidRange", Refused, false),
            (429, "", Busy, false),
            (500, "InternalError", Unavailable, true),
            (503, "ServerBusy", Busy, false),
        ];
        for (status, code, kind, unknown) in cases {
            let code = (!code.is_empty()).then(|| code.to_owned());
            let answer =
                Answer { blob: "d/os.vhd".into(), status, code: code.clone(), request: Some("7-a".into()) };
            let error = Error::answered(answer, None);
            assert_eq!((error.kind(), error.may_have_been_done()), (kind, unknown), "{status} {code:?}");
            let made = site_recovery::Error::from(error);
            assert_eq!((made.kind(), made.fact("blob")), (kind, Some("d/os.vhd")), "{made}");
            assert_eq!(made.fact("outcome"), unknown.then_some("unknown"));
            if status >= 400 {
                assert_eq!(
                    (made.fact("status"), made.fact("code")),
                    (Some(&*status.to_string()), code.as_deref())
                );
                assert!(made.to_string().contains("7-a"), "{made}");
            }
        }
    }
}
