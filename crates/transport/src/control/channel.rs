//! The client's side of a control connection: greets, asks, and greets anew where a connection broke.

use super::call::Call;
use super::wire::answer::Outcome;
use super::wire::control_client::ControlClient;
use super::wire::{Answer, Call as Asked, Hello};
use super::{Heard, VitalSigns};
use crate::client::Far;
use crate::fault::{Fault, Result, within};
use crate::frame::json;
use crate::message::{CONTROL, Versions};
use crate::tls::Plane;
use crate::told::Told;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use site_recovery::{Capability, Error, ErrorKind, ErrorStatus};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often one call is sent before its caller is told that it does not come through.
const MOST_SENDS: u32 = 16;

/// Calls of one role of one server.
#[derive(Debug)]
pub(crate) struct Channel {
    far: Arc<Far>,
    line: tokio::sync::Mutex<Option<Line>>,
    connections: AtomicU64,
    calls: AtomicU64,
    /// Calls that left and that nobody waits for.
    given_up: Mutex<BTreeSet<u64>>,
    capability: OnceLock<Capability>,
}

/// A connection that was greeted.
#[derive(Debug, Clone)]
struct Line {
    client: ControlClient<tonic::transport::Channel>,
    number: u64,
}

impl Channel {
    /// Connects with the first call. The role has to have this capability.
    pub(crate) fn lazy(far: Arc<Far>, capability: Capability) -> Self {
        let channel = Self::new(far);
        channel.capability.get_or_init(|| capability);
        channel
    }

    /// Connects now, once.
    pub(crate) async fn connected(far: Arc<Far>) -> Result<Self> {
        let channel = Self::new(far);
        let line = channel.dial().await.map_err(|fault| fault.told().at(&channel.far.role, "connect"))?;
        *channel.line.lock().await = Some(line);
        Ok(channel)
    }

    fn new(far: Arc<Far>) -> Self {
        Self {
            far,
            line: tokio::sync::Mutex::default(),
            connections: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            given_up: Mutex::default(),
            capability: OnceLock::new(),
        }
    }

    pub(crate) fn capability(&self) -> &Capability {
        self.capability.get().expect("it is told before a channel is handed out")
    }

    /// Asks, and waits for the answer, on as many connections as it takes.
    ///
    /// # Cancel safety
    /// A call that is dropped is dropped on the other side, too, before anything that is asked later begins.
    pub(crate) async fn call<T: DeserializeOwned>(&self, operation: &'static str, call: Call) -> Result<T> {
        self.ask(call).await.map_err(|e| e.at(&self.far.role, operation))
    }

