//! The same for `azure_core` 0.21.

use crate::http::{Asked, Transport, headers, server};
use crate::{Limits, Lost, Trust, Unusable};
use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_core_legacy::auth::{AccessToken, TokenCredential as LegacyCredential};
use azure_core_legacy::error::{Error, ErrorKind};
use azure_core_legacy::headers::{HeaderName, HeaderValue, Headers};
use azure_core_legacy::{Body, HttpClient, Request, Response, StatusCode};
use futures_util::StreamExt;
use std::sync::Arc;

/// What the clients of `azure_core` 0.21 send their requests over; as [`http`](crate::http) in all.
///
/// # Errors
/// For a trust or a limit that breaks a rule.
pub fn legacy_http(trust: &Trust, limits: Limits) -> Result<Arc<dyn HttpClient>, Unusable> {
    Ok(Arc::new(Transport::new(trust, limits)?))
}

/// The credential, as the clients of `azure_core` 0.21 ask for it.
pub fn legacy_credential(credential: Arc<dyn TokenCredential>) -> Arc<dyn LegacyCredential> {
    Arc::new(Bridge(credential))
}

#[derive(Debug)]
struct Bridge(Arc<dyn TokenCredential>);

#[async_trait]
impl LegacyCredential for Bridge {
    async fn get_token(&self, scopes: &[&str]) -> azure_core_legacy::Result<AccessToken> {
        let token = self.0.get_token(scopes, None).await.map_err(|e| Error::new(ErrorKind::Credential, e))?;
        Ok(AccessToken::new(token.token.secret().to_owned(), token.expires_on))
    }

    async fn clear_cache(&self) -> azure_core_legacy::Result<()> {
        // The credential renews its tokens by itself.
        Ok(())
    }
}

fn lost(lost: Lost) -> Error {
    Error::new(ErrorKind::Io, lost)
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core_legacy::Result<Response> {
        let odd = || Error::message(ErrorKind::DataConversion, "a method or status that HTTP does not know");
        let method = request.method().as_ref().parse().map_err(|_| odd())?;
        let Body::Bytes(body) = request.body().clone() else {
            return Err(Error::message(ErrorKind::Other, "a body is sent from memory"));
        };
        let sent = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let asked = Asked { method, url: request.url(), headers: sent, body };
        let response = self.send(asked).await.map_err(lost)?;
        let mut found = Headers::new();
        for (name, value) in headers(&response) {
            found.insert(HeaderName::from(name), HeaderValue::from(value));
        }
        let status = StatusCode::try_from(response.status().as_u16()).map_err(|_| odd())?;
        let body = self.chunks(response, server(request.url())).map(|chunk| chunk.map_err(lost));
        Ok(Response::new(status, found, Box::pin(body)))
    }
}
