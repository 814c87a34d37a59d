//! Ships what the spool holds, oldest first.

use crate::base::Base;
use crate::blocking::blocking;
use crate::delivery::{Batch, Delivery};
use crate::desk::{Desk, Turn};
use crate::halt::{Halt, Transfer};
use crate::means::Means;
use crate::server::ProcessServer;
use crate::spool::{self, Reader, Shelf, Spooled, durable};
use site_recovery::{
    ChangeSet, CutId, Error, ErrorKind, Form, MachineId, Op, Payload, Point, Record, Replica, Result,
};
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
        let mut delivery = Delivery::begin(self.replica, self.desk, &op, manifest, &set).await?;
        self.send(reader, &mut delivery).await?;
        let (point, _) = delivery.seal(manifest).await?;
        self.remember(Base::sealed(&point, manifest)).await?;
        tracing::info!(machine = %self.machine, cut = %capture.cut(), "a spooled capture was sealed");
        Ok(point)
    }

    async fn send(&self, mut reader: Reader, delivery: &mut Delivery) -> Transfer<()> {
        let form = self.replica.capability().takes;
        let most = self.server.means.batch();
        loop {
            let (room, mine) = (self.server.means.room(most).await?, self.turn.clone());
            let (means, machine) = (Arc::clone(&self.server.means), self.machine.clone());
            let read = self.server.means.compute(move || {
                let _turn = mine;
                let records =
                    read(&mut reader, most, form, &means, &machine).map_err(spool::set_aside_if_damaged)?;
                Ok::<_, Error>((reader, records))
            });
            let (next, records) = read.await??;
            reader = next;
            if records.is_empty() {
                return Ok(());
            }
            let mut batch = Batch { rooms: vec![room], ..Batch::default() };
            for record in records {
                if record.run.end() <= delivery.resume(&record.disk) {
                    batch.equal.push((record.disk, record.run));
                } else {
                    batch.records.push(record);
                }
            }
            delivery.send(batch).await?;
        }
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
    let touched = base.touched().map(|t| crate::plan::cut_to(&header.manifest.machine, t));
    let covered = |t: &ChangeSet| t.disks().all(|(d, runs)| runs.iter().all(|r| set.contains(d, *r)));
    (same || contained) && touched.as_ref().is_none_or(covered)
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