    /// How the service is, how far away, and how far its clock is from ours.
    pub(crate) async fn heard(&self) -> Result<Heard> {
        let clock = &self.far.clock;
        let asked = clock.now();
        let signs: VitalSigns = self.call("vitals", Call::Vitals).await?;
        let (now, round_trip) = (clock.now(), clock.now().since(asked));
        // It answered in the middle of it, as far as anybody can tell.
        let middle = asked.after(round_trip / 2);
        let skew = signs.now.since(middle).max(middle.since(signs.now));
        Ok(Heard { signs, round_trip, skew, at: now })
    }

    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let body = serde_json::to_vec(&call).expect("plain data serialises");
        let mut asked = Waiting { channel: self, id: self.calls.fetch_add(1, Ordering::SeqCst), left: false };
        let mut patience = None;
        for _ in 0..MOST_SENDS {
            let limit = patience.get_or_insert_with(|| self.far.clock.sleep(self.far.patience));
            let mut last = None;
            let line = tokio::select! {
                biased;
                line = self.line(&mut last) => line.map_err(|fault| fault.told())?,
                () = limit => {
                    self.far.set_out_of_reach(true);
                    return Err(last.unwrap_or(self.silent()).told());
                }
            };
            // It runs from one connection to the next: a call may take longer than anybody waits for one.
            patience = None;
            let given_up: Vec<u64> = self.given_up().iter().copied().collect();
            let call = Asked { id: asked.id, given_up: given_up.clone(), body: body.clone() };
            asked.left = true;
            match line.client.clone().r#do(call).await {
                Ok(answer) => {
                    asked.left = false;
                    self.given_up().retain(|id| !given_up.contains(id));
                    return outcome(answer.into_inner());
                }
                Err(status) => {
                    self.lost(line.number).await;
                    let error = broken(&status);
                    tracing::debug!(target: "site_recovery_transport", role = %self.far.role, %error, "connection ended");
                    if !error.is_temporary() {
                        return Err(error);
                    }
                }
            }
        }
        let said = format!("the call was sent {MOST_SENDS} times and not answered");
        Err(Error::new(ErrorKind::Unavailable, said).with("attempts", MOST_SENDS))
    }

    fn silent(&self) -> Fault {
        Fault::Silent { what: "connection", span: self.far.patience }
    }

    /// The connection that stands, or a new one as soon as there is one.
    async fn line(&self, last: &mut Option<Fault>) -> Result<Line, Fault> {
        let mut line = self.line.lock().await;
        if let Some(line) = &*line {
            return Ok(line.clone());
        }
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.dial().await {
                Ok(new) => {
                    self.far.set_out_of_reach(false);
                    return Ok(line.insert(new).clone());
                }
                Err(fault) if fault.passes() && !self.far.is_out_of_reach() => *last = Some(fault),
                Err(fault) => return Err(fault),
            }
            self.far.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn lost(&self, number: u64) {
        let mut line = self.line.lock().await;
        if line.as_ref().is_some_and(|line| line.number == number) {
            *line = None;
        }
    }

    async fn dial(&self) -> Result<Line, Fault> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let far = &self.far;
        let (line, capability) = within(&*far.clock, far.stall, "connection", self.greet(number)).await?;
        let before = self.capability.get_or_init(|| capability.clone());
        if *before != capability {
            return Err(Fault::Changed { before: Box::new(before.clone()), now: Box::new(capability) });
        }
        // What an earlier connection began is over by now.
        self.given_up().clear();
        Ok(line)
    }

    async fn greet(&self, number: u64) -> Result<(Line, Capability), Fault> {
        let far = &self.far;
        let stream = TcpStream::connect(&far.address).await?;
        stream.set_nodelay(true)?;
        let mut stream = Some(TokioIo::new(far.tls.connect(stream, Plane::Control).await?));
        // One connection, and not another one behind its back: that would not have been greeted.
        let once = tower::service_fn(move |_| {
            let over = || std::io::Error::new(std::io::ErrorKind::NotConnected, "this connection is over");
            std::future::ready(stream.take().ok_or_else(over))
        });
        let endpoint = Endpoint::from_static("http://site-recovery")
            .http2_keep_alive_interval(far.stall / 3)
            .keep_alive_timeout(far.stall)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector(once).await;
        let channel = channel.map_err(|e| Fault::Broken(std::io::Error::other(e)))?;
        let mut client = ControlClient::new(channel)
            .max_decoding_message_size(far.longest as usize)
            .max_encoding_message_size(usize::MAX);
        let hello = Hello {
            oldest: CONTROL.oldest,
            newest: CONTROL.newest,
            role: far.role.0.clone(),
            kind: far.kind.to_owned(),
            client: far.client.clone(),
            connection: number,
        };
        let welcome = client.greet(hello).await.map_err(|status| refused(&status))?.into_inner();
        if !CONTROL.contains(welcome.version) {
            let theirs = Versions { oldest: welcome.version, newest: welcome.version };
            return Err(Fault::Version { ours: CONTROL, theirs });
        }
        Ok((Line { client, number }, json("a capability", &welcome.capability)?))
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.given_up.lock().expect("no panic under this lock")
    }
}

/// A call that somebody waits for.
struct Waiting<'a> {
    channel: &'a Channel,
    id: u64,
    left: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.left {
            self.channel.given_up().insert(self.id);
        }
    }
}

fn outcome<T: DeserializeOwned>(answer: Answer) -> Result<T> {
    match answer.outcome {
        Some(Outcome::Done(body)) => json("an answer", &body).map_err(|e| Fault::from(e).told()),
        Some(Outcome::Failed(told)) => {
            let told: Told = json("an error", &told).map_err(|e| Fault::from(e).told())?;
            Err(told.into())
        }
        None => Err(Fault::protocol("an answer that says nothing").told()),
    }
}

/// Why a greeting was not answered by a welcome.
fn refused(status: &Status) -> Fault {
    match json::<Told>("an error", status.details()) {
        Ok(told) => Fault::Unwelcome(told.into()),
        Err(_) => Fault::Broken(std::io::Error::other(status.clone())),
    }
}

/// Why a call was not answered.
fn broken(status: &Status) -> Error {
    if let Ok(told) = json::<Told>("an error", status.details()) {
        return told.into();
    }
    let error = Error::new(ErrorKind::Unavailable, format!("no answer came: {}", status.message()));
    match status.code() {
        // Longer than a side takes: it would be so again. What was asked may be done.
        Code::OutOfRange | Code::ResourceExhausted => error.status(ErrorStatus::Permanent),
        _ => error,
    }
}
