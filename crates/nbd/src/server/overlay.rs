//! Writes that are thrown away: a sparse file over a disk that is never written.

use super::overlay_map::OverlayMap;
use crate::fault::Result;
use bytes::Bytes;
use site_recovery::{Disk, Error, ErrorKind, Pool, Run};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) use super::overlay_map::Layer;

/// What is kept is kept in whole blocks of so many bytes.
const BLOCK: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Overlay {
    below: Arc<dyn Disk>,
    bound: u64,
    kept: Arc<Kept>,
    /// One write at a time, to its end even if nobody waits for it any more.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// For the rest of blocks that are written in part.
    edges: Pool,
}

#[derive(Debug)]
struct Kept {
    file: File,
    map: Mutex<OverlayMap>,
}

impl Overlay {
    pub(crate) fn new(below: Arc<dyn Disk>, dir: &Path, bound: u64) -> Result<Self> {
        let file = tempfile::tempfile_in(dir).map_err(|e| {
            let message = format!("cannot make an overlay's file in {}", dir.display());
            Error::new(ErrorKind::Unavailable, message).caused_by(e)
        })?;
        let kept = Arc::new(Kept { file, map: Mutex::default() });
        Ok(Self { below, bound, kept, writing: Arc::default(), edges: Pool::new(16 * BLOCK as usize) })
    }

    /// Where the bytes of `run` lie: in order, without gap.
    pub(crate) fn layers(&self, run: Run) -> Vec<(Run, Layer)> {
        self.kept.map.lock().expect("no panic under this lock").layers(run)
    }

    /// Reads a run that is stored.
    pub(crate) async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let mut block = pool.take(run.len as usize).await?;
        let kept = Arc::clone(&self.kept);
        blocking(move || {
            // The file may end before a run whose blocks were zeroed meanwhile.
            let mut at = 0;
            while at < block.len() {
                match kept.file.read_at(&mut block[at..], run.start + at as u64)? {
                    0 => {
                        block[at..].fill(0);
                        break;
                    }
                    n => at += n,
                }
            }
            Ok(block.freeze())
        })
        .await
    }

    /// Takes bytes that lie inside the disk.
    ///
    /// # Errors
    /// `OutOfSpace` at the bound or of the file system; nothing is written then, or by the file system only in part.
    pub(crate) async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let turn = Arc::clone(&self.writing).lock_owned().await;
        self.write_in_turn(start, data, turn).await
    }

    /// Makes a run inside the disk read as zeros, and gives back the space of its whole blocks.
    pub(crate) async fn zero(&self, run: Run) -> Result<()> {
        if run.len == 0 {
            return Ok(());
        }
        let size = self.below.size();
        let first = run.start.div_ceil(BLOCK) * BLOCK;
        let end = if run.end() == size { size } else { run.end() / BLOCK * BLOCK };
        if first >= end {
            return self.write(run.start, Bytes::from(vec![0; run.len as usize])).await;
        }
        let edges = [Run::new(run.start, first - run.start), Run::new(end, run.end() - end)];
        for edge in edges.into_iter().filter(|edge| edge.len > 0) {
            self.write(edge.start, Bytes::from(vec![0; edge.len as usize])).await?;
        }
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let inner = Run::new(first, end - first);
        self.room(inner, Layer::Zeroed)?;
        let kept = Arc::clone(&self.kept);
        blocking(move || {
            kept.forget(inner)?;
            drop(turn);
            Ok(())
        })
        .await
    }

    async fn write_in_turn(
        &self,
        start: u64,
        data: Bytes,
        turn: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<()> {
        let run = Run::new(start, data.len() as u64);
        let whole = run.aligned(BLOCK, self.below.size());
        self.room(whole, Layer::Stored)?;
        let mut rests = vec![];
        for block in [Run::new(whole.start, BLOCK), Run::new((run.end() - 1) / BLOCK * BLOCK, BLOCK)] {
            let block = Run::new(block.start, block.len.min(self.below.size() - block.start));
            let covered = run.start <= block.start && block.end() <= run.end();
            if !covered && !rests.iter().any(|(at, _)| *at == block.start) {
                match self.layers(block)[0].1 {
                    Layer::Stored => {}
                    Layer::Zeroed => rests.push((block.start, Bytes::from(vec![0; block.len as usize]))),
                    Layer::Below => rests.push((block.start, self.below.read(block, &self.edges).await?)),
                }
            }
        }
        let kept = Arc::clone(&self.kept);
        blocking(move || {
            for (at, rest) in &rests {
                kept.file.write_all_at(rest, *at)?;
            }
            kept.file.write_all_at(&data, start)?;
            kept.map.lock().expect("no panic under this lock").set(whole, Layer::Stored);
            drop(turn);
            Ok(())
        })
        .await
    }

    fn room(&self, run: Run, layer: Layer) -> Result<()> {
        let after = self.kept.map.lock().expect("no panic under this lock").taken_after(run, layer);
        if after <= self.bound {
            return Ok(());
        }
        let message = format!("the overlay may take {} bytes", self.bound);
        Err(Error::new(ErrorKind::OutOfSpace, message))
    }
}

