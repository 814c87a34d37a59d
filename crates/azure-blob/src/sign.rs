//! Each request shows who asks.
#![allow(elided_lifetimes_in_paths, reason = "as the trait that is implemented writes them")]

use crate::settings::Who;
use async_trait::async_trait;
use azure_core::http::headers::Headers;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use azure_core::time::{OffsetDateTime, to_rfc7231};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use site_recovery::{Clock, SystemClock};
use site_recovery_https::{Secret, Unusable};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

const SCOPE: &str = "https://storage.azure.com/.default";

/// What signs requests so.
pub(crate) fn policy(who: &Who) -> Result<Arc<dyn Policy>, Unusable> {
    Ok(match who {
        Who::Signed(credential) => Arc::new(BearerTokenAuthorizationPolicy::new(credential.clone(), [SCOPE])),
        Who::Sas(query) => {
            let query = query.expose().trim_start_matches('?');
            if query.is_empty() || query.contains(|c: char| c.is_control() || c == '#') {
                let rule = "it is the query of a signed address";
                return Err(Unusable::new("sas", "none", rule, "give what follows the question mark"));
            }
            Arc::new(Signature(Secret::new(query.to_owned())))
        }
        Who::Key { account, key } => Arc::new(Shared { account: account.clone(), key: Key::new(key)? }),
    })
}

/// The key of an account, ready to sign with.
pub(crate) struct Key(hmac::Key);

impl Key {
    pub(crate) fn new(key: &Secret) -> Result<Self, Unusable> {
        let bytes = STANDARD.decode(key.expose()).map_err(|_| {
            Unusable::new("key", "no Base64", "it is a key as the account shows it", "copy it whole")
        })?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    pub(crate) fn sign(&self, text: &str) -> String {
        STANDARD.encode(hmac::sign(&self.0, text.as_bytes()))
    }
}

/// Appends what somebody has signed.
struct Signature(Secret);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

#[async_trait]
impl Policy for Signature {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let with = match request.url().query() {
            Some(query) if !query.is_empty() => format!("{query}&{}", self.0.expose()),
            _ => self.0.expose().to_owned(),
        };
        request.url_mut().set_query(Some(&with));
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// Signs with the account's key.
struct Shared {
    account: String,
    key: Key,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl Policy for Shared {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        request.insert_header("x-ms-date", to_rfc7231(&now()));
        let text = text(&self.account, request);
        request
            .insert_header("authorization", format!("SharedKey {}:{}", self.account, self.key.sign(&text)));
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// What is signed of a request, as "Authorize with Shared Key" has it.
fn text(account: &str, request: &Request) -> String {
    let headers: &Headers = request.headers();
    let header = |name: &'static str| headers.get_optional_str(&name.into()).unwrap_or_default();
    let mut text = format!("{}\n", request.method());
    for name in ["content-encoding", "content-language"] {
        text += &format!("{}\n", header(name));
    }
    let length = request.body().len().unwrap_or(0);
    text += &if length == 0 { "\n".to_owned() } else { format!("{length}\n") };
    // The date stands among the headers that follow.
    text += &format!("{}\n{}\n\n", header("content-md5"), header("content-type"));
    for name in ["if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"] {
        text += &format!("{}\n", header(name));
    }
    let own = headers.iter().map(|(name, value)| (name.as_str().to_ascii_lowercase(), value.as_str().trim()));
    let own: BTreeMap<_, _> = own.filter(|(name, _)| name.starts_with("x-ms-")).collect();
    for (name, value) in own {
        text += &format!("{name}:{value}\n");
    }
    text += &format!("/{account}{}", request.url().path());
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.url().query_pairs() {
        query.entry(name.to_ascii_lowercase()).or_default().push(value.into_owned());
    }
    for (name, mut values) in query {
        values.sort();
        text += &format!("\n{name}:{}", values.join(","));
    }
    text
}

/// Now, to the second.
pub(crate) fn now() -> OffsetDateTime {
    let seconds = i64::try_from(SystemClock.now().0 / 1000).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
