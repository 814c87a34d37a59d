//! One connection of the control plane: a greeting, and then calls of the role that it named.

use super::call::Call;
use super::perform::Caller;
use super::tasks::{Tasks, run};
use super::wire::answer::Outcome;
use super::wire::control_server::{Control, ControlServer};
use super::wire::{Answer, Call as Asked, Hello, Welcome};
use crate::allow::{Rights, Shown};
use crate::fault::{Fault, Result};
use crate::frame::json;
use crate::message::{CONTROL, Versions};
use crate::server::{Offer, Phase, Registered, Served};
use crate::tls::Secure;
use crate::told::Told;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use site_recovery::{Error, ErrorKind};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tonic::{Code, Request, Response, Status};

/// The longest call, and how many of one connection are read at once: what it is asked to keep in memory is bounded by both.
const LONGEST: usize = 32 << 20;
const AT_ONCE: usize = 16;

/// Serves whoever has shown this certificate until it leaves, breaks the rules, or is superseded by itself.
pub(crate) async fn serve(
    stream: Secure,
    shown: Shown,
    admitted: Result<(Rights, OwnedSemaphorePermit)>,
    offer: &Arc<Offer>,
) -> Result<(), Fault> {
    let limits = offer.limits();
    let connection = Arc::new(Connection {
        offer: Arc::clone(offer),
        shown,
        admitted,
        greeted: OnceLock::new(),
        calls: Mutex::default(),
        news: Notify::new(),
    });
    let (tasks, to_run) = Tasks::new();
    let service = ControlServer::from_arc(Arc::new(Service(Arc::clone(&connection))));
    let service = service
        .max_decoding_message_size(LONGEST.min(limits.connection_bytes))
        .max_encoding_message_size(usize::MAX);
    let mut http = http2::Builder::new(tasks);
    http.timer(TokioTimer::new())
        .keep_alive_interval(limits.stall / 3)
        .keep_alive_timeout(limits.stall)
        .max_concurrent_streams(limits.connection_requests.min(AT_ONCE) as u32)
        .max_header_list_size(16 * 1024);
    let mut http = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let mut calls = pin!(run(to_run));
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            fault = connection.broken() => return Err(fault),
            ended = http.as_mut() => return ended.map_err(fault_of),
            () = calls.as_mut() => return Ok(()),
            () = offer.until(Phase::Stopping), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
            () = connection.idle(), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

fn fault_of(error: hyper::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>() {
            return Fault::Broken(std::io::Error::new(io.kind(), io.to_string()));
        }
        cause = this.source();
    }
    Fault::Protocol(format!("what is no HTTP/2: {error}"))
}

/// What the calls of one connection share.
#[derive(Debug)]
struct Connection {
    offer: Arc<Offer>,
    shown: Shown,
    /// What it may do, and its place; or why it is not let in.
    admitted: Result<(Rights, OwnedSemaphorePermit)>,
    greeted: OnceLock<Greeted>,
    calls: Mutex<Calls>,
    news: Notify,
}

#[derive(Debug)]
struct Greeted {
    served: Served,
    /// Given back when all that the connection began is dropped.
    registered: Registered,
}

#[derive(Debug, Default)]
struct Calls {
    running: HashMap<u64, Running>,
    begun: u64,
    broken: Option<Fault>,
}

#[derive(Debug)]
struct Running {
    abort: AbortHandle,
    /// Closed when it is over.
    over: watch::Receiver<()>,
}

