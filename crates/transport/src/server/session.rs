//! One connection: welcome, requests as they come, answers as they are ready, all in one task.

use super::answer::{Body, too_long};
use super::greeting::{Comer, Guest, greet, identify};
use super::opened::OpenDisks;
use super::perform::{Request, perform};
use super::requests::Requests;
use super::served::Served;
use super::strangers::Stranger;
use super::{Offer, Phase};
use crate::allow::Rights;
use crate::control;
use crate::duty::Asks;
use crate::fault::{Fault, Result};
use crate::frame::{Header, Kind, MOST_READ, Malformed, Place, WriteHead, json};
use crate::message::{Call, Hello, beat};
use crate::tls::Plane;
use crate::told::Told;
use crate::wire::{Inlet, Outlet};
use bytes::Bytes;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable, BoxFuture, Either, select, try_join};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use site_recovery::{Error, ErrorKind, Pool};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

pub(super) async fn converse(
    stream: TcpStream,
    stranger: (Stranger, AbortRegistration),
    peer: SocketAddr,
    offer: &Arc<Offer>,
) -> Result<(), Fault> {
    let limits = offer.limits;
    let handshake = offer.clock.sleep(limits.handshake);
    let mut late = pin!(handshake.map(|()| Fault::Silent { what: "handshake", span: limits.handshake }));
    let comer = tokio::select! {
        biased;
        () = offer.until(Phase::Stopping) => return Ok(()),
        comer = identify(stream, stranger, offer) => comer?,
        late = late.as_mut() => return Err(late),
    };
    let revoked = offer.until_revoked(comer.shown.serial().cloned());
    tokio::select! {
        biased;
        () = revoked => Err(Fault::Ended("its certificate was revoked")),
        outcome = talk(comer, late.as_mut(), peer, offer) => outcome,
    }
}

/// On the plane that it came for.
async fn talk(
    comer: Comer,
    late: impl Future<Output = Fault> + Send,
    peer: SocketAddr,
    offer: &Arc<Offer>,
) -> Result<(), Fault> {
    let limits = offer.limits;
    if comer.plane == Plane::Control {
        return control::serve(comer.secure, comer.shown, comer.admitted, offer).await;
    }
    let greeted = tokio::select! {
        biased;
        () = offer.until(Phase::Stopping) => return Ok(()),
        greeted = greet(comer, offer) => greeted?,
        late = late => return Err(late),
    };
    // What the client began is dropped first, then its place is free, and then a newer connection of it may begin.
    let Guest { registered, place: _place, outlet, inlet, hello, served, rights } = greeted;
    tracing::debug!(target: "site_recovery_transport", %peer, role = %hello.role, "here");
    let session = Session {
        served,
        rights: Arc::new(rights),
        requests: Arc::new(Requests::new(limits.connection_bytes, limits.connection_requests)),
        disks: Arc::default(),
        inward: Pool::new(limits.connection_bytes),
        outward: Pool::new(limits.connection_bytes),
        offer,
        hello,
    };
    tokio::select! {
        biased;
        () = registered.superseded() => Err(Fault::Ended("a newer connection of this client is here")),
        outcome = session.run(outlet, inlet) => outcome,
    }
}

/// Lets the peer read what was said before the connection is closed.
pub(super) async fn goodbye(mut outlet: Outlet, mut inlet: Inlet) {
    if outlet.finish().await.is_ok() {
        let _ = inlet.drain().await;
    }
}

struct Session<'a> {
    offer: &'a Arc<Offer>,
    hello: Hello,
    served: Served,
    rights: Arc<Rights>,
    requests: Arc<Requests>,
    disks: Arc<OpenDisks>,
    /// For records that come. What a role keeps for longer is its own memory, not the connection's.
    inward: Pool,
    /// For reads.
    outward: Pool,
}

