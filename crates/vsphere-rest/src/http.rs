//! One exchange by HTTPS: what was sent, what came, and what it means that nothing came.

use crate::shape::refusal;
use crate::{Error, Settings};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use site_recovery_https::{Https, Secret};

/// Where settings may lead as well that serve the other interface, too.
const SDK: &str = "/sdk";
const SESSION: HeaderName = HeaderName::from_static("vmware-api-session-id");

#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) https: Https,
}

/// What is sent, however often.
pub(crate) struct Message {
    pub(crate) call: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<Vec<u8>>,
}

/// By whom.
pub(crate) enum Who<'a> {
    Password(&'a str, &'a Secret),
    Session(&'a HeaderValue),
}

impl Who<'_> {
    /// Whether a server repeats it.
    fn is_in(&self, text: &str) -> bool {
        match self {
            // Also as it was encoded: nothing that is said of a login is shown.
            Self::Password(..) => true,
            Self::Session(token) => token.to_str().is_ok_and(|token| text.contains(token)),
        }
    }
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let https = Https::new(settings, SDK)?;
        // A login is by HTTP's own means, where the password begins after the first colon.
        if settings.user.contains(':') {
            let rule = "it is a name without a colon";
            return Err(Error::invalid("user", format!("{:?}", settings.user), rule, "name who asks"));
        }
        Ok(Self { https })
    }

    /// The body of a right answer.
    pub(crate) async fn exchange(&self, message: &Message, who: Who<'_>) -> Result<Vec<u8>, Error> {
        let mut request = self.https.request(message.method.clone(), message.url.clone());
        request = match &who {
            Who::Password(user, password) => request.basic_auth(user, Some(password.expose())),
            Who::Session(token) => request.header(SESSION, *token),
        };
        if let Some(body) = &message.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let span = self.https.limits().answer();
        let response = self.https.send(request, span).await?;
        let status = response.status();
        let body = self.https.whole(response, span).await?;
        if status.is_success() {
            let most = self.https.limits().answer_bytes;
            return body
                .ok_or_else(|| Error::garbage(message.call, format!("it is longer than {most} bytes")));
        }
        let call = message.call;
        Err(match body.as_deref().and_then(refusal) {
            Some((refusal, mut words)) => {
                words.retain(|text| !who.is_in(text));
                Error::Refused { call, refusal, words }
            }
            None => Error::Status { server: self.https.server().to_owned(), call, status: status.as_u16() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_no_login_can_hold_are_refused() {
        let settings = |user: &str| {
            let trust = serde_json::json!({ "sha256": "ab".repeat(32) });
            let json = serde_json::json!({
                "url": "https://a", "user": user, "trust": trust, "password": { "file": "/etc/p" }
            });
            serde_json::from_value::<Settings>(json).expect("they are settings")
        };
        assert!(Http::new(&settings("dr@vsphere.local")).is_ok());
        for bad in ["", "a:b", "a\n"] {
            let error = Http::new(&settings(bad)).expect_err(bad).to_string();
            assert!(error.starts_with("user is"), "{error}");
        }
    }
}
