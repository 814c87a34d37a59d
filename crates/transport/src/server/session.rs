//! One connection: welcome, requests as they come, answers as they are ready, all in one task.

use super::opened::OpenPoints;
use super::perform::{Request, perform};
use super::requests::Requests;
use super::{Offer, Phase};
use crate::fault::{Fault, Result, within};
use crate::frame::{Header, Kind, MOST_READ, Malformed, Place, WriteHead, json};
use crate::message::{Call, Hello, LONGEST_WORD, Runs, SPOKEN, Welcome, beat};
use crate::told::Told;
use crate::wire::{Inlet, Outlet, ways};
use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable, BoxFuture, Either, select, try_join};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use site_recovery::{Error, ErrorKind, Pool, RecoveryPointStore};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

pub(super) async fn converse(stream: TcpStream, peer: SocketAddr, offer: &Arc<Offer>) -> Result<(), Fault> {
    let limits = offer.limits;
    let greeted = async {
        stream.set_nodelay(true)?;
        let secure = offer.tls.accept(stream).await?;
        let (mut outlet, mut inlet) = ways(secure, &offer.clock, limits.stall);
        let header = inlet.header().await?;
        if header.kind != Kind::Hello {
            return Err(Fault::protocol(format!("{:?} before a hello", header.kind)));
        }
        let hello: Hello = json("a hello", &inlet.body(header, LONGEST_WORD).await?)?;
        let admitted = async {
            let (version, role) = offer.admit(&hello)?;
            let registered = offer.clients.register(&hello.client, hello.connection).await?;
            Ok::<_, Fault>((version, role, registered))
        };
        match admitted.await {
            Ok((version, role, registered)) => {
                let welcome =
                    serde_json::to_vec(&offer.welcome(version, &*role)).expect("plain data serialises");
                outlet.send(Kind::Welcome, 0, &[welcome.into()]).await?;
                Ok((outlet, inlet, hello, role, registered))
            }
            Err(fault) => {
                outlet.send(Kind::Unwelcome, 0, &[Told::from(&fault.told()).to_json().into()]).await?;
                goodbye(outlet, inlet).await;
                Err(fault)
            }
        }
    };
    let (outlet, inlet, hello, role, registered) = tokio::select! {
        biased;
        () = offer.until(Phase::Stopping) => return Ok(()),
        greeted = within(&*offer.clock, limits.handshake, "handshake", greeted) => greeted?,
    };
    tracing::debug!(target: "site_recovery_transport", %peer, role = %hello.role, "here");
    let session = Session {
        role,
        requests: Arc::new(Requests::new(limits.memory, limits.requests)),
        points: Arc::default(),
        inward: Pool::new(limits.memory),
        outward: Pool::new(limits.memory),
        offer,
        hello,
    };
    tokio::select! {
        biased;
        () = registered.superseded() => Err(Fault::Ended("a newer connection of this client is here")),
        outcome = session.run(outlet, inlet) => outcome,
    }
}

impl Offer {
    /// The version to speak, and whom with.
    fn admit(&self, hello: &Hello) -> Result<(u32, Arc<dyn RecoveryPointStore>), Fault> {
        let version = SPOKEN.common(hello.versions);
        let version = version.ok_or(Fault::Version { ours: SPOKEN, theirs: hello.versions })?;
        let role = self.roles.get(&hello.role).cloned().ok_or_else(|| {
            let said = format!("no role {:?} is served here", hello.role.0);
            Fault::Unwelcome(Error::new(ErrorKind::NotFound, said))
        })?;
        Ok((version, role))
    }

    fn welcome(&self, version: u32, role: &dyn RecoveryPointStore) -> Welcome {
        Welcome {
            version,
            capability: role.capability(),
            credit: self.limits.memory as u32,
            requests: self.limits.requests as u32,
            silence: self.limits.stall.as_millis() as u64,
        }
    }
}

/// Lets the peer read what was said before the connection is closed.
async fn goodbye(mut outlet: Outlet, mut inlet: Inlet) {
    if outlet.finish().await.is_ok() {
        let _ = inlet.drain().await;
    }
}

