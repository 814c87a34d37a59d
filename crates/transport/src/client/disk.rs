//! Disks that are open on the far side: of a point, of a capture, of a landing.

use super::ask::{Answer, Ask, Room};
use super::flight::gone;
use super::link::Owner;
use crate::fault::{Fault, Result};
use crate::frame::{Kind, Place, json, parse_extents};
use crate::message::{Call, Openable, Opened};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Capture, Disk, DiskId, DiskMut, Disks, Error, ErrorKind, Extent, Instance, MachineId, Op, PointId, Pool,
    RoleName, Run,
};
use std::sync::Arc;

/// The most that is read at a time.
const PIECE: u64 = 1 << 20;
/// The most that extents are asked of at a time.
const SPAN: u64 = 4 << 30;

/// What is open there. The far side lets it go with the last of its disks.
#[derive(Debug)]
struct Handle {
    owner: Arc<Owner>,
    number: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.owner.0.flight.close_handle(self.number);
    }
}

#[derive(Debug)]
struct RemoteDisk {
    handle: Arc<Handle>,
    disk: u32,
    size: u64,
}

/// The disks of a point of a replica.
pub(super) async fn open_point(owner: &Arc<Owner>, machine: &MachineId, point: PointId) -> Result<Disks> {
    open_to_read(owner, Openable::Point { machine: machine.clone(), point }).await
}

/// The disks of one member of a capture of a source.
pub(crate) async fn open_captured(
    owner: &Arc<Owner>,
    op: &Op,
    capture: &Capture,
    machine: &MachineId,
) -> Result<Disks> {
    let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
    open_to_read(owner, Openable::Captured { op, capture, machine }).await
}

/// One disk of a landing site. It is not opened again where the connection breaks: what was not flushed may be lost.
pub(crate) async fn open_landing(
    owner: &Arc<Owner>,
    instance: &Instance,
    disk: &DiskId,
) -> Result<Arc<dyn DiskMut>> {
    let what = Openable::Landing { instance: instance.clone(), disk: disk.clone() };
    let (handle, opened) = open(owner, what, false).await?;
    let [(_, size)] = opened.disks[..] else {
        return Err(Fault::protocol("a landing disk that is not one").told());
    };
    Ok(Arc::new(RemoteLandingDisk(RemoteDisk { handle, disk: 0, size })))
}

async fn open_to_read(owner: &Arc<Owner>, what: Openable) -> Result<Disks> {
    let (handle, opened) = open(owner, what, true).await?;
    let disk = |(place, (id, size)): (usize, (DiskId, u64))| {
        let disk = RemoteDisk { handle: Arc::clone(&handle), disk: place as u32, size };
        (id, Arc::new(disk) as Arc<dyn Disk>)
    };
    Ok(opened.disks.into_iter().enumerate().map(disk).collect())
}

async fn open(owner: &Arc<Owner>, what: Openable, again: bool) -> Result<(Arc<Handle>, Opened)> {
    // Let go with the last disk, or here.
    let number = owner.0.flight.new_handle();
    let call = Call::Open { handle: number, what: what.clone(), cut: None };
    let ask = Ask { opens: again.then_some((number, what)), ..Ask::call(&call) };
    let handle = Arc::new(Handle { owner: Arc::clone(owner), number });
    let body = owner.0.ask(ask).await?.whole()?;
    Ok((handle, json("what is open", &body).map_err(|e| Fault::from(e).told())?))
}

impl RemoteDisk {
    fn role(&self) -> &RoleName {
        &self.handle.owner.0.far.role
    }

    async fn ask(&self, kind: Kind, run: Run, into: Option<Room>) -> Result<Answer> {
        let place = Place { handle: self.handle.number, disk: self.disk, run };
        self.handle.owner.0.ask(Ask { into, ..Ask::of(kind, vec![place.encode()]) }).await
    }

    async fn read_all(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.size)?;
        let mut block = pool.take(run.len as usize).await?;
        let mut at = 0;
        while at < run.len {
            let len = (run.len - at).min(PIECE);
            let room = Room { block, at: at as usize, len: len as usize };
            block = match self.ask(Kind::Read, Run::new(run.start + at, len), Some(room)).await? {
                Answer::Room(room) => room.block,
                Answer::Parts(_) => return Err(gone()),
            };
            at += len;
        }
        Ok(block.freeze())
    }

    async fn all_extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.start.saturating_add(range.len).min(self.size);
        let (mut at, mut extents) = (range.start, Vec::<Extent>::new());
        while at < end {
            let run = Run::new(at, (end - at).min(SPAN));
            let body = self.ask(Kind::Extents, run, None).await?.whole()?;
            let told = parse_extents(&body, run).map_err(|e| Fault::from(e).told())?;
            for extent in told {
                match extents.last_mut() {
                    Some(last) if last.fill == extent.fill => last.run.len += extent.run.len,
                    _ => extents.push(extent),
                }
            }
            at = run.end();
        }
        Ok(extents)
    }
}

/// A disk that can be written, as long as its connection lasts.
#[derive(Debug)]
struct RemoteLandingDisk(RemoteDisk);

impl RemoteLandingDisk {
    async fn ask(&self, ask: Ask) -> Result<()> {
        let body = self.0.handle.owner.0.ask(ask).await.map_err(gone_with_its_connection)?.whole()?;
        json("an answer", &body).map_err(|e| Fault::from(e).told())
    }

    async fn put(&self, start: u64, data: &Bytes) -> Result<()> {
        Run::new(start, data.len() as u64).must_be_inside(self.0.size)?;
        let mut at = start;
        for piece in (0..data.len()).step_by(PIECE as usize) {
            let piece = data.slice(piece..data.len().min(piece + PIECE as usize));
            let run = Run::new(at, piece.len() as u64);
            let place = Place { handle: self.0.handle.number, disk: 0, run };
            self.ask(Ask::of(Kind::Put, vec![place.encode(), piece])).await?;
            at = run.end();
        }
        Ok(())
    }

    async fn clear(&self, run: Run) -> Result<()> {
        run.must_be_inside(self.0.size)?;
        self.ask(Ask::call(&Call::Zero { handle: self.0.handle.number, run })).await
    }
}

/// The far side knows a handle on the connection alone on which it was opened.
fn gone_with_its_connection(error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let said = "the connection on which this disk was opened is over, and what was not flushed may be lost";
    Error::new(ErrorKind::Unavailable, said).caused_by(error)
}

#[async_trait]
impl Disk for RemoteLandingDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let told = self.0.all_extents(range).await.map_err(gone_with_its_connection);
        told.map_err(|e| e.at(self.0.role(), "extents"))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let read = self.0.read_all(run, pool).await.map_err(gone_with_its_connection);
        read.map_err(|e| e.at(self.0.role(), "read"))
    }
}

#[async_trait]
impl DiskMut for RemoteLandingDisk {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.put(start, &data).await.map_err(|e| e.at(self.0.role(), "write"))
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.clear(run).await.map_err(|e| e.at(self.0.role(), "zero"))
    }

    async fn flush(&self) -> Result<()> {
        let flushed = self.ask(Ask::call(&Call::Flush { handle: self.0.handle.number })).await;
        flushed.map_err(|e| e.at(self.0.role(), "flush"))
    }
}

#[async_trait]
impl Disk for RemoteDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.all_extents(range).await.map_err(|e| e.at(self.role(), "extents"))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.read_all(run, pool).await.map_err(|e| e.at(self.role(), "read"))
    }
}
