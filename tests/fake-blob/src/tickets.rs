//! Tokens and signatures that the fake takes.

use crate::call::Call;
use crate::world::random;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use xxhash_rust::xxh3::xxh3_64;

const AUDIENCE: &str = "https://storage.azure.com";

pub(crate) struct Tickets {
    /// From which the keys for user delegation are made.
    secret: hmac::Key,
    pub(crate) granted: BTreeMap<String, Grant>,
    seen: BTreeSet<u64>,
    expired: BTreeSet<u64>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").field("granted", &self.granted.len()).finish_non_exhaustive()
    }
}

/// A signature that was handed out, and for what.
pub(crate) struct Grant {
    pub(crate) account: String,
    pub(crate) container: String,
    pub(crate) blob: Option<String>,
    /// All of the query but the signature itself.
    pub(crate) query: BTreeMap<String, String>,
}

/// Whom a token is for.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) object: String,
    pub(crate) tenant: String,
}

impl Tickets {
    pub(crate) fn new() -> Self {
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, random().as_bytes()),
            granted: BTreeMap::new(),
            seen: BTreeSet::new(),
            expired: BTreeSet::new(),
        }
    }

    /// The key that a user signs with.
    pub(crate) fn delegated(&self, fields: &[&str]) -> Vec<u8> {
        hmac::sign(&self.secret, fields.join("\n").as_bytes()).as_ref().to_vec()
    }

    pub(crate) fn bearer(&mut self, token: &str, now: OffsetDateTime) -> Result<Bearer, &'static str> {
        let claims = claims(token).ok_or("Issuer validation failed. The token is malformed.")?;
        let audience = claims["aud"].as_str().unwrap_or_default().trim_end_matches('/');
        if audience != AUDIENCE {
            return Err("Audience validation failed. Audience did not match.");
        }
        let digest = xxh3_64(token.as_bytes());
        let expires = claims["exp"].as_i64().ok_or("Lifetime validation failed. The token has no expiry.")?;
        if expires <= now.unix_timestamp() || self.expired.contains(&digest) {
            return Err("Lifetime validation failed. The token is expired.");
        }
        if claims["nbf"].as_i64().is_some_and(|from| from > now.unix_timestamp()) {
            return Err("Lifetime validation failed. The token is not yet valid.");
        }
        self.seen.insert(digest);
        let text =
            |name: &str| claims[name].as_str().unwrap_or("00000000-0000-4000-8000-000000000000").to_owned();
        Ok(Bearer { object: text("oid"), tenant: text("tid") })
    }

    /// Takes no token any more that came with this request or before.
    pub(crate) fn expire(&mut self, call: &Call) {
        let header = call.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
        self.expired.extend(header.map(|token| xxh3_64(token.as_bytes())));
        self.expire_seen();
    }

    pub(crate) fn expire_seen(&mut self) {
        self.expired.append(&mut self.seen);
    }
}

fn claims(token: &str) -> Option<Value> {
    let body = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?).ok()
}

/// A token with these claims and a signature that is none.
#[must_use]
pub fn jwt(claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.bm9uZQ", encode(&json!({"alg": "RS256", "typ": "JWT"})), encode(claims))
}

pub(crate) fn token(tenant: &str, now: OffsetDateTime, valid: std::time::Duration) -> String {
    let now = now.unix_timestamp();
    jwt(&json!({
        "aud": AUDIENCE,
        "iss": format!("https://sts.windows.net/{tenant}/"),
        "oid": "5d0f6a5e-0000-4000-8000-0000000000aa",
        "tid": tenant,
        "nbf": now - 60,
        "exp": now + valid.as_secs() as i64,
        // No two are equal, so that one can expire without the other.
        "uti": random(),
    }))
}

pub(crate) fn hmac_base64(key: &[u8], text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}
