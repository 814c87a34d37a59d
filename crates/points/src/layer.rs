//! A layer: what was written in a span of time, sorted, in blocks that are read one by one.
//!
//! ```text
//! magic, blocks, index, tail: where the index lies (8), its length (4), its checksum (8)
//! ```
//! A block holds up to [`PIECES`] pieces of one disk, each as varints: its kind, the gap since the piece before, its
//! length; then for zeros the session, for data segment, offset and length of the frame, its place in its record, and the
//! record's checksum, as far as they do not follow from the piece before.

use crate::extent_map::{ExtentMap, Held, Place};
use crate::segment::{SegmentId, get_name, put_name};
use bytes::{Buf, BufMut};
use site_recovery::{DiskId, Run};
use site_recovery_record::checksum;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"SRLAYER\x01";
/// Bytes of the tail.
pub(crate) const TAIL: u64 = 20;
/// Pieces in one block.
const PIECES: usize = 256;

const DATA: u8 = 1;
/// The piece is its whole record.
const WHOLE: u8 = 2;
/// The segment is that of the data piece before.
const SAME_SEGMENT: u8 = 4;
/// The frame begins where the one before ends.
const FOLLOWS: u8 = 8;

/// Where the blocks of a layer lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerIndex {
    pub(crate) blocks: Vec<BlockRef>,
    /// Which of them are of which disk, by name.
    disks: Vec<(DiskId, Range<usize>)>,
}

/// One block: what it spans, and where it lies, from the layer's first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockRef {
    pub(crate) span: Run,
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) checksum: u64,
}

impl LayerIndex {
    pub(crate) fn disks(&self) -> impl Iterator<Item = &DiskId> {
        self.disks.iter().map(|(disk, _)| disk)
    }

    pub(crate) fn blocks_of(&self, disk: &DiskId) -> Range<usize> {
        match self.disks.binary_search_by(|(d, _)| d.cmp(disk)) {
            Ok(at) => self.disks[at].1.clone(),
            Err(_) => 0..0,
        }
    }

    /// The blocks of a disk that reach into `run`.
    pub(crate) fn blocks_in(&self, disk: &DiskId, run: Run) -> Range<usize> {
        let of = self.blocks_of(disk);
        let blocks = &self.blocks[of.clone()];
        let first = blocks.partition_point(|b| b.span.end() <= run.start);
        let last = blocks.partition_point(|b| b.span.start < run.end());
        of.start + first..of.start + last.max(first)
    }
}

/// Makes a layer of pieces that come sorted, disk by disk.
#[derive(Debug)]
pub(crate) struct LayerWriter {
    out: Vec<u8>,
    blocks: Vec<BlockRef>,
    disks: Vec<(DiskId, Range<usize>)>,
    block: Vec<(Run, Held)>,
    last: Option<(Run, Held)>,
    pieces: u64,
    newest: u64,
}

/// What a layer is, once it is made.
#[derive(Debug)]
pub(crate) struct Layered {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pieces: u64,
    /// The newest session that wrote something in it.
    pub(crate) newest: u64,
}

impl LayerWriter {
    pub(crate) fn new() -> Self {
        let out = MAGIC.to_vec();
        Self { out, blocks: vec![], disks: vec![], block: vec![], last: None, pieces: 0, newest: 0 }
    }

    /// The next piece. Neighbours that belong together become one.
    pub(crate) fn push(&mut self, disk: &DiskId, run: Run, held: Held) {
        self.newest = self.newest.max(held.session());
        if self.disks.last().is_none_or(|(last, _)| last != disk) {
            self.close_block();
            let at = self.blocks.len();
            self.disks.push((disk.clone(), at..at));
        }
        match &mut self.last {
            Some((last, one)) if last.end() == run.start && one.joins(&held) => {
                last.len += run.len;
                if let (Held::Zeros { session }, newer) = (one, held.session()) {
                    *session = newer.max(*session);
                }
            }
            _ => {
                self.settle();
                self.last = Some((run, held));
            }
        }
    }

    pub(crate) fn finish(mut self) -> Layered {
        self.close_block();
        let (at, mut index) = (self.out.len() as u64, vec![]);
        index.put_u32_le(self.disks.len() as u32);
        for (disk, blocks) in &self.disks {
            put_name(&mut index, disk);
            index.put_u32_le(blocks.len() as u32);
        }
        for BlockRef { span, at, len, checksum } in &self.blocks {
            index.put_u64_le(span.start);
            index.put_u64_le(span.len);
            index.put_u64_le(*at);
            index.put_u32_le(*len);
            index.put_u64_le(*checksum);
        }
        self.out.extend_from_slice(&index);
        self.out.put_u64_le(at);
        self.out.put_u32_le(index.len() as u32);
        self.out.put_u64_le(checksum(&index));
        Layered { bytes: self.out, pieces: self.pieces, newest: self.newest }
    }

