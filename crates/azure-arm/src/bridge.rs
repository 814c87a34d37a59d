//! What the generated client sends goes by our own wire.

use crate::Error;
use crate::wire::{Reply, Wire};
use async_trait::async_trait;
use azure_core_legacy as legacy;
use bytes::Bytes;
use legacy::error::{Error as Theirs, ErrorKind};
use legacy::headers::Headers;
use legacy::{Body, HttpClient};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Stands where the generated client wants a token. It writes its requests to the log with the token in clear, so it gets
/// none: [`Wire`] sets the real one.
#[derive(Debug)]
pub(crate) struct NoToken;

#[async_trait]
impl legacy::auth::TokenCredential for NoToken {
    async fn get_token(&self, _scopes: &[&str]) -> legacy::Result<legacy::auth::AccessToken> {
        let never = legacy::date::parse_rfc3339("9999-01-01T00:00:00Z")?;
        Ok(legacy::auth::AccessToken::new("none", never))
    }

    async fn clear_cache(&self) -> legacy::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &legacy::Request) -> legacy::Result<legacy::Response> {
        let method = Method::from_bytes(request.method().as_ref().as_bytes());
        let method = method.map_err(|e| Theirs::new(ErrorKind::DataConversion, e))?;
        let Body::Bytes(body) = request.body() else {
            return Err(Theirs::message(ErrorKind::DataConversion, "a body that is a stream"));
        };
        let reply = self.exchange(method, request.url().clone(), slim(body)?).await;
        let reply = reply.map_err(|e| Theirs::new(ErrorKind::Other, e))?;
        let status = legacy::StatusCode::try_from(reply.status);
        let status = status.map_err(|_| Theirs::message(ErrorKind::DataConversion, "an unknown status"))?;
        let mut headers = Headers::new();
        for (name, value) in &reply.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(legacy::Response::new(status, headers, Box::pin(legacy::BytesStream::new(reply.body))))
    }
}

/// Without the nulls that the generated models write for what only Azure sets.
fn slim(body: &Bytes) -> legacy::Result<Bytes> {
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let mut value: Value = serde_json::from_slice(body)?;
    strip(&mut value);
    legacy::to_json(&value)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// What came of a call of the generated client.
pub(crate) async fn reply<R>(call: &str, answer: legacy::Result<R>) -> Result<Reply, Error>
where
    R: Into<legacy::Response>,
{
    let ours = |e: Theirs| {
        e.into_downcast::<Error>().unwrap_or_else(|e| Error::unreadable(call, e.kind().to_string()))
    };
    let (status, theirs, body) = answer.map_err(ours)?.into().deconstruct();
    let mut headers = HeaderMap::new();
    for (name, value) in theirs.iter() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.as_str())) {
            headers.insert(name, value);
        }
    }
    Ok(Reply { status: status.into(), headers, body: body.collect().await.map_err(ours)? })
}
