//! What a refusal says of itself.

use azure_core::http::headers::Headers;
use std::fmt;

/// No code or identifier of the service is longer.
const LONGEST: usize = 100;

/// A refusal: of which blob, and what the service calls it. Never its words: they repeat what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The blob, or the container.
    pub blob: String,
    /// HTTP's number.
    pub status: u16,
    /// The service's own name for it: `BlobAlreadyExists`.
    pub code: Option<String>,
    /// By which the service's makers find it in their logs.
    pub request: Option<String>,
}

impl Answer {
    pub(crate) fn of(blob: &str, status: u16, headers: &Headers) -> Self {
        let word = |name: &'static str| {
            let word = headers.get_optional_str(&name.into())?;
            let plain = word.len() <= LONGEST && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            plain.then(|| word.to_owned())
        };
        Self { blob: blob.into(), status, code: word("x-ms-error-code"), request: word("x-ms-request-id") }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP {}", self.blob, self.status)?;
        if let Some(code) = &self.code {
            write!(f, ", {code}")?;
        }
        if let Some(request) = &self.request {
            write!(f, ", request {request}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_a_refusal_is_shown_by_plain_words_alone() {
        let mut headers = Headers::new();
        headers.insert("x-ms-error-code", "AuthenticationFailed");
        headers.insert("x-ms-request-id", "0b4b0b8a-1d5e-4f5c-9a53-1f2d3c4b5a69");
        let answer = Answer::of("d", 403, &headers);
        let wanted = "d (HTTP 403, AuthenticationFailed, request 0b4b0b8a-1d5e-4f5c-9a53-1f2d3c4b5a69)";
        assert_eq!(answer.to_string(), wanted);
        headers.insert("x-ms-error-code", "sig=canary");
        headers.insert("x-ms-request-id", "a".repeat(101));
        assert_eq!(Answer::of("d", 403, &headers).to_string(), "d (HTTP 403)");
    }
}