struct Session<'a> {
    offer: &'a Arc<Offer>,
    hello: Hello,
    role: Arc<dyn RecoveryPointStore>,
    requests: Arc<Requests>,
    points: Arc<OpenPoints>,
    /// For records that come. What a role keeps for longer is its own memory, not the connection's.
    inward: Pool,
    /// For reads.
    outward: Pool,
}

type Outcome = Result<Bytes>;
type Work = Abortable<BoxFuture<'static, Outcome>>;

/// Why nothing more is listened to.
enum End {
    /// The client left.
    Left,
    /// This side wants to end it; what was asked is still answered.
    Enough,
}

impl Session<'_> {
    async fn run(&self, mut outlet: Outlet, mut inlet: Inlet) -> Result<(), Fault> {
        let ((asked, to_do), (done, replies)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let end = {
            let serve = std::pin::pin!(try_join(work(to_do, done), self.answer(&mut outlet, replies)));
            let hear = std::pin::pin!(self.hear(&mut inlet, asked));
            match select(serve, hear).await {
                Either::Left((served, _)) => served.map(|_| End::Left)?,
                Either::Right((end, serve)) => match end? {
                    End::Left => End::Left,
                    // Nobody asks any more, so this ends with the last answer.
                    End::Enough => serve.await.map(|_| End::Enough)?,
                },
            }
        };
        if let End::Enough = end {
            goodbye(outlet, inlet).await;
        }
        Ok(())
    }

    async fn hear(&self, inlet: &mut Inlet, asked: mpsc::UnboundedSender<(u64, Work)>) -> Result<End, Fault> {
        tokio::select! {
            biased;
            () = self.offer.until(Phase::Stopping) => Ok(End::Enough),
            () = self.idle() => Ok(End::Enough),
            left = self.listen(inlet, asked) => left.map(|()| End::Left),
        }
    }

    /// Takes frame after frame, until the client leaves.
    async fn listen(
        &self,
        inlet: &mut Inlet,
        asked: mpsc::UnboundedSender<(u64, Work)>,
    ) -> Result<(), Fault> {
        while let Some(header) = inlet.next().await? {
            match header.kind {
                Kind::Beat | Kind::Cancel | Kind::Close if header.len > 0 => {
                    return Err(Fault::Protocol(format!("{:?} with a body", header.kind)));
                }
                Kind::Beat => {}
                Kind::Cancel => self.requests.cancel(header.id),
                Kind::Close => self.points.close(header.id),
                Kind::Call | Kind::Write | Kind::Read | Kind::Extents => {
                    let (abort, registration) = AbortHandle::new_pair();
                    self.requests.begin(header.id, header.len, abort)?;
                    let request = self.request(header, inlet).await?;
                    let _ = asked.send((header.id, Abortable::new(self.work(request), registration)));
                }
                other => return Err(Fault::Protocol(format!("{other:?} from a client"))),
            }
        }
        Ok(())
    }

    async fn request(&self, header: Header, inlet: &mut Inlet) -> Result<Request, Fault> {
        if header.kind == Kind::Write {
            return self.write(header, inlet).await;
        }
        let body = inlet.body(header, header.len).await?;
        match header.kind {
            Kind::Call => match json::<Call>("a call", &body)?.checked()? {
                Call::Open { .. } if self.points.count() >= self.offer.limits.opened => {
                    Ok(Request::TooManyOpen(self.offer.limits.opened))
                }
                call @ Call::Open { handle, .. } => Ok(Request::Open(self.points.begin(handle), call)),
                call => Ok(Request::Call(call)),
            },
            Kind::Read => {
                let place = Place::parse(&body)?;
                if place.run.len > MOST_READ.into() {
                    let (found, most) = (place.run.len, MOST_READ.into());
                    return Err(Malformed::TooMuch { what: "the length of a read", found, most }.into());
                }
                Ok(Request::Read(place))
            }
            _ => Ok(Request::Extents(Place::parse(&body)?)),
        }
    }

    async fn write(&self, header: Header, inlet: &mut Inlet) -> Result<Request, Fault> {
        let short = Fault::from(Malformed::Short { what: "a write" });
        let Some(rest) = header.len.checked_sub(4) else { return Err(short) };
        let mut len = [0; 4];
        inlet.fill(&mut len).await?;
        let len = u32::from_le_bytes(len);
        if len > rest {
            return Err(short);
        }
        let head = inlet.body(Header { len, ..header }, len).await?;
        let head = WriteHead::parse(&head, header.len)?;
        let payload = match self.inward.take(head.payload).now_or_never() {
            Some(Ok(mut block)) => {
                inlet.fill(&mut block).await?;
                block.freeze()
            }
            _ => inlet.body(Header { len: head.payload as u32, ..header }, header.len).await?.into(),
        };
        let (ingest, batch) = (head.ingest.clone(), head.batch);
        Ok(Request::Write { ingest, batch, records: head.records(&payload) })
    }

    fn work(&self, request: Request) -> BoxFuture<'static, Outcome> {
        let (role, points, pool) = (Arc::clone(&self.role), Arc::clone(&self.points), self.outward.clone());
        let longest = self.hello.longest;
        async move {
            let done = AssertUnwindSafe(perform(request, &*role, &points, &pool)).catch_unwind().await;
            let broken = |_| Err(Error::new(ErrorKind::Unavailable, "the role panicked over this request"));
            let body = done.unwrap_or_else(broken)?;
            if body.len() > longest as usize {
                let said = format!("the answer has {} bytes, the client takes {longest}", body.len());
                return Err(Error::new(ErrorKind::Refused, said).with("limit", "RemoteStoreBuilder::memory"));
            }
            Ok(body)
        }
        .boxed()
    }

    async fn answer(
        &self,
        outlet: &mut Outlet,
        mut replies: mpsc::UnboundedReceiver<(u64, Outcome)>,
    ) -> Result<(), Fault> {
        let beat = beat(self.hello.silence);
        loop {
            tokio::select! {
                biased;
                reply = replies.recv() => {
                    let Some((id, outcome)) = reply else { return Ok(()) };
                    // Before the answer leaves: the client may send the next request as soon as it has it.
                    self.requests.end(id);
                    match outcome {
                        Ok(body) => outlet.send(Kind::Answer, id, &[body]).await?,
                        Err(error) => {
                            tracing::debug!(target: "site_recovery_transport", role = %self.hello.role, id, %error, "failed");
                            outlet.send(Kind::Failed, id, &[Told::from(&error).to_json().into()]).await?;
                        }
                    }
                }
                () = self.offer.clock.sleep(beat) => outlet.send(Kind::Beat, 0, &[]).await?,
            }
        }
    }

    /// Ends when nobody asked for anything for long, and nothing is open.
    async fn idle(&self) {
        loop {
            let (before, _) = self.requests.standing();
            self.offer.clock.sleep(self.offer.limits.idle).await;
            if self.requests.standing() == (before, true) && self.points.count() == 0 {
                return;
            }
        }
    }
}

/// Does requests beside each other, begun in their order, until no more come.
async fn work(
    mut to_do: mpsc::UnboundedReceiver<(u64, Work)>,
    done: mpsc::UnboundedSender<(u64, Outcome)>,
) -> Result<(), Fault> {
    let (mut running, mut open) = (FuturesUnordered::new(), true);
    loop {
        tokio::select! {
            biased;
            next = to_do.recv(), if open => match next {
                Some((id, work)) => running.push(work.map(move |outcome| (id, outcome))),
                None => open = false,
            },
            Some((id, outcome)) = running.next(), if !running.is_empty() => {
                let cancelled = |_| Err(Error::new(ErrorKind::Cancelled, "nobody waits for this request"));
                let _ = done.send((id, outcome.unwrap_or_else(cancelled)));
            }
            else => return Ok(()),
        }
    }
}
