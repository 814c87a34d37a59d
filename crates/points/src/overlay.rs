//! Several layers of one disk as one: in order, each byte from the newest layer that has it.

use crate::extent_map::Held;
use crate::folder::Folder;
use crate::layer::LayerIndex;
use crate::map::Layer;
use futures_util::future::try_join_all;
use site_recovery::{DiskId, Result, Run};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Blocks of a layer that are fetched side by side: a store may be far away.
const AHEAD: usize = 16;

pub(crate) struct Overlay<'a> {
    folder: &'a Folder,
    /// The newest first.
    cursors: Vec<Cursor<'a>>,
}

/// A place in one layer.
struct Cursor<'a> {
    layer: &'a Layer,
    index: Arc<LayerIndex>,
    blocks: Range<usize>,
    /// The blocks that come next.
    ahead: VecDeque<Arc<Vec<(Run, Held)>>>,
    pieces: Arc<Vec<(Run, Held)>>,
    next: usize,
    /// What is left of the piece before `next`.
    head: Option<(Run, Held)>,
}

impl<'a> Overlay<'a> {
    pub(crate) async fn of(folder: &'a Folder, layers: &'a [Layer], disk: &DiskId) -> Result<Self> {
        let mut cursors = vec![];
        for layer in layers {
            let index = layer.index(folder).await?;
            let blocks = index.blocks_of(disk);
            let (ahead, pieces) = (VecDeque::new(), Arc::default());
            let mut cursor = Cursor { layer, index, blocks, ahead, pieces, next: 0, head: None };
            cursor.advance(folder).await?;
            cursors.push(cursor);
        }
        Ok(Self { folder, cursors })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<(Run, Held)>> {
        let starts = self.cursors.iter().filter_map(|cursor| cursor.head.map(|(run, _)| run.start));
        let Some(at) = starts.min() else { return Ok(None) };
        let (mut end, mut found) = (u64::MAX, None);
        for cursor in &self.cursors {
            match cursor.head {
                Some((run, held)) if run.start == at => {
                    end = end.min(run.end());
                    found = Some(held);
                    break;
                }
                // It covers what comes after.
                Some((run, _)) => end = end.min(run.start),
                None => {}
            }
        }
        for cursor in &mut self.cursors {
            while let Some((run, _)) = &mut cursor.head
                && run.start < end
            {
                if run.end() > end {
                    *run = Run::new(end, run.end() - end);
                } else {
                    cursor.advance(self.folder).await?;
                }
            }
        }
        Ok(found.map(|held| (Run::new(at, end - at), held)))
    }
}

impl Cursor<'_> {
    async fn advance(&mut self, folder: &Folder) -> Result<()> {
        while self.next == self.pieces.len() {
            if self.ahead.is_empty() {
                let blocks = self.blocks.by_ref().take(AHEAD);
                let fetched = blocks.map(|block| self.layer.block(folder, &self.index, block));
                self.ahead.extend(try_join_all(fetched).await?);
            }
            let Some(block) = self.ahead.pop_front() else {
                self.head = None;
                return Ok(());
            };
            (self.pieces, self.next) = (block, 0);
        }
        self.head = Some(self.pieces[self.next]);
        self.next += 1;
        Ok(())
    }
}