impl Connection {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().expect("no panic under this lock")
    }

    /// Ends when the connection has to.
    async fn broken(&self) -> Fault {
        let handshake = self.offer.clock().sleep(self.offer.limits().handshake);
        let mut handshake = pin!(handshake);
        loop {
            let news = self.news.notified();
            if let Some(fault) = self.calls().broken.take() {
                return fault;
            }
            match self.greeted.get() {
                Some(greeted) => tokio::select! {
                    () = greeted.registered.superseded() => {
                        return Fault::Ended("a newer connection of this client is here");
                    }
                    () = news => {}
                },
                None => tokio::select! {
                    () = handshake.as_mut() => {
                        return Fault::Silent { what: "greeting", span: self.offer.limits().handshake };
                    }
                    () = news => {}
                },
            }
        }
    }

    /// Ends when nothing was called for long.
    async fn idle(&self) {
        loop {
            let before = self.calls().begun;
            self.offer.clock().sleep(self.offer.limits().idle).await;
            let calls = self.calls();
            if calls.begun == before && calls.running.is_empty() {
                return;
            }
        }
    }

    /// Ends the connection for this.
    fn break_off(&self, fault: Fault) -> Status {
        let status = status(&fault.told());
        self.calls().broken = Some(fault);
        self.news.notify_one();
        status
    }

    /// Ends calls that nobody waits for, and waits until they are over.
    async fn end(&self, given_up: &[u64]) {
        for id in given_up {
            let over = {
                let calls = self.calls();
                let running = calls.running.get(id);
                running.map(|running| {
                    running.abort.abort();
                    running.over.clone()
                })
            };
            if let Some(mut over) = over {
                let _ = over.changed().await;
            }
        }
    }

    async fn greet(&self, hello: Hello) -> Result<Welcome, Fault> {
        self.admitted.as_ref().map_err(|error| Fault::Unwelcome(Told::from(error).into()))?;
        let theirs = Versions { oldest: hello.oldest, newest: hello.newest };
        let version = CONTROL.common(theirs).ok_or(Fault::Version { ours: CONTROL, theirs })?;
        let served = self.offer.served(&hello.role.as_str().into())?;
        served.must_be(&hello.kind).map_err(Fault::Unwelcome)?;
        let name = format!("control of {} as {} by {}", hello.role, hello.kind, hello.client);
        let registered = self.offer.clients().register(&name, hello.connection).await?;
        let capability =
            serde_json::to_vec(&served.capability_as(&hello.kind)).expect("plain data serialises");
        if self.greeted.set(Greeted { served, registered }).is_err() {
            return Err(Fault::protocol("a second greeting"));
        }
        self.news.notify_one();
        Ok(Welcome { version, capability, now: self.offer.clock().now().0 })
    }

    async fn perform(&self, asked: Asked) -> Result<Answer, Status> {
        let Asked { id, given_up, body } = asked;
        let greeted =
            self.greeted.get().ok_or_else(|| self.break_off(Fault::protocol("a call before a greeting")))?;
        self.end(&given_up).await;
        let call: Call = json("a call", &body).map_err(|e| self.break_off(e.into()))?;
        let (abort, registration) = AbortHandle::new_pair();
        let _begun = self.begin(id, abort).map_err(|fault| self.break_off(fault))?;
        let (rights, _) = self.admitted.as_ref().map_err(status)?;
        let caller = Caller { shown: &self.shown, rights, offer: &self.offer };
        let performed = AssertUnwindSafe(caller.perform(call, &greeted.served)).catch_unwind();
        let outcome = match Abortable::new(performed, registration).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the role panicked over this call")),
            Err(_) => Err(Error::new(ErrorKind::Cancelled, "nobody waits for this call")),
        };
        let outcome = match outcome {
            Ok(done) => Outcome::Done(done),
            Err(error) => {
                tracing::debug!(target: "site_recovery_transport", id, %error, "failed");
                Outcome::Failed(Told::from(&error).to_json())
            }
        };
        Ok(Answer { outcome: Some(outcome) })
    }

    fn begin(&self, id: u64, abort: AbortHandle) -> Result<Begun<'_>, Fault> {
        let (alive, over) = watch::channel(());
        let mut calls = self.calls();
        if calls.running.contains_key(&id) {
            return Err(Fault::protocol(format!("call {id} twice at a time")));
        }
        calls.begun += 1;
        calls.running.insert(id, Running { abort, over });
        Ok(Begun { calls: &self.calls, id, _alive: alive })
    }
}

/// A call that runs, until it is dropped: answered or not.
struct Begun<'a> {
    calls: &'a Mutex<Calls>,
    id: u64,
    _alive: watch::Sender<()>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Ok(mut calls) = self.calls.lock() {
            calls.running.remove(&self.id);
        }
    }
}

/// An error of the conversation, with all that it says.
fn status(error: &Error) -> Status {
    let told = Told::from(error).to_json();
    Status::with_details(Code::FailedPrecondition, "see the details", told.into())
}

#[derive(Debug)]
struct Service(Arc<Connection>);

#[tonic::async_trait]
impl Control for Service {
    async fn greet(&self, hello: Request<Hello>) -> Result<Response<Welcome>, Status> {
        match self.0.greet(hello.into_inner()).await {
            Ok(welcome) => Ok(Response::new(welcome)),
            Err(fault) => Err(status(&fault.told())),
        }
    }

    async fn r#do(&self, call: Request<Asked>) -> Result<Response<Answer>, Status> {
        self.0.perform(call.into_inner()).await.map(Response::new)
    }
}
