//! Ships what the spool holds, oldest first.

use crate::base::Base;
use crate::blocking::blocking;
use crate::delivery::{Delivery, Order};
use crate::desk::{Desk, Turn};
use crate::halt::{Halt, Transfer};
use crate::judge::Found;
use crate::lane::Parcel;
use crate::means::Means;
use crate::plan::{covers, cut_to};
use crate::server::ProcessServer;
use crate::spool::{self, Reader, Shelf, Spooled, durable};
use futures_util::stream::{self, Stream};
use site_recovery::{
    ChangeSet, CutId, Error, ErrorKind, Form, Landed, MachineId, Op, Payload, Point, Record, Replica, Result,
};
use std::pin::pin;
use std::sync::Arc;

impl ProcessServer {
    /// Seals every spooled capture of a machine for this replica, and removes what is sealed.
    pub(crate) async fn drain_shelf(
        &self,
        op: &Op,
        desk: &Arc<Desk>,
        turn: &Turn,
        machine: &MachineId,
        replica: &Arc<dyn Replica>,
    ) -> Transfer<Vec<Point>> {
        let Some(shelf) = self.shelf(machine, replica) else { return Ok(vec![]) };
        let mut points = vec![];
        let (stock, mine) = (shelf.clone(), turn.clone());
        let captures = blocking(move || {
            let _turn = mine;
            stock.sound()
        });
        for capture in captures.await? {
            let drained = Drain { server: self, op, desk, turn, machine, replica, shelf: &shelf };
            points.push(drained.seal(&capture).await?);
            let mine = turn.clone();
            blocking(move || {
                let _turn = mine;
                durable::remove(&capture.path)
            })
            .await?;
        }
        Ok(points)
    }
}

struct Drain<'a> {
    server: &'a ProcessServer,
    op: &'a Op,
    desk: &'a Arc<Desk>,
    turn: &'a Turn,
    machine: &'a MachineId,
    replica: &'a Arc<dyn Replica>,
    shelf: &'a Shelf,
}

impl Drain<'_> {
    async fn seal(&self, capture: &Spooled) -> Transfer<Point> {
        let base = Base::ask(self.replica, self.machine).await?;
        if base.cut() == Some(capture.cut()) {
            return point_of(self.replica, self.machine, capture.cut()).await;
        }
        let (path, mine) = (capture.path.clone(), self.turn.clone());
        let (reader, set) = blocking(move || {
            let _turn = mine;
            let opened = Reader::open(&path).and_then(|(mut reader, _)| Ok((reader.set()?, reader)));
            opened.map(|(set, reader)| (reader, set)).map_err(spool::set_aside_if_damaged)
        })
        .await?;
        if !follows(capture, &set, &base) {
            return Err(self.superseded(capture, &base).await?.into());
        }
        self.remember(base.begun(capture.cut(), &set)).await?;
        let manifest = &capture.header.manifest;
        let op = Op { key: capture.header.key.clone(), epoch: self.op.epoch.clone() };
        let order = Order { op: &op, manifest, set: &set, base: &base };
        let begun = Delivery::begin(&self.server.means, self.desk, self.turn, self.replica, order);
        let mut delivery = begun.await?;
        let parcels = pin!(self.parcels(reader, delivery.resume().clone()));
        delivery.carry(parcels).await?;
        let (point, _) = delivery.seal(manifest).await?;
        self.remember(Base::sealed(&point, manifest)).await?;
        tracing::info!(machine = %self.machine, cut = %capture.cut(), "a spooled capture was sealed");
        Ok(point)
    }

    /// What the file holds, in order: some of it at a time.
    fn parcels(&self, reader: Reader, landed: Landed) -> impl Stream<Item = Transfer<Parcel>> {
        let form = self.replica.capability().takes;
        stream::try_unfold(reader, move |reader| {
            let landed = landed.clone();
            async move {
                let most = self.server.means.piece;
                let room = self.server.means.rooms.take(self.machine, most).await;
                let (means, machine) = (Arc::clone(&self.server.means), self.machine.clone());
                let (mut reader, mine) = (reader, self.turn.clone());
                let read = self.server.means.compute(move || {
                    let _turn = mine;
                    let records = read(&mut reader, most, form, &means, &machine);
                    Ok::<_, Error>((reader, records.map_err(spool::set_aside_if_damaged)?))
                });
                let (reader, records) = read.await??;
                if records.is_empty() {
                    return Ok(None);
                }
                let mut found = Found::default();
                for record in records {
                    self.desk.progress.taken(&record.disk, record.run.len);
                    let below = landed.get(&record.disk).copied().unwrap_or(0);
                    if record.run.end() <= below {
                        found.equal.push((record.disk, record.run));
                    } else {
                        found.records.push(record);
                    }
                }
                Ok(Some((Parcel { found, room: Some(room) }, reader)))
            }
        })
    }

    async fn superseded(&self, capture: &Spooled, base: &Base) -> Result<Error> {
        let (path, mine) = (capture.path.clone(), self.turn.clone());
        let to = blocking(move || {
            let _turn = mine;
            spool::set_aside(&path, "superseded")
        });
        let said = format!(
            "the timeline has moved on without the spooled capture {}, which stands on another point",
            capture.cut()
        );
        let stands = base.point().map_or("nothing".to_owned(), |p| format!("point {p}"));
        Ok(Error::new(ErrorKind::Conflict, said)
            .with("timeline_stands_at", stands)
            .with("set_aside_as", to.await?.display()))
    }

    async fn remember(&self, base: Base) -> Result<()> {
        let (shelf, mine) = (self.shelf.clone(), self.turn.clone());
        blocking(move || {
            let _turn = mine;
            shelf.remember(&base)
        })
        .await
    }
}

