//! A disk of a capture.

use crate::shelf::{BLOCK, BLOCKS, Shelf, failed};
use async_trait::async_trait;
use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableDatabase};
use site_recovery::{Disk, Error, Extent, Fill, Pool, Result, Run};
use std::fmt;
use std::sync::Arc;

type Blocks = ReadOnlyTable<(&'static str, u64), &'static [u8]>;

/// The blocks as they stood when it was opened: it reads the same also when the capture is gone.
#[derive(Clone)]
pub(crate) struct Captured {
    owner: String,
    size: u64,
    blocks: Arc<Blocks>,
}

impl Captured {
    pub(crate) fn open(shelf: &Shelf, owner: String, size: u64) -> Result<Self> {
        let now = shelf.0.begin_read().map_err(failed)?;
        Ok(Self { owner, size, blocks: Arc::new(now.open_table(BLOCKS).map_err(failed)?) })
    }

    /// Calls `see` with each piece of `run` that is within one block, and that block's bytes.
    async fn each<T: Send + 'static>(
        &self,
        run: Run,
        mut into: T,
        see: impl Fn(&mut T, Run, Option<&[u8]>) + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            for piece in run.pieces(BLOCK) {
                let block = this.blocks.get((this.owner.as_str(), piece.start / BLOCK)).map_err(failed)?;
                see(&mut into, piece, block.as_ref().map(|b| b.value()));
            }
            Ok(into)
        });
        done.await.map_err(|e| {
            Error::new(site_recovery::ErrorKind::Unavailable, "the read did not end").caused_by(e)
        })?
    }
}

#[async_trait]
impl Disk for Captured {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let within = range.intersection(Run::new(0, self.size)).unwrap_or(Run::new(range.start, 0));
        let see = |extents: &mut Vec<Extent>, run: Run, block: Option<&[u8]>| {
            let fill = if block.is_some() { Fill::Data } else { Fill::Zero };
            match extents.last_mut() {
                Some(last) if last.fill == fill => last.run.len += run.len,
                _ => extents.push(Extent { run, fill }),
            }
        };
        self.each(within, vec![], see).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.end() > self.size {
            let rule = format!("the disk has {} bytes", self.size);
            return Err(Error::invalid("run", format!("{run:?}"), &rule, "read less"));
        }
        let memory = pool.take(run.len as usize).await?;
        let see = move |memory: &mut site_recovery::Block, piece: Run, block: Option<&[u8]>| {
            let (at, from) = ((piece.start - run.start) as usize, (piece.start % BLOCK) as usize);
            let place = &mut memory[at..at + piece.len as usize];
            let kept = block.and_then(|b| b.get(from..)).unwrap_or_default();
            let (bytes, zeros) = place.split_at_mut(kept.len().min(piece.len as usize));
            bytes.copy_from_slice(&kept[..bytes.len()]);
            zeros.fill(0);
        };
        Ok(self.each(run, memory, see).await?.freeze())
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.owner, self.size)
    }
}
