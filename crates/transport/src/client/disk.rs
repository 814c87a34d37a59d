//! A disk of a point that is open on the far side.

use super::ask::{Answer, Ask, Room};
use super::flight::gone;
use super::link::Owner;
use crate::fault::{Fault, Result};
use crate::frame::{Kind, Place, has_end, parse_extents};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, Error, Extent, Pool, RoleName, Run};
use std::sync::Arc;

/// The most that is read at a time.
const PIECE: u64 = 1 << 20;
/// The most that extents are asked of at a time.
const SPAN: u64 = 4 << 30;

/// An opened point. The far side lets it go with the last of its disks.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) owner: Arc<Owner>,
    pub(super) number: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.owner.0.flight.close_handle(self.number);
    }
}

#[derive(Debug)]
pub(super) struct RemoteDisk {
    pub(super) handle: Arc<Handle>,
    pub(super) disk: u32,
    pub(super) size: u64,
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
        if !has_end(run) || run.end() > self.size {
            let value = format!("{} bytes at {}", run.len, run.start);
            let rule = format!("the disk has {} bytes", self.size);
            return Err(Error::invalid("run", value, &rule, "read inside the disk"));
        }
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
