//! Against a service that answers as a test tells it: rightly, wrongly, in part, or never.

#[path = "../../../https/tests/support/fake.rs"]
mod fake;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod again;
mod images;
mod secrets;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use fake::{Fake, Reply};
use site_recovery_azure_blob::{Container, Limits, Settings, Who};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Begins each token, and stands in nothing that is shown.
const TOKEN: &str = "canary-token";

/// Gives out `canary-token-0`, then `canary-token-1`.
#[derive(Debug, Default)]
struct Tokens(AtomicU64);

#[async_trait]
impl TokenCredential for Tokens {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let token = format!("{TOKEN}-{}", self.0.fetch_add(1, Ordering::Relaxed));
        Ok(AccessToken::new(token, OffsetDateTime::from_unix_timestamp(32_503_680_000).expect("a time")))
    }
}

fn limits() -> Limits {
    Limits { answer_ms: 20_000, pause_ms: 1, tries: 3, ..Limits::default() }
}

fn settings(fake: &Fake) -> Settings {
    Settings {
        container: format!("{}/account/points", fake.settings.url),
        trust: fake.settings.trust.clone(),
        limits: limits(),
    }
}

/// The container of this service, for whoever signs in by tokens.
fn container(fake: &Fake) -> Container {
    Container::new(&settings(fake), Who::Signed(Arc::new(Tokens::default()))).expect("settings")
}

/// A service that gives these answers, one after the other, and the last one for ever.
fn script(replies: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Fake {
    let next = std::sync::atomic::AtomicUsize::new(0);
    Fake::answering(move |_| replies(next.fetch_add(1, Ordering::SeqCst)))
}

fn say(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Reply::Say(status, headers, body.as_bytes().to_vec())
}