impl Kept {
    /// Where the file system cannot give space back, zeros are written, and the space counts on.
    fn forget(&self, run: Run) -> std::io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let stored = self.map.lock().expect("no panic under this lock").layers(run);
        for (part, layer) in stored {
            if layer == Layer::Stored {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if fallocate(&self.file, hole, part.start, part.len).is_err() {
                    let zeros = vec![0; (64 * 1024).min(part.len as usize)];
                    for piece in part.pieces(zeros.len() as u64) {
                        self.file.write_all_at(&zeros[..piece.len as usize], piece.start)?;
                    }
                    continue;
                }
            }
            self.map.lock().expect("no panic under this lock").set(part, Layer::Zeroed);
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other).and_then(|outcome| outcome).map_err(|e| {
        let kind = match e.kind() {
            std::io::ErrorKind::StorageFull => ErrorKind::OutOfSpace,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "the overlay's file cannot be used").caused_by(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use proptest::prelude::*;
    use site_recovery::{Extent, Fill};

    const SIZE: u64 = 40_000;

    #[derive(Debug)]
    struct Sevens;

    #[async_trait]
    impl Disk for Sevens {
        fn size(&self) -> u64 {
            SIZE
        }

        async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
            Ok(vec![Extent { run: range, fill: Fill::Data }])
        }

        async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
            let mut block = pool.take(run.len as usize).await?;
            block.fill(7);
            Ok(block.freeze())
        }
    }

    async fn contents(overlay: &Overlay) -> Vec<u8> {
        let (pool, mut bytes) = (Pool::new(2 * SIZE as usize), vec![]);
        for (run, layer) in overlay.layers(Run::new(0, SIZE)) {
            match layer {
                Layer::Stored => bytes.extend_from_slice(&overlay.read(run, &pool).await.unwrap()),
                Layer::Zeroed => bytes.resize(bytes.len() + run.len as usize, 0),
                Layer::Below => bytes.resize(bytes.len() + run.len as usize, 7),
            }
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_written_last_is_read(
            acts in prop::collection::vec((0..SIZE, 1u64..12_000, prop::option::of(any::<u8>())), 0..16),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let overlay = Overlay::new(Arc::new(Sevens), dir.path(), 1 << 20).unwrap();
                let mut expected = vec![7; SIZE as usize];
                for (start, len, fill) in acts {
                    let run = Run::new(start, len.min(SIZE - start));
                    expected[run.start as usize..run.end() as usize].fill(fill.unwrap_or(0));
                    match fill {
                        Some(fill) => overlay.write(run.start, vec![fill; run.len as usize].into()).await.unwrap(),
                        None => overlay.zero(run).await.unwrap(),
                    }
                }
                assert!(contents(&overlay).await == expected);
            });
        }
    }

    #[tokio::test]
    async fn at_its_bound_a_write_changes_nothing_and_zeroed_blocks_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = Overlay::new(Arc::new(Sevens), dir.path(), 3 * BLOCK).unwrap();
        overlay.write(0, vec![1; 2 * BLOCK as usize].into()).await.unwrap();
        let before = contents(&overlay).await;
        let full = overlay.write(2 * BLOCK, vec![2; 2 * BLOCK as usize].into()).await.expect_err("no room");
        assert_eq!(full.kind(), ErrorKind::OutOfSpace);
        assert!(contents(&overlay).await == before);
        overlay.write(100, vec![3; 100].into()).await.expect("what is stored is written in place");
        overlay.zero(Run::new(0, 2 * BLOCK)).await.unwrap();
        if overlay.layers(Run::new(0, BLOCK))[0].1 == Layer::Zeroed {
            overlay.write(2 * BLOCK, vec![2; 2 * BLOCK as usize].into()).await.expect("there is room again");
        }
    }
}
