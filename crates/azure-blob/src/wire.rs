//! How requests to one container, or one image, are sent: signed, at a bounded rate, and again where that is safe.

use crate::rate::{Bucket, Rate};
use crate::settings::{Limits, Who};
use crate::{Error, sign};
use azure_core::error::CheckSuccessOptions;
use azure_core::http::{
    AsyncRawResponse, ClientOptions, Context, Method, Pipeline, PipelineSendOptions, PipelineStreamOptions,
    RawResponse, Request, RetryOptions, Transport, Url,
};
use site_recovery::{Clock, SystemClock};
use site_recovery_azure_sign_in::http;
use site_recovery_https::{Trust, Unusable};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The version of the service that all of this is written for; that of the SDK's clients too.
const VERSION: &str = "2026-04-06";
/// The most bytes of an answer: no list has more, and no piece that is read.
const ANSWER: usize = 64 << 20;

/// Whether a request is sent again when it is not known to have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It ends the same.
    Safely,
    /// Its caller has to look first.
    Never,
}

#[derive(Debug)]
pub(crate) struct Wire {
    /// What the SDK's clients are made with.
    options: ClientOptions,
    /// For what the SDK's clients cannot ask, or cannot read.
    pipeline: Pipeline,
    limits: Limits,
    account: Bucket,
    blobs: Mutex<HashMap<String, Weak<Rate>>>,
}

impl Wire {
    pub(crate) fn new(trust: &Trust, limits: Limits, who: &Who) -> Result<Self, Unusable> {
        limits.check()?;
        let over = site_recovery_https::Limits {
            connect_ms: limits.connect_ms,
            answer_ms: limits.answer_ms,
            answer_bytes: ANSWER,
            ..Default::default()
        };
        let options = ClientOptions {
            transport: Some(Transport::new(http(trust, over)?)),
            retry: RetryOptions::none(),
            per_try_policies: vec![sign::policy(who)?],
            ..Default::default()
        };
        let (name, version) = (option_env!("CARGO_PKG_NAME"), option_env!("CARGO_PKG_VERSION"));
        let pipeline = Pipeline::new(name, version, options.clone(), vec![], vec![], None);
        let account = Bucket::new(limits.account_requests);
        Ok(Self { options, pipeline, limits, account, blobs: Mutex::default() })
    }

    pub(crate) fn options(&self) -> ClientOptions {
        self.options.clone()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What this blob may be asked, by all who have it in hand.
    pub(crate) fn rate(&self, blob: &str) -> Arc<Rate> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = blobs.get(blob).and_then(Weak::upgrade) {
            return known;
        }
        blobs.retain(|_, rate| rate.strong_count() > 0);
        let rate = Arc::new(Rate::new(&self.limits));
        blobs.insert(blob.to_owned(), Arc::downgrade(&rate));
        rate
    }

    /// Sends what `call` sends, once or until it is done. It has so many bytes.
    pub(crate) async fn send<T, F: Future<Output = azure_core::Result<T>>>(
        &self,
        blob: &str,
        rate: &Rate,
        bytes: u64,
        repeat: Repeat,
        call: impl Fn() -> F,
    ) -> Result<T, Error> {
        let mut tries = Tries::new(&self.limits, repeat);
        loop {
            rate.pass(&self.account, bytes).await;
            match call().await {
                Ok(done) => return Ok(done),
                Err(error) => tries.after(Error::of(&error, blob)).await?,
            }
        }
    }

    /// One try of a request, for what comes in pieces.
    pub(crate) async fn pass(&self, rate: &Rate, bytes: u64) {
        rate.pass(&self.account, bytes).await;
    }

    /// Asks for a document.
    pub(crate) async fn get(
        &self,
        url: Url,
        headers: &[(&'static str, String)],
    ) -> azure_core::Result<RawResponse> {
        let check_success = CheckSuccessOptions { success_codes: &[200] };
        let options = PipelineSendOptions { check_success, ..Default::default() };
        self.pipeline.send(&Context::new(), &mut request(url, headers), Some(options)).await
    }

    /// Asks for a range of bytes.
    pub(crate) async fn stream(
        &self,
        url: Url,
        headers: &[(&'static str, String)],
    ) -> azure_core::Result<AsyncRawResponse> {
        let check_success = CheckSuccessOptions { success_codes: &[206] };
        let options = PipelineStreamOptions { check_success, ..Default::default() };
        self.pipeline.stream(&Context::new(), &mut request(url, headers), Some(options)).await
    }
}

fn request(url: Url, headers: &[(&'static str, String)]) -> Request {
    let mut request = Request::new(url, Method::Get);
    request.insert_header("x-ms-version", VERSION);
    for (name, value) in headers {
        request.insert_header(*name, value.clone());
    }
    request
}

/// How often something was tried.
pub(crate) struct Tries<'a> {
    limits: &'a Limits,
    repeat: Repeat,
    tried: u32,
    renewed: bool,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(limits: &'a Limits, repeat: Repeat) -> Self {
        Self { limits, repeat, tried: 0, renewed: false }
    }

    /// Waits before another try, or gives the error back where there is none.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        self.tried += 1;
        // The token was dropped; nothing was done.
        if error.answer().is_some_and(|answer| answer.status == 401) && !self.renewed {
            self.renewed = true;
            return Ok(());
        }
        if self.repeat == Repeat::Never || !error.may_pass() || self.tried >= self.limits.tries {
            return Err(error);
        }
        let asked = match &error {
            Error::Throttled { after, .. } => *after,
            _ => None,
        };
        let pause = self.limits.pause(self.tried, asked);
        tracing::debug!(%error, tried = self.tried, ?pause, "asked again");
        SystemClock.sleep(pause).await;
        Ok(())
    }
}
