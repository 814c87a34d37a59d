//! An export that is written.

use super::RemoteDisk;
use super::connection::Connection;
use super::turns::{Turn, Turns};
use crate::fault::Result;
use crate::protocol::export_flag;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskMut, Error, ErrorKind, Extent, Pool, Run};
use std::sync::Arc;

/// Memory for blocks that are written in part.
const EDGES: usize = 1 << 20;
/// The most zeros that are written at a time where the server has no command for them.
const ZEROS: u64 = 1 << 20;

/// An export of an NBD server that takes writes, until it is dropped; made by
/// [`connect_writable`](super::RemoteDiskBuilder::connect_writable).
///
/// # Contract
/// That of [`DiskMut`], as far as the server keeps its own, and as long as nobody else writes to the export.
/// - Writes to different places go on beside each other. Those that overlap take effect one after the other, in the order of
///   the calls.
/// - `flush` is asked for on one connection. By the specification ([proto.md], `NBD_FLAG_CAN_MULTI_CONN` and "Ordering of
///   messages and writes") it covers every write that was answered before: on this connection, and on all others where the
///   server sets that flag. Where it does not, there is one connection.
/// - `zero` is `WRITE_ZEROES`, which may give space back, where the server has it, and zeros that are written otherwise.
///   `TRIM` is never sent: it promises no zeros.
/// - Where the server takes whole blocks alone, the blocks at both ends of a run are read, changed and written back.
///
/// # Broken once, broken for good
/// When one connection breaks, or a `flush` is refused, every later call fails, as does what is in flight: what was written
/// and not flushed may be lost, and no later `flush` could tell. Connect again, and write again what the last `flush` did
/// not cover, once the server has let the old connection go: what was still in flight on it may reach the disk until then.
/// A `flush` takes its time: the builder's time-out has to leave it as much as the server may need.
///
/// # Errors
/// Those of the server, by their numbers; then the run holds old bytes or new ones. `Unavailable` from the loss of a
/// connection on, `Invalid` past the end, before anything is written.
///
/// # Cancel safety
/// Dropping the future of a write takes back no request that is on its way, whose run then holds old bytes or new ones; a
/// later write there waits for it, and wins.
///
/// [proto.md]: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
#[derive(Debug)]
pub struct RemoteDiskMut {
    disk: RemoteDisk,
    turns: Turns,
    edges: Pool,
}

impl RemoteDiskMut {
    pub(super) fn over(disk: RemoteDisk) -> Result<Self> {
        if disk.agreed.has(export_flag::READ_ONLY) {
            let message = "the export is read-only: have the server export it writable";
            return Err(disk.named(Error::new(ErrorKind::Denied, message)));
        }
        if !disk.agreed.has(export_flag::SEND_FLUSH) {
            let message = "the server has no FLUSH, so nothing that is written is ever known to be durable: \
                           have it export by a driver that flushes";
            return Err(disk.named(Error::new(ErrorKind::Unsupported, message)));
        }
        Ok(Self { disk, turns: Turns::default(), edges: Pool::new(EDGES) })
    }

    /// The same export to read, and to be asked what else the server tells of it. It goes on with the connections that are
    /// left where one is broken.
    pub fn reader(&self) -> &RemoteDisk {
        &self.disk
    }

    /// Writes `data`, or zeros where there is none.
    async fn put(&self, run: Run, data: Option<Bytes>) -> Result<()> {
        self.disk.inside(run)?;
        self.whole()?;
        let (block, size) = (self.disk.agreed.smallest, self.disk.agreed.size);
        let turn = Arc::new(self.turns.wait(run.aligned(block, size)).await);
        for (part, in_blocks) in cut(run, block, size) {
            let at = (part.start - run.start) as usize;
            let data = data.as_ref().map(|data| data.slice(at..at + part.len as usize));
            match data {
                data if !in_blocks => self.change(part, data, &turn).await?,
                Some(data) => self.write_blocks(part.start, data, &turn).await?,
                None => self.zero_blocks(part, &turn).await?,
            }
        }
        Ok(())
    }

