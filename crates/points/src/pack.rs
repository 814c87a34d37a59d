//! A pack: what is still needed of segments that are gone, as it lay there.
//!
//! Magic, length of the index (4), its checksum (8); the index: per frame session (8), batch (8), offset in the segment
//! (8), length (4), sorted; then the frames in that order.

use crate::attached::Attached;
use crate::cache::Cached;
use crate::folder::Folder;
use crate::segment::SegmentId;
use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use site_recovery::Result;
use site_recovery_record::checksum;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"SRPACK\0\x01";
const HEADER: u64 = 20;
const ENTRY: usize = 28;

/// A frame of a segment: by its offset, and its length.
pub(crate) type Frame = (SegmentId, u64, u32);

/// A pack, and the segments that it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackRef {
    pub(crate) object: Attached,
    pub(crate) first: SegmentId,
    pub(crate) last: SegmentId,
}

/// Where the frames of a pack lie in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PackIndex {
    frames: Vec<(SegmentId, u64, u32)>,
    at: Vec<u64>,
}

impl PackIndex {
    pub(crate) fn bytes(&self) -> usize {
        self.frames.len() * (size_of::<Frame>() + 8)
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Where in the pack a frame lies.
    pub(crate) fn find(&self, segment: SegmentId, offset: u64) -> Option<u64> {
        let found = self.frames.binary_search_by_key(&(segment, offset), |(s, o, _)| (*s, *o));
        found.ok().map(|at| self.at[at])
    }

    fn of(frames: Vec<Frame>) -> Option<Self> {
        let mut next = HEADER + (frames.len() * ENTRY) as u64;
        let mut at = Vec::with_capacity(frames.len());
        for (_, _, len) in &frames {
            at.push(next);
            next = next.checked_add((*len).into())?;
        }
        Some(Self { frames, at })
    }
}

/// The header and index before these frames, which are sorted.
pub(crate) fn encode(frames: &[Frame]) -> Vec<u8> {
    let mut index = Vec::with_capacity(frames.len() * ENTRY);
    for (segment, offset, len) in frames {
        index.put_u64_le(segment.session);
        index.put_u64_le(segment.batch);
        index.put_u64_le(*offset);
        index.put_u32_le(*len);
    }
    let mut out = MAGIC.to_vec();
    out.put_u32_le(index.len() as u32);
    out.put_u64_le(checksum(&index));
    out.extend(index);
    out
}

pub(crate) fn decode(mut index: &[u8], sum: u64) -> Option<PackIndex> {
    if checksum(index) != sum {
        return None;
    }
    let mut frames = Vec::with_capacity(index.len() / ENTRY);
    while index.has_remaining() {
        let segment =
            SegmentId { session: index.try_get_u64_le().ok()?, batch: index.try_get_u64_le().ok()? };
        frames.push((segment, index.try_get_u64_le().ok()?, index.try_get_u32_le().ok()?));
    }
    frames.is_sorted().then(|| PackIndex::of(frames)).flatten()
}

impl Folder {
    /// Frames of a segment, by offset and length, out of the pack that has them; none where no pack has.
    pub(crate) async fn get_packed(
        &self,
        packs: &[PackRef],
        segment: SegmentId,
        frames: &[(u64, u32)],
    ) -> Result<Option<Vec<Bytes>>> {
        let mut found: Vec<Option<Bytes>> = vec![None; frames.len()];
        for pack in packs.iter().filter(|pack| (pack.first..=pack.last).contains(&segment)) {
            let index = self.pack_index(&pack.object).await?;
            let (mut numbers, mut places) = (vec![], vec![]);
            for (number, (offset, len)) in frames.iter().enumerate().filter(|(n, _)| found[*n].is_none()) {
                if let Some(at) = index.find(segment, *offset) {
                    numbers.push(number);
                    places.push((at, *len));
                }
            }
            if !places.is_empty() {
                let parts = self.get_parts(&pack.object, &places).await?;
                numbers.into_iter().zip(parts).for_each(|(number, part)| found[number] = Some(part));
            }
        }
        Ok(found.into_iter().collect())
    }

    pub(crate) async fn pack_index(&self, pack: &Attached) -> Result<Arc<PackIndex>> {
        if let Some(Cached::Pack(index)) = self.cache.get(pack, 0) {
            return Ok(index);
        }
        let header = self.get_part(pack, 0, HEADER).await?;
        let mut from = header.strip_prefix(MAGIC).ok_or_else(|| self.is_damaged(pack, "it is no pack"))?;
        let (len, sum) = (from.get_u32_le(), from.get_u64_le());
        let index = self.get_part(pack, HEADER, len.into()).await?;
        let index =
            decode(&index, sum).ok_or_else(|| self.is_damaged(pack, "its index is not what was written"))?;
        let index = Arc::new(index);
        self.cache.put(pack, 0, Cached::Pack(Arc::clone(&index)));
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_says_where_a_frame_lies_and_damage_is_told() {
        let id = |session, batch| SegmentId { session, batch };
        let frames = [(id(1, 0), 20, 5), (id(1, 0), 90, 7), (id(4, 2), 20, 3)];
        let bytes = encode(&frames);
        let sum = u64::from_le_bytes(bytes[12..20].try_into().expect("eight"));
        let index = decode(&bytes[20..], sum).expect("an index");
        assert_eq!(index.find(id(1, 0), 90), Some(20 + 3 * 28 + 5));
        assert_eq!(index.find(id(4, 2), 20), Some(20 + 3 * 28 + 12));
        assert_eq!(index.find(id(4, 2), 21), None);
        for at in 20..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(decode(&flipped[20..], sum), None);
        }
        assert_eq!(decode(&bytes[20..bytes.len() - 1], sum), None);
    }
}