    fn settle(&mut self) {
        self.block.extend(self.last.take());
        if self.block.len() == PIECES {
            self.write_block();
        }
    }

    fn close_block(&mut self) {
        self.settle();
        self.write_block();
    }

    fn write_block(&mut self) {
        let (Some((first, _)), Some((last, _))) = (self.block.first(), self.block.last()) else { return };
        let span = Run::new(first.start, last.end() - first.start);
        let bytes = encode_block(&self.block);
        self.pieces += self.block.len() as u64;
        let (at, len) = (self.out.len() as u64, bytes.len() as u32);
        self.blocks.push(BlockRef { span, at, len, checksum: checksum(&bytes) });
        self.out.extend(bytes);
        self.block.clear();
        if let Some((_, blocks)) = self.disks.last_mut() {
            blocks.end = self.blocks.len();
        }
    }
}

impl Layered {
    pub(crate) fn of(map: &ExtentMap) -> Self {
        let mut writer = LayerWriter::new();
        map.all().for_each(|(disk, run, held)| writer.push(disk, run, held));
        writer.finish()
    }
}

/// Where the index of a layer of `len` bytes lies, its length and its checksum, by the layer's tail.
pub(crate) fn decode_tail(mut tail: &[u8], len: u64) -> Option<(u64, u32, u64)> {
    let at = tail.try_get_u64_le().ok()?;
    let index = tail.try_get_u32_le().ok()?;
    let sum = tail.try_get_u64_le().ok()?;
    let ends = at.checked_add(index.into())?.checked_add(TAIL)?;
    (tail.is_empty() && ends == len && at >= MAGIC.len() as u64).then_some((at, index, sum))
}

