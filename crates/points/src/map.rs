//! The content of a point: layers, the newest first. What a point wrote is one; eight of about one size become one, so
//! that there are few however long the history is, and each piece is written again a few times at most.

use crate::attached::Attached;
use crate::cache::Cached;
use crate::extent_map::{Held, Piece};
use crate::folder::Folder;
use crate::layer::{LayerIndex, Layered, TAIL, decode_block, decode_index, decode_tail};
use crate::overlay::Overlay;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use site_recovery::{ChangeSet, DiskId, Error, Result, Run};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Layers of one size before they become one.
const RADIX: u64 = 8;
/// Layers up to this many pieces are of the smallest size.
const SMALL: u64 = 64;
/// A layer that is not larger is read at once.
const AT_ONCE: u64 = 64 << 10;

/// Where a layer lies, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRef {
    pub(crate) object: Attached,
    /// Its first byte in the object.
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) pieces: u64,
    /// How many points wrote it.
    pub(crate) points: u64,
    /// The newest session that wrote something in it.
    pub(crate) newest: u64,
}

impl LayerRef {
    /// Layers of one size count as one.
    fn size(&self) -> u32 {
        self.points.max(1).ilog(RADIX).max((self.pieces / SMALL).max(1).ilog(RADIX))
    }
}

/// How many of these layers, from the newest, should become one now.
pub(crate) fn due(layers: &[LayerRef]) -> usize {
    let mut due = 0;
    for size in 0.. {
        let upto = layers.iter().take_while(|layer| layer.size() <= size).count();
        let of_it = layers[due..upto.max(due)].iter().filter(|layer| layer.size() == size).count();
        // What becomes one here counts as one for the next size.
        if (of_it + due.min(1)) as u64 >= RADIX {
            due = upto;
        }
        if upto == layers.len() {
            break;
        }
    }
    let mut pieces = layers[..due].iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.pieces));
    while due > 0 && layers.get(due).is_some_and(|next| next.pieces <= pieces) {
        pieces = pieces.saturating_add(layers[due].pieces);
        due += 1;
    }
    due
}

#[derive(Debug, Clone)]
pub(crate) struct Map {
    folder: Folder,
    pub(crate) layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) is: LayerRef,
    /// All of it, where it was just made.
    bytes: Option<Bytes>,
}

impl Map {
    pub(crate) fn new(folder: Folder, layers: Vec<LayerRef>) -> Self {
        let layers = layers.into_iter().map(|is| Layer { is, bytes: None }).collect();
        Self { folder, layers }
    }

    pub(crate) fn refs(&self) -> Vec<LayerRef> {
        self.layers.iter().map(|layer| layer.is.clone()).collect()
    }

    pub(crate) fn objects(&self) -> BTreeSet<&Attached> {
        self.layers.iter().map(|layer| &layer.is.object).collect()
    }

    /// What a run holds, without gap.
    pub(crate) async fn pieces(&self, disk: &DiskId, run: Run) -> Result<Vec<Piece>> {
        let (mut found, mut open): (Vec<Piece>, Vec<Run>) = (vec![], vec![run]);
        for layer in &self.layers {
            let mut still = vec![];
            for gap in open {
                let written = layer.pieces(&self.folder, disk, gap).await?;
                let mut at = gap.start;
                for (run, held) in written {
                    still.extend((run.start > at).then(|| Run::new(at, run.start - at)));
                    found.push((run, Some(held)));
                    at = run.end();
                }
                still.extend((at < gap.end()).then(|| Run::new(at, gap.end() - at)));
            }
            open = still;
            if open.is_empty() {
                break;
            }
        }
        found.extend(open.into_iter().map(|run| (run, None)));
        found.sort_unstable_by_key(|(run, _)| run.start);
        Ok(found)
    }

    /// All that this map and not the one below it says, given that sessions up to `since` are in both.
    pub(crate) fn above(&self, since: u64) -> Map {
        let newer = self.layers.iter().take_while(|layer| layer.is.newest > since);
        Map { folder: self.folder.clone(), layers: newer.cloned().collect() }
    }

    /// Every run that was written after this session.
    pub(crate) async fn written_after(&self, session: u64) -> Result<ChangeSet> {
        let mut all = ChangeSet::new();
        for layer in &self.above(session).layers {
            // In order within a layer, so that adding one costs nothing.
            let mut written = ChangeSet::new();
            let index = layer.index(&self.folder).await?;
            for disk in index.disks() {
                for block in index.blocks_of(disk) {
                    let pieces = layer.block(&self.folder, &index, block).await?;
                    let newer = pieces.iter().filter(|(_, held)| held.session() > session);
                    newer.for_each(|(run, _)| written.add(disk, *run));
                }
            }
            all = all.union(&written);
        }
        Ok(all)
    }

    /// All pieces, in order, as they count.
    pub(crate) async fn visit(&self, mut each: impl FnMut(&DiskId, Run, Held) + Send) -> Result<()> {
        let mut disks = BTreeSet::new();
        for layer in &self.layers {
            disks.extend(layer.index(&self.folder).await?.disks().cloned());
        }
        for disk in &disks {
            let mut overlay = Overlay::of(&self.folder, &self.layers, disk).await?;
            while let Some((run, held)) = overlay.next().await? {
                each(disk, run, held);
            }
        }
        Ok(())
    }

    /// The newest `count` layers as one.
    pub(crate) async fn merged(&self, count: usize) -> Result<Layered> {
        let top = Map { folder: self.folder.clone(), layers: self.layers[..count].to_vec() };
        let mut writer = crate::layer::LayerWriter::new();
        top.visit(|disk, run, held| writer.push(disk, run, held)).await?;
        Ok(writer.finish())
    }
}