    async fn write_blocks(&self, start: u64, data: Bytes, turn: &Arc<Turn>) -> Result<()> {
        for piece in Run::new(start, data.len() as u64).pieces(self.disk.agreed.longest) {
            let at = (piece.start - start) as usize;
            let data = data.slice(at..at + piece.len as usize);
            self.connection()?.write(piece.start, data, turn).await.map_err(|e| self.disk.named(e))?;
        }
        Ok(())
    }

    async fn zero_blocks(&self, run: Run, turn: &Arc<Turn>) -> Result<()> {
        if self.disk.agreed.has(export_flag::SEND_WRITE_ZEROES) {
            // Longer ones may be refused, and take long where the server writes zeros.
            for piece in run.pieces(self.disk.agreed.longest) {
                self.connection()?.zero(piece, turn).await.map_err(|e| self.disk.named(e))?;
            }
            return Ok(());
        }
        let zeros = Bytes::from(vec![0; run.len.min(ZEROS) as usize]);
        for piece in run.pieces(ZEROS) {
            self.write_blocks(piece.start, zeros.slice(..piece.len as usize), turn).await?;
        }
        Ok(())
    }

    /// Reads the block that `part` is of, and writes it back with the part changed.
    async fn change(&self, part: Run, data: Option<Bytes>, turn: &Arc<Turn>) -> Result<()> {
        let whole = part.aligned(self.disk.agreed.smallest, self.disk.agreed.size);
        let mut block = self.disk.blocks(whole, &self.edges).await?;
        let at = (part.start - whole.start) as usize;
        let changed = &mut block[at..at + part.len as usize];
        match data {
            Some(data) => changed.copy_from_slice(&data),
            None => changed.fill(0),
        }
        self.write_blocks(whole.start, block.freeze(), turn).await
    }

    /// The connection with the least to do, where all of them are well.
    fn connection(&self) -> Result<&Connection> {
        self.whole()?;
        self.disk.connection()
    }

    fn whole(&self) -> Result<()> {
        match self.disk.connections.iter().find_map(Connection::broken) {
            Some(error) => Err(self.disk.named(error)),
            None => Ok(()),
        }
    }
}

/// A run as a part of a block, whole blocks, and a part of a block, and whether it is whole ones. What there is of the
/// last block of a disk is a whole one.
fn cut(run: Run, block: u64, size: u64) -> impl Iterator<Item = (Run, bool)> {
    let first = run.start.next_multiple_of(block).min(run.end());
    let last = if run.end() == size { size } else { run.end() / block * block }.max(first);
    [(run.start, first, false), (first, last, true), (last, run.end(), false)]
        .into_iter()
        .filter(|(start, end, _)| start < end)
        .map(|(start, end, in_blocks)| (Run::new(start, end - start), in_blocks))
}

#[async_trait]
impl Disk for RemoteDiskMut {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.whole()?;
        self.disk.extents(range).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.whole()?;
        self.disk.read(run, pool).await
    }
}

#[async_trait]
impl DiskMut for RemoteDiskMut {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.put(Run::new(start, data.len() as u64), Some(data)).await
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.put(run, None).await
    }

    async fn flush(&self) -> Result<()> {
        self.connection()?.flush().await.map_err(|e| self.disk.named(e))?;
        // What another one took with it when it broke may have been answered before.
        self.whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_the_blocks_of_the_server() {
        let parts = |start, len| {
            let parts = cut(Run::new(start, len), 4096, 10_000);
            parts.map(|(run, in_blocks)| (run.start, run.end(), in_blocks)).collect::<Vec<_>>()
        };
        assert_eq!(parts(0, 8192), [(0, 8192, true)]);
        assert_eq!(parts(1, 8192), [(1, 4096, false), (4096, 8192, true), (8192, 8193, false)]);
        assert_eq!(parts(10, 20), [(10, 30, false)]);
        assert_eq!(parts(4096, 20), [(4096, 4116, false)]);
        assert_eq!(parts(4000, 200), [(4000, 4096, false), (4096, 4200, false)]);
        assert_eq!(parts(8000, 2000), [(8000, 8192, false), (8192, 10_000, true)]);
        assert_eq!(parts(9000, 1000), [(9000, 10_000, false)]);
        assert_eq!(parts(5, 0), []);
    }
}
