//! The authority's port. Strangers can reach it: what each may take is bounded, and garbage is cut off.

use super::answers::{Enrols, Tells};
use super::authority::{Authority, Membership};
use super::certify;
use super::handshake::{JOIN, MEMBER, Revocations, Shows};
use super::words::LONGEST_ASKED;
use super::words::wire::enrolment_server::EnrolmentServer as Enrolment;
use super::words::wire::membership_server::MembershipServer;
use crate::allow::Shown;
use crate::fault::{Fault, Result, within};
use crate::server::strangers::Strangers;
use futures_util::future::Abortable;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use site_recovery::{Clock, Error, ErrorKind, Spawner, Timestamp, TokioSpawner};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::codegen::http;

/// Of the server's own certificate, which is made anew at half of it and is never written down.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Calls of one connection at a time.
const MOST_CALLS: u32 = 4;

/// Serves an [`Authority`] until it is stopped or dropped.
#[derive(Debug)]
pub struct EnrolmentServer {
    address: SocketAddr,
    ended: watch::Sender<bool>,
    /// Closed when no task is left.
    alive: watch::Sender<()>,
}

/// Bounds on what peers of an [`EnrolmentServer`] can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolmentLimits {
    /// Peers that show no certificate, or have not yet. One more, and the oldest is hung up on. 1 to 4096.
    pub strangers: usize,
    /// Peers that have shown one. One more is hung up on, and comes back. 1 to 4096.
    pub members: usize,
    /// From the connection until it is secure.
    pub handshake: Duration,
    /// Of a whole connection.
    pub connection: Duration,
}

impl Default for EnrolmentLimits {
    fn default() -> Self {
        Self {
            strangers: 64,
            members: 256,
            handshake: Duration::from_secs(10),
            connection: Duration::from_secs(30),
        }
    }
}