type Outcome = Result<Body>;
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
                Kind::Close => self.disks.close(header.id),
                Kind::Call | Kind::Write | Kind::Read | Kind::Extents | Kind::Put => {
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
        match header.kind {
            Kind::Write => return self.write(header, inlet).await,
            Kind::Put => return self.put(header, inlet).await,
            _ => {}
        }
        let body = inlet.body(header, header.len).await?;
        match header.kind {
            Kind::Call => Ok(self.call(json::<Call>("a call", &body)?.checked()?)),
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

    fn call(&self, call: Call) -> Request {
        let named = || call.machines().into_iter().try_for_each(|id| self.rights.check(id));
        if let Err(denied) = self.rights.check_duty(call.asks()).and_then(|()| named()) {
            return Request::Refused(denied);
        }
        let most = self.offer.limits.connection_points;
        match call {
            Call::Open { .. } if self.disks.count() >= most => {
                let said = format!("{most} points or captures are open on this connection; let one go");
                Request::Refused(Error::new(ErrorKind::Busy, said).with("limit", "Limits::connection_points"))
            }
            Call::Open { handle, .. } => Request::Open(self.disks.begin(handle), call),
            call => Request::Call(call),
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
        let payload = self.payload(header, head.payload, inlet).await?;
        let asks = Asks::Moving(Some(&head.ingest.op));
        if let Err(denied) =
            self.rights.check_duty(asks).and_then(|()| self.rights.check(&head.ingest.machine))
        {
            return Ok(Request::Refused(denied));
        }
        let (ingest, batch) = (head.ingest.clone(), head.batch);
        Ok(Request::Write { ingest, batch, records: head.records(&payload) })
    }

    async fn put(&self, header: Header, inlet: &mut Inlet) -> Result<Request, Fault> {
        let Some(len) = header.len.checked_sub(Place::SIZE as u32) else {
            return Err(Malformed::Short { what: "a put" }.into());
        };
        let mut place = [0; Place::SIZE];
        inlet.fill(&mut place).await?;
        let place = Place::parse(&place)?;
        if place.run.len != u64::from(len) {
            return Err(Malformed::Sum { said: place.run.len, there: len.into() }.into());
        }
        Ok(Request::Put(place, self.payload(header, len as usize, inlet).await?))
    }

    /// Into memory of the pool, where there is some.
    async fn payload(&self, header: Header, len: usize, inlet: &mut Inlet) -> Result<Bytes, Fault> {
        match self.inward.take(len).now_or_never() {
            Some(Ok(mut block)) => {
                inlet.fill(&mut block).await?;
                Ok(block.freeze())
            }
            _ => Ok(inlet.body(Header { len: len as u32, ..header }, header.len).await?.into()),
        }
    }

    fn work(&self, request: Request) -> BoxFuture<'static, Outcome> {
        let (served, disks, pool) = (self.served.clone(), Arc::clone(&self.disks), self.outward.clone());
        let rights = Arc::clone(&self.rights);
        async move {
            let performed = AssertUnwindSafe(perform(request, &served, &disks, &pool, &rights));
            let broken = |_| Err(Error::new(ErrorKind::Unavailable, "the role panicked over this request"));
            performed.catch_unwind().await.unwrap_or_else(broken)
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
                    let told = match outcome {
                        Ok(body) => self.tell(outlet, id, body).await?,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = told {
                        tracing::debug!(target: "site_recovery_transport", role = %self.hello.role, id, %error, "failed");
                        outlet.send(Kind::Failed, id, &[Told::from(&error).to_json().into()]).await?;
                    }
                }
                () = self.offer.clock.sleep(beat) => outlet.send(Kind::Beat, 0, &[]).await?,
            }
        }
    }

    /// Sends an answer, unless it is longer than the client takes.
    async fn tell(&self, outlet: &mut Outlet, id: u64, body: Body) -> Result<Result<()>, Fault> {
        let longest = self.hello.longest;
        let (mut parts, mut said) = (body.peekable(), 0);
        while let Some(part) = parts.next() {
            let part = match part {
                Ok(part) => part,
                Err(error) => return Ok(Err(error)),
            };
            said += part.len();
            if said > longest as usize {
                return Ok(Err(too_long(said, longest)));
            }
            let kind = if parts.peek().is_some() { Kind::Part } else { Kind::Answer };
            outlet.send(kind, id, &[part]).await?;
        }
        Ok(Ok(()))
    }

    /// Ends when nobody asked for anything for long, and nothing is open.
    async fn idle(&self) {
        loop {
            let (before, _) = self.requests.standing();
            self.offer.clock.sleep(self.offer.limits.idle).await;
            if self.requests.standing() == (before, true) && self.disks.count() == 0 {
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