/// Whether the capture's records make its point from what the replica holds now: it stands on the point that they
/// were read against, or on one that they contain, and nothing else was touched since.
fn follows(capture: &Spooled, set: &ChangeSet, base: &Base) -> bool {
    let header = &capture.header;
    let same = base.point() == header.on && base.cursor() == header.since.as_ref();
    let contained = base.cut().is_some_and(|cut| header.follows.contains(cut));
    let touched = base.touched().map(|t| cut_to(&header.manifest.machine, t));
    (same || contained) && touched.as_ref().is_none_or(|touched| covers(set, touched))
}

/// The next records, up to `most` plain bytes, in the form that the replica takes. Empty at the end.
fn read(
    reader: &mut Reader,
    most: u64,
    form: Form,
    means: &Means,
    machine: &MachineId,
) -> Result<Vec<Record>> {
    let (mut records, mut bytes) = (vec![], 0);
    while bytes < most && records.len() < 1024 {
        let Some(record) = reader.next()? else { break };
        if record.payload != Payload::Zero {
            bytes += record.run.len;
        }
        records.push(fit(record, form, means, machine)?);
    }
    Ok(records)
}

fn fit(record: Record, form: Form, means: &Means, machine: &MachineId) -> Result<Record> {
    match (&record.payload, form) {
        (Payload::Zero, _) | (Payload::Plain(_), Form::Plain) | (Payload::Sealed(_), Form::Sealed) => {
            Ok(record)
        }
        _ => Ok(match means.unpacker.unpack(machine, &record)? {
            Some(plain) => means.packer.pack(machine, &record.disk, record.run, plain, form),
            None => record,
        }),
    }
}

/// The point of a cut that is known to be sealed.
pub(crate) async fn point_of(
    replica: &Arc<dyn Replica>,
    machine: &MachineId,
    cut: &CutId,
) -> Transfer<Point> {
    let points = replica.points(machine).await.map_err(Halt::Replica)?;
    points.into_iter().find(|p| &p.cut == cut).ok_or_else(|| {
        let said = format!("the head says that cut {cut} is sealed, and no such point is listed");
        Halt::Replica(Error::new(ErrorKind::Corrupt, said).with("machine", machine))
    })
}