impl EnrolmentLimits {
    fn check(&self) -> Result<()> {
        const REMEDY: &str = "choose another one, or keep that of EnrolmentLimits::default";
        for (field, value) in [("strangers", self.strangers), ("members", self.members)] {
            if !(1..=4096).contains(&value) {
                return Err(Error::invalid(field, value, "it is 1 to 4096", REMEDY));
            }
        }
        for (field, value) in [("handshake", self.handshake), ("connection", self.connection)] {
            if value.is_zero() || value > Duration::from_secs(60 * 60) {
                let rule = "it is more than nothing and at most an hour";
                return Err(Error::invalid(field, format!("{value:?}"), rule, REMEDY));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Door {
    authority: Authority,
    limits: EnrolmentLimits,
    clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    strangers: Strangers,
    members: Semaphore,
    shown: Mutex<Option<Configs>>,
}

#[derive(Debug, Clone)]
struct Configs {
    join: Arc<ServerConfig>,
    member: Arc<ServerConfig>,
    renew: Timestamp,
}

impl EnrolmentServer {
    /// Listens and serves. Port 0 lets the system choose one. Times are the authority's.
    ///
    /// # Errors
    /// `Invalid` for a limit out of bounds, or outside a tokio runtime. `Conflict` where the address is taken, `Unavailable`
    /// where listening is not possible.
    pub async fn listen(authority: Authority, address: SocketAddr, limits: EnrolmentLimits) -> Result<Self> {
        limits.check()?;
        let clock = Arc::clone(authority.clock());
        let door = Arc::new(Door {
            limits,
            clock,
            spawner: Arc::new(TokioSpawner::current()?),
            strangers: Strangers::new(limits.strangers),
            members: Semaphore::new(limits.members),
            shown: Mutex::default(),
            authority,
        });
        door.configs()?;
        let failed = |e: std::io::Error| {
            let taken = e.kind() == std::io::ErrorKind::AddrInUse;
            let kind = if taken { ErrorKind::Conflict } else { ErrorKind::Unavailable };
            Error::new(kind, format!("cannot listen at {address}")).caused_by(e)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (ended, until) = watch::channel(false);
        let (alive, is_alive) = watch::channel(());
        let spawner = Arc::clone(&door.spawner);
        spawner.spawn(Box::pin(accept(is_alive, until, listener, door)));
        Ok(Self { address, ended, alive })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends, and cuts what is at it: whoever asked asks again. When it returns, no task is left.
    pub async fn stop(self) {
        let _ = self.ended.send(true);
        self.alive.closed().await;
    }
}

impl Drop for EnrolmentServer {
    fn drop(&mut self) {
        let _ = self.ended.send(true);
    }
}

async fn over(until: &watch::Receiver<bool>) {
    let _ = until.clone().wait_for(|ended| *ended).await;
}

// The sign of life comes first, so that it is dropped last.
async fn accept(
    alive: watch::Receiver<()>,
    until: watch::Receiver<bool>,
    listener: TcpListener,
    door: Arc<Door>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = over(&until) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (alive, until, at) = (alive.clone(), until.clone(), Arc::clone(&door));
                door.spawner.spawn(Box::pin(async move {
                    let _alive = alive;
                    tokio::select! {
                        biased;
                        () = over(&until) => {}
                        () = at.serve(stream, peer) => {}
                    }
                }));
            }
            Err(error) => {
                tracing::warn!(target: "site_recovery_transport", %error, "a connection did not come about");
                tokio::select! {
                    () = over(&until) => return,
                    () = door.clock.sleep(Duration::from_millis(100)) => {}
                }
            }
        }
    }
}

impl Door {
    async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let limit = self.limits.connection;
        match within(&*self.clock, limit, "end of the connection", self.converse(stream)).await {
            Ok(()) => tracing::debug!(target: "site_recovery_transport", %peer, "left the authority"),
            Err(error) => {
                tracing::warn!(target: "site_recovery_transport", %peer, %error, "cut off by the authority");
            }
        }
    }

    async fn converse(&self, stream: TcpStream) -> Result<(), Fault> {
        let (stranger, registration) = self.strangers.enter();
        let making_room = |_| Fault::Ended("the oldest of too many strangers");
        // Whoever shows no certificate is a stranger to the end.
        let met = async {
            let limit = self.limits.handshake;
            let (secure, who) = within(&*self.clock, limit, "handshake", self.greet(stream)).await?;
            match who {
                Some(who) => Ok(Some((secure, who))),
                None => {
                    let answers = Enrolment::new(Enrols(self.authority.clone()));
                    self.answer(secure, answers.max_decoding_message_size(LONGEST_ASKED)).await.map(|()| None)
                }
            }
        };
        let met: Result<_, Fault> = Abortable::new(met, registration).await.map_err(making_room)?;
        drop(stranger);
        let Some((secure, who)) = met? else { return Ok(()) };
        let full = |_| Fault::Ended("as many members as there may be are here");
        let _place = self.members.try_acquire().map_err(full)?;
        let answers = MembershipServer::new(Tells { authority: self.authority.clone(), who });
        self.answer(secure, answers.max_decoding_message_size(LONGEST_ASKED)).await
    }

    /// Who is there, if that one asks as a member.
    async fn greet(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Option<Membership>), Fault> {
        stream.set_nodelay(true)?;
        let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await;
        let begun = begun.map_err(Fault::Tls)?;
        let configs = self.configs().map_err(Fault::Unwelcome)?;
        let member = begun.client_hello().alpn().is_some_and(|mut asked| asked.any(|name| name == MEMBER));
        let config = if member { configs.member } else { configs.join };
        let secure = begun.into_stream(config).await.map_err(Fault::Tls)?;
        let session = secure.get_ref().1;
        match session.alpn_protocol() {
            Some(JOIN) => Ok((secure, None)),
            Some(MEMBER) => {
                let shown = session.peer_certificates().and_then(<[_]>::first).map(Shown::of);
                let who = shown.and_then(|shown| {
                    Some(Membership { service: shown.service()?.clone(), serial: shown.serial()?.clone() })
                });
                let who = who.ok_or_else(|| Fault::protocol("the certificate names no service"))?;
                Ok((secure, Some(who)))
            }
            _ => Err(Fault::protocol("the client asks for another service")),
        }
    }

    async fn answer<S>(&self, secure: TlsStream<TcpStream>, answers: S) -> Result<(), Fault>
    where
        S: tower::Service<
                http::Request<hyper::body::Incoming>,
                Response = http::Response<tonic::body::Body>,
                Error = std::convert::Infallible,
            > + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.max_concurrent_streams(MOST_CALLS)
            .max_header_list_size(16 * 1024)
            .max_send_buf_size(64 * 1024)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(LONGEST_ASKED as u32);
        let served = http.serve_connection(TokioIo::new(secure), TowerToHyperService::new(answers)).await;
        served.map_err(|e| Fault::Broken(std::io::Error::other(e)))
    }

    /// By the certificate of now.
    fn configs(&self) -> Result<Configs> {
        let now = self.clock.now();
        let mut shown = self.shown.lock().expect("no panic under this lock");
        if let Some(configs) = &*shown
            && now < configs.renew
        {
            return Ok(configs.clone());
        }
        let key = rcgen::KeyPair::generate();
        let key = key.map_err(|e| Error::new(ErrorKind::Unavailable, "no key can be made").caused_by(e))?;
        let signed = self.authority.ca().sign(&certify::authority(), &key, now, LIFE)?;
        let shows = Shows {
            certificate: signed.certificate.into(),
            ca: self.authority.ca().der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        };
        // Whose certificate is revoked is told so, by its call.
        let none = Revocations::default();
        let (mut join, mut member) = (shows.open_server(&self.clock)?, shows.server(&self.clock, &none)?);
        join.alpn_protocols = vec![JOIN.to_vec()];
        member.alpn_protocols = vec![MEMBER.to_vec()];
        let configs = Configs { join: Arc::new(join), member: Arc::new(member), renew: now.after(LIFE / 2) };
        Ok(shown.insert(configs).clone())
    }
}