impl Layer {
    /// One that was just made, and is at no place yet.
    pub(crate) fn made(object: Attached, layered: &Layered) -> Self {
        let Layered { bytes, pieces, newest } = layered;
        let (len, pieces, newest) = (bytes.len() as u64, *pieces, *newest);
        let is = LayerRef { object, at: 0, len, pieces, points: 1, newest };
        Self { is, bytes: Some(bytes.clone().into()) }
    }

    async fn pieces(&self, folder: &Folder, disk: &DiskId, run: Run) -> Result<Vec<(Run, Held)>> {
        let index = self.index(folder).await?;
        let mut found = vec![];
        for number in index.blocks_in(disk, run) {
            let block = self.block(folder, &index, number).await?;
            let first = block.partition_point(|(piece, _)| piece.end() <= run.start);
            let inside =
                block[first..].iter().map_while(|(piece, held)| Some((piece.intersection(run)?, *held)));
            found.extend(inside);
        }
        Ok(found)
    }

    pub(crate) async fn index(&self, folder: &Folder) -> Result<Arc<LayerIndex>> {
        let LayerRef { object, at, len, .. } = &self.is;
        if let Some(Cached::Index(index)) = folder.cache.get(object, *at) {
            return Ok(index);
        }
        let damaged = || self.damaged(folder, "the index of a layer is not what was written");
        let guess = if *len <= AT_ONCE { *len } else { AT_ONCE };
        let mut end = self.part(folder, len - guess, guess).await?;
        let tail = &end[end.len().checked_sub(TAIL as usize).ok_or_else(damaged)?..];
        let (from, bytes, sum) = decode_tail(tail, *len).ok_or_else(damaged)?;
        if from < len - guess {
            end = self.part(folder, from, len - from).await?;
        }
        let start = end.len() - (len - from) as usize;
        let index = decode_index(&end[start..start + bytes as usize], sum, from).ok_or_else(damaged)?;
        if guess == *len {
            for (number, block) in index.blocks.iter().enumerate() {
                let bytes = end.get(block.at as usize..block.at as usize + block.len as usize);
                let pieces = bytes.and_then(|bytes| decode_block(bytes, block)).ok_or_else(damaged)?;
                self.keep(folder, number, Arc::new(pieces));
            }
        }
        let index = Arc::new(index);
        folder.cache.put(object, *at, Cached::Index(Arc::clone(&index)));
        Ok(index)
    }

    pub(crate) async fn block(
        &self,
        folder: &Folder,
        index: &LayerIndex,
        number: usize,
    ) -> Result<Arc<Vec<(Run, Held)>>> {
        if let Some(Cached::Block(pieces)) = folder.cache.get(&self.is.object, self.block_key(number)) {
            return Ok(pieces);
        }
        let block = &index.blocks[number];
        let bytes = self.part(folder, block.at, block.len.into()).await?;
        let pieces = decode_block(&bytes, block)
            .ok_or_else(|| self.damaged(folder, "a block of a layer is not what was written"))?;
        let pieces = Arc::new(pieces);
        self.keep(folder, number, Arc::clone(&pieces));
        Ok(pieces)
    }

    fn keep(&self, folder: &Folder, number: usize, pieces: Arc<Vec<(Run, Held)>>) {
        folder.cache.put(&self.is.object, self.block_key(number), Cached::Block(pieces));
    }

    /// Blocks are counted from behind the first byte of the layer, where its index is kept.
    fn block_key(&self, number: usize) -> u64 {
        self.is.at + 1 + number as u64
    }

    async fn part(&self, folder: &Folder, from: u64, len: u64) -> Result<Bytes> {
        match &self.bytes {
            Some(bytes) => Ok(bytes.slice(from as usize..(from + len) as usize)),
            None => folder.get_part(&self.is.object, self.is.at + from, len).await,
        }
    }

    fn damaged(&self, folder: &Folder, why: &str) -> Error {
        folder.is_damaged(&self.is.object, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(pieces: u64, points: u64) -> LayerRef {
        LayerRef { object: Attached::new(1, "map", b""), at: 0, len: 0, pieces, points, newest: 0 }
    }

    /// How many layers there are, and how many pieces were written in all, after so many points of this size.
    fn life(points: u64, pieces: u64, disk: u64) -> (usize, u64) {
        let (mut stack, mut written, mut most) = (vec![layer(disk, 1)], disk, 0);
        for _ in 1..points {
            stack.insert(0, layer(pieces, 1));
            written += pieces;
            let due = due(&stack);
            if due > 0 {
                let merged: Vec<LayerRef> = stack.drain(..due).collect();
                let pieces = merged.iter().map(|l| l.pieces).sum::<u64>().min(disk);
                stack.insert(0, layer(pieces, merged.iter().map(|l| l.points).sum()));
                written += pieces;
            }
            most = most.max(stack.len());
        }
        (most, written)
    }

    #[test]
    fn layers_stay_few_and_pieces_are_seldom_written_again() {
        let (most, written) = life(288, 33, 16_384);
        assert!(most <= 16, "{most} layers");
        assert!(written < 16_384 + 288 * 33 * 5, "{written} pieces");
        let (most, written) = life(288, 524, 262_144);
        assert!(most <= 16, "{most} layers");
        assert!(written < 262_144 + 288 * 524 * 6, "{written} pieces");
        let (most, written) = life(518_400, 1, 16_384);
        assert!(most <= 24, "{most} layers");
        assert!(written < 518_400 * 10, "{written} pieces");
    }
}