/// The index that these bytes are, which lies at `end` of its layer, behind all blocks; none where they are none.
pub(crate) fn decode_index(mut from: &[u8], sum: u64, end: u64) -> Option<LayerIndex> {
    if checksum(from) != sum {
        return None;
    }
    let (mut disks, mut blocks): (Vec<(DiskId, Range<usize>)>, Vec<BlockRef>) = (vec![], vec![]);
    let mut count = 0_usize;
    for _ in 0..from.try_get_u32_le().ok()? {
        let disk = get_name(&mut from)?;
        let end = count.checked_add(from.try_get_u32_le().ok()? as usize)?;
        if disks.last().is_some_and(|(last, _)| *last >= disk) {
            return None;
        }
        disks.push((disk, count..end));
        count = end;
    }
    while from.has_remaining() {
        let span = Run::new(from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
        span.start.checked_add(span.len)?;
        let (at, len) = (from.try_get_u64_le().ok()?, from.try_get_u32_le().ok()?);
        at.checked_add(len.into()).filter(|behind| *behind <= end)?;
        blocks.push(BlockRef { span, at, len, checksum: from.try_get_u64_le().ok()? });
    }
    (blocks.len() == count).then_some(LayerIndex { blocks, disks })
}

fn encode_block(pieces: &[(Run, Held)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pieces.len() * 32);
    let (mut at, mut before): (u64, Option<Place>) = (pieces.first().map_or(0, |(run, _)| run.start), None);
    for (run, held) in pieces {
        let Held::Data(place) = held else {
            out.push(0);
            put(&mut out, run.start - at);
            put(&mut out, run.len);
            put(&mut out, held.session());
            at = run.end();
            continue;
        };
        let same = before.filter(|b| b.segment == place.segment);
        let follows = same.is_some_and(|b| b.offset + u64::from(b.len) == place.offset);
        let flag = |set, flag| if set { flag } else { 0 };
        out.push(
            DATA | flag(place.run == *run, WHOLE)
                | flag(same.is_some(), SAME_SEGMENT)
                | flag(follows, FOLLOWS),
        );
        put(&mut out, run.start - at);
        put(&mut out, run.len);
        if same.is_none() {
            put(&mut out, place.segment.session);
            put(&mut out, place.segment.batch);
        }
        if !follows {
            put(&mut out, place.offset);
        }
        put(&mut out, place.len.into());
        if place.run != *run {
            put(&mut out, run.start - place.run.start);
            put(&mut out, place.run.len);
        }
        out.put_u128_le(place.checksum);
        (at, before) = (run.end(), Some(*place));
    }
    out
}

/// The pieces of a block; none where the bytes are not those that were written.
pub(crate) fn decode_block(mut from: &[u8], block: &BlockRef) -> Option<Vec<(Run, Held)>> {
    if from.len() as u64 != u64::from(block.len) || checksum(from) != block.checksum {
        return None;
    }
    let from = &mut from;
    let (mut pieces, mut at, mut before): (Vec<_>, u64, Option<Place>) = (vec![], block.span.start, None);
    while from.has_remaining() {
        let kind = from.get_u8();
        let start = at.checked_add(get(from)?)?;
        let run = Run::new(start, get(from)?);
        at = run.start.checked_add(run.len).filter(|_| run.len > 0)?;
        if kind & DATA == 0 {
            pieces.push((run, Held::Zeros { session: get(from)? }));
            continue;
        }
        let segment = match kind & SAME_SEGMENT {
            0 => SegmentId { session: get(from)?, batch: get(from)? },
            _ => before?.segment,
        };
        let offset = match kind & FOLLOWS {
            0 => get(from)?,
            _ => before?.offset.checked_add(before?.len.into())?,
        };
        let len = u32::try_from(get(from)?).ok()?;
        offset.checked_add(len.into())?;
        let record = match kind & WHOLE {
            0 => Run::new(run.start.checked_sub(get(from)?)?, get(from)?),
            _ => run,
        };
        if record.start.checked_add(record.len)? < at {
            return None;
        }
        let checksum = from.try_get_u128_le().ok()?;
        let place = Place { segment, offset, len, run: record, checksum };
        before = Some(place);
        pieces.push((run, Held::Data(place)));
    }
    (at == block.span.end()).then_some(pieces)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn get(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(session: u64, run: Run, offset: u64) -> Held {
        let segment = SegmentId { session, batch: 3 };
        Held::Data(Place { segment, offset, len: 100, run, checksum: u128::from(offset) << 70 })
    }

    fn example() -> Layered {
        let (a, b) = (DiskId::from("a"), DiskId::from("b"));
        let mut writer = LayerWriter::new();
        for number in 0..600 {
            let run = Run::new(number * 8192, 4096);
            let record =
                if number % 5 == 0 { Run::new(run.start - run.start.min(4096), 65_536) } else { run };
            writer.push(&a, run, data(1 + number / 100, record, 100 * number));
        }
        writer.push(&b, Run::new(0, 4096), Held::Zeros { session: 7 });
        writer.push(&b, Run::new(4096, 4096), Held::Zeros { session: 9 });
        writer.push(&b, Run::new(8192, 512), data(9, Run::new(8192, 512), 5));
        writer.finish()
    }

    fn read(bytes: &[u8]) -> Option<Vec<(DiskId, Run, Held)>> {
        let tail = bytes.get(bytes.len().checked_sub(TAIL as usize)?..)?;
        let (at, len, sum) = decode_tail(tail, bytes.len() as u64)?;
        let index = decode_index(&bytes[at as usize..][..len as usize], sum, at)?;
        let mut all = vec![];
        for disk in index.disks() {
            for block in &index.blocks[index.blocks_of(disk)] {
                let from = bytes.get(block.at as usize..block.at as usize + block.len as usize)?;
                all.extend(
                    decode_block(from, block)?.into_iter().map(|(run, held)| (disk.clone(), run, held)),
                );
            }
        }
        Some(all)
    }

    #[test]
    fn what_is_written_is_read_in_blocks_and_neighbours_are_joined() {
        let layer = example();
        let all = read(&layer.bytes).expect("a layer");
        assert_eq!((layer.pieces, layer.newest, all.len()), (602, 9, 602));
        assert_eq!(all[1].2, data(1, Run::new(8192, 4096), 100));
        assert_eq!(all[5].2, data(1, Run::new(5 * 8192 - 4096, 65_536), 500));
        assert_eq!(all[600], ("b".into(), Run::new(0, 8192), Held::Zeros { session: 9 }));
    }

    #[test]
    fn bytes_that_are_no_layer_are_refused() {
        let bytes = example().bytes;
        let whole = read(&bytes);
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "cut to {len}");
        }
        for at in (8..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(read(&flipped) != whole, "byte {at}");
        }
    }

    #[test]
    fn blocks_and_frames_that_lie_nowhere_are_refused() {
        let bytes = example().bytes;
        let (at, len, sum) =
            decode_tail(&bytes[bytes.len() - TAIL as usize..], bytes.len() as u64).expect("a tail");
        let index = &bytes[at as usize..][..len as usize];
        let last = decode_index(index, sum, at).expect("an index").blocks.pop().expect("a block");
        assert_eq!(decode_index(index, sum, last.at + u64::from(last.len) - 1), None);
        let block = |run: Run, offset| {
            let bytes = encode_block(&[(run, data(1, run, offset))]);
            let found = BlockRef { span: run, at: 8, len: bytes.len() as u32, checksum: checksum(&bytes) };
            decode_block(&bytes, &found)
        };
        assert!(block(Run::new(0, 4096), 20).is_some());
        assert_eq!(block(Run::new(0, 0), 20), None);
        assert_eq!(block(Run::new(0, 4096), u64::MAX - 99), None);
    }

    #[test]
    fn numbers_of_any_size_survive() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX - 1, u64::MAX] {
            let mut out = vec![];
            put(&mut out, number);
            assert_eq!(get(&mut out.as_slice()), Some(number));
        }
        assert_eq!(get(&mut [0xff; 10].as_slice()), None);
    }
}
