//! Connections: a request is read, meets its fault, is carried out and is answered.

use crate::answer::{Answer, Cut, Refused};
use crate::call::Call;
use crate::faults::{Fault, Faults, LONGEST};
use crate::flushes::Flushes;
use crate::log::{Entry, Log};
use crate::route;
use crate::world::{World, uuid};
use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The most that a body may hold, so that a mistake does not take all memory.
const MOST: usize = 512 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

pub(crate) async fn listen(listener: TcpListener, acceptor: TlsAcceptor, service: Service) {
    let runtime = Handle::current();
    loop {
        // An error here is of one connection, as when it was reset before it was taken.
        if let Ok((stream, _)) = listener.accept().await {
            runtime.spawn(connection(stream, acceptor.clone(), service.clone()));
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, service: Service) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let stream = Flushes { stream, done: watch::Sender::new(()) };
    let flushed = stream.done.subscribe();
    let answer = service_fn(move |request| service.clone().answer(request, flushed.clone()));
    // An error is a connection that ended, as faults and clients end them.
    let _ =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
}

impl Service {
    async fn answer(
        self,
        request: Request<Incoming>,
        flushed: watch::Receiver<()>,
    ) -> Result<Response<Body>, Broken> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MOST).collect().await?.to_bytes();
        let call = Call::new(head, body);
        let method = call.method.clone();
        let mut cut = None;
        let fault = self.faults.take(&call);
        let answer = match fault {
            None => self.carry_out(&call),
            Some(Fault::Status { code, azure_code, retry_after }) => {
                refused(code, azure_code, retry_after).answer()
            }
            Some(Fault::DropBeforeEffect) => return self.broken(&call),
            Some(Fault::DropBeforeAnswer) => {
                self.carry_out(&call);
                return self.broken(&call);
            }
            Some(Fault::Hang(time)) => {
                self.note(&call, None, 0);
                let _ = timeout(time.min(LONGEST), pending::<()>()).await;
                return Err("held by a fault".into());
            }
            Some(Fault::Late(gate)) => {
                let own = self.clone();
                // A task of its own: it goes on when the connection ends.
                let task = Handle::current().spawn(async move {
                    let _ = timeout(LONGEST, gate.opened()).await;
                    let answer = own.carry_out(&call);
                    own.note(&call, Some(&answer), answer.len());
                    gate.through().add();
                    answer
                });
                return Ok(finish(task.await?).send(&method, None));
            }
            Some(Fault::CutBody(bytes)) => {
                cut = Some(bytes);
                self.carry_out(&call)
            }
            Some(Fault::ExpireTokens) => {
                self.world().tickets.expire(&call);
                self.carry_out(&call)
            }
        };
        let cut = cut.map(|after| Cut { after, flushed });
        let most = cut.as_ref().map_or(u64::MAX, |cut| cut.after);
        let sent = if method == hyper::Method::HEAD { 0 } else { answer.len().min(most) };
        self.note(&call, Some(&answer), sent);
        Ok(finish_for(answer, call.header("x-ms-client-request-id")).send(&method, cut))
    }

    fn carry_out(&self, call: &Call) -> Answer {
        route::carry_out(&mut self.world(), call).unwrap_or_else(Refused::answer)
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, call: &Call) -> Result<Response<Body>, Broken> {
        self.note(call, None, 0);
        Err("broken by a fault".into())
    }

    fn note(&self, call: &Call, answer: Option<&Answer>, sent: u64) {
        self.log.add(Entry {
            method: call.method.to_string(),
            path: call.path.clone(),
            comp: call.comp().unwrap_or_default().to_owned(),
            received: call.body.len() as u64,
            sent,
            status: answer.map(|answer| answer.status),
            code: answer.and_then(|answer| answer.header("x-ms-error-code")).map(str::to_owned),
        });
    }
}

fn refused(code: u16, azure_code: &str, retry_after: Option<u64>) -> Refused {
    let refused = Refused::new(code, azure_code, "A fault that was asked for.");
    match retry_after {
        Some(seconds) => refused.with("Retry-After", &seconds.to_string()),
        None => refused,
    }
}

fn finish(answer: Answer) -> Answer {
    answer
        .with("Server", "fake-blob")
        .with("X-Simulated-By", "fake-blob")
        .with("x-ms-request-id", uuid())
        .with("x-ms-version", "2026-04-06")
}

fn finish_for(answer: Answer, client: Option<&str>) -> Answer {
    match client {
        Some(id) => finish(answer).with("x-ms-client-request-id", id),
        None => finish(answer),
    }
}
