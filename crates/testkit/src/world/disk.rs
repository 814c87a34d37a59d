use super::BLOCK;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskId, Error, ErrorKind, Extent, Fill, Pool, Result, Run};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of disks; a copy costs nothing until one of them is written.
pub(super) type Content = BTreeMap<DiskId, Arc<Vec<u8>>>;

/// A disk whose bytes never change: of a capture, or of an opened point.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) bytes: Arc<Vec<u8>>,
    /// True while the site that serves it is down.
    pub(super) down: Option<Arc<AtomicBool>>,
    /// Held by somebody who wants to know whether this disk is still in use.
    pub(super) _lease: Option<Arc<()>>,
}

#[async_trait]
impl Disk for Frozen {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.answers()?;
        Ok(extents(&self.bytes, range))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.answers()?;
        let mut block = pool.take(cut(&self.bytes, run)?.len()).await?;
        block.copy_from_slice(cut(&self.bytes, run)?);
        Ok(block.freeze())
    }
}

impl Frozen {
    fn answers(&self) -> Result<()> {
        match &self.down {
            Some(down) if down.load(Ordering::SeqCst) => {
                Err(Error::new(ErrorKind::Unavailable, "the site of this disk does not answer"))
            }
            _ => Ok(()),
        }
    }
}

/// The bytes of a run.
pub(super) fn cut(bytes: &[u8], run: Run) -> Result<&[u8]> {
    run.must_be_inside(bytes.len() as u64)?;
    Ok(&bytes[run.start as usize..run.end() as usize])
}

/// What is zero and what may be data, block by block.
pub(super) fn extents(bytes: &[u8], range: Run) -> Vec<Extent> {
    let mut found: Vec<Extent> = vec![];
    let Some(inside) = range.intersection(Run::new(0, bytes.len() as u64)) else { return found };
    for run in inside.pieces(BLOCK) {
        let zero = bytes[run.start as usize..run.end() as usize].iter().all(|b| *b == 0);
        let fill = if zero { Fill::Zero } else { Fill::Data };
        match found.last_mut() {
            Some(last) if last.fill == fill => last.run.len += run.len,
            _ => found.push(Extent { run, fill }),
        }
    }
    found
}
