//! One exchange by HTTPS: what was sent, what came, and what it means that nothing came.

use crate::{Error, Limits, Lost, Settings};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use site_recovery_https::{Https, Secret};
use std::time::Duration;

const ACTION: HeaderName = HeaderName::from_static("soapaction");
/// Where calls go.
const SERVICE: &str = "/sdk";
const SESSION: &str = "vmware_soap_session";

#[derive(Debug)]
pub(crate) struct Http(Https);

/// A SOAP answer, which may be a fault.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// The session that it opens.
    pub(crate) cookie: Option<HeaderValue>,
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self(Https::new(settings, SERVICE)?))
    }

    /// Posts a message to the service. Its answer has to come within the limit and `longer`.
    pub(crate) async fn post(
        &self,
        body: Bytes,
        action: &str,
        cookie: Option<&HeaderValue>,
        longer: Duration,
    ) -> Result<Answer, Error> {
        let url = self.0.to(SERVICE).expect("a path that is right");
        let request = self.0.request(Method::POST, url).body(body);
        let mut request = request.header(CONTENT_TYPE, "text/xml; charset=utf-8").header(ACTION, action);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let span = self.0.limits().answer().saturating_add(longer);
        let response = self.0.send(request, span).await?;
        let status = response.status();
        // A fault comes with 500.
        if status != StatusCode::OK && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(self.status(status));
        }
        let cookie = session(response.headers());
        let most = self.0.limits().answer_bytes;
        let all = self.0.whole(response, span).await?;
        let all = all.ok_or_else(|| Error::garbage(format!("it is longer than {most} bytes")))?;
        let text = String::from_utf8(all).map_err(|_| Error::garbage("it is not in UTF-8"))?;
        Ok(Answer { status, text, cookie })
    }

    /// Sends a request for something of this server, below an absolute path.
    pub(crate) async fn ask(
        &self,
        cookie: &HeaderValue,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let url = self.0.to(path).ok_or_else(|| {
            Error::invalid("path", format!("{path:?}"), "it is a path of this server", "name a file")
        })?;
        let request = with(self.0.request(method, url)).header(COOKIE, cookie);
        Ok(self.0.send(request, self.0.limits().answer()).await?)
    }

    /// A request, of any length, for what this server has given the address of. Only this server is told of the session.
    pub(crate) fn open(&self, url: Url, cookie: &HeaderValue) -> RequestBuilder {
        let ours = url.origin() == self.0.base().origin();
        let request = self.0.request(Method::GET, url);
        if ours { request.header(COOKIE, cookie) } else { request }
    }

    /// The certificate that the server shows and that is trusted, in its binary form.
    pub(crate) async fn certificate(&self) -> Result<Vec<u8>, Error> {
        let request = self.0.request(Method::HEAD, self.0.base().clone());
        let response = self.0.send(request, self.0.limits().answer()).await?;
        let shown = site_recovery_https::certificate(&response);
        shown.map(<[u8]>::to_vec).ok_or_else(|| Error::garbage("the server shows no certificate"))
    }

    pub(crate) fn limits(&self) -> Limits {
        self.0.limits()
    }

    pub(crate) fn base(&self) -> &Url {
        self.0.base()
    }

    pub(crate) fn status(&self, status: StatusCode) -> Error {
        Error::Status { server: self.0.server().to_owned(), status: status.as_u16() }
    }

    /// What it means that the body of what was asked for did not come whole.
    pub(crate) fn lost(&self, error: &reqwest::Error) -> Lost {
        self.0.lost(error, self.0.limits().answer())
    }
}

/// The cookie as it is sent back: it stands for the password while the session lasts.
fn session(headers: &HeaderMap) -> Option<HeaderValue> {
    let named =
        |value: &&str| value.split_once('=').is_some_and(|(name, id)| name == SESSION && !id.is_empty());
    let all = headers.get_all(SET_COOKIE).iter().filter_map(|v| v.to_str().ok());
    let found = all.filter_map(|set| set.split(';').next()).map(str::trim).find(named)?;
    Secret::new(found.to_owned()).header()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_the_cookie_is_found_among_others_and_not_shown() {
        let mut headers = HeaderMap::new();
        for set in ["other=1; Path=/", "vmware_soap_session=\"52d8-a\"; Path=/; HttpOnly; Secure;"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(set));
        }
        let cookie = session(&headers).expect("it is there");
        assert_eq!(cookie, "vmware_soap_session=\"52d8-a\"");
        assert!(!format!("{cookie:?}").contains("52d8"));
        headers.clear();
        headers.append(SET_COOKIE, HeaderValue::from_static("vmware_soap_session=; Path=/"));
        assert_eq!(session(&headers), None);
    }
}
