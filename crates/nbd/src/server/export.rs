//! What is served: a disk under a name, what is known of it, and where writes go.

use super::overlay::{Layer, Overlay};
use crate::fault::Result;
use crate::protocol::*;
use bytes::Bytes;
use site_recovery::{ChangeSet, Disk, DiskId, Error, ErrorKind, Extent, Fill, Pool, Run};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The most that is read in one go.
pub(crate) const PIECE: u64 = 1 << 20;
/// Zeros between data that are not worth an answer of their own.
const SHORT_HOLE: u64 = 64 * 1024;
/// How much of a disk one block status tells of, so that it stays small however many extents there are.
const STATUS_SPAN: u64 = 128 << 20;
/// The most extents of one context in one block status.
const MOST_DESCRIPTORS: usize = 32 * 1024;

/// A disk under a name. All its connections see the same bytes.
#[derive(Debug)]
pub struct Export {
    name: String,
    description: String,
    disk: Arc<dyn Disk>,
    overlay: Option<Overlay>,
    bitmaps: Vec<(String, Vec<Run>)>,
}

/// A run of an export that lies in one place and is read in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) run: Run,
    pub(crate) from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Disk,
    Overlay,
    Zeros,
}

impl Export {
    /// Serves `disk` as it is. Every write is refused.
    pub fn read_only(name: impl Into<String>, disk: Arc<dyn Disk>) -> Self {
        Self { name: name.into(), description: String::new(), disk, overlay: None, bitmaps: vec![] }
    }

    /// Serves `disk`, and takes writes into a sparse file without a name in `dir`, which is gone with the export. `disk`
    /// itself is never written. `bound` is the most bytes that the file and its map may take; a write beyond it fails
    /// with "no space". Blocks shortly.
    ///
    /// # Errors
    /// `Unavailable` where the file cannot be made.
    pub fn with_overlay(
        name: impl Into<String>,
        disk: Arc<dyn Disk>,
        dir: &Path,
        bound: u64,
    ) -> Result<Self> {
        let overlay = Overlay::new(Arc::clone(&disk), dir, bound)?;
        Ok(Self { overlay: Some(overlay), ..Self::read_only(name, disk) })
    }

    /// A text for people who list the exports, at most 4096 bytes.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Offers the runs of `disk` in `changes` as the meta context `qemu:dirty-bitmap:<bitmap>`, as QEMU's tools read it.
    /// What is written to an overlay is not in it.
    #[must_use]
    pub fn changed(mut self, bitmap: impl Into<String>, changes: &ChangeSet, disk: &DiskId) -> Self {
        self.bitmaps.push((format!("{DIRTY_BITMAP}{}", bitmap.into()), changes.runs(disk).to_vec()));
        self
    }

    /// The name that clients ask for.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    pub(crate) fn size(&self) -> u64 {
        self.disk.size()
    }

    pub(crate) fn overlay(&self) -> Option<&Overlay> {
        self.overlay.as_ref()
    }

    pub(crate) fn flags(&self, structured: bool) -> u16 {
        use export_flag::*;
        let writes = match self.overlay {
            None => READ_ONLY,
            Some(_) => SEND_TRIM | SEND_WRITE_ZEROES,
        };
        let df = if structured { SEND_DF } else { 0 };
        HAS_FLAGS | SEND_FLUSH | SEND_FUA | CAN_MULTI_CONN | SEND_CACHE | writes | df
    }

    /// The names of the meta contexts; their numbers are their places.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(BASE_ALLOCATION).chain(self.bitmaps.iter().map(|(name, _)| name.as_str()))
    }

    /// Where the bytes of `run` lie: in order, without gap, in parts that are read in one go.
    pub(crate) async fn parts(&self, run: Run) -> Result<Vec<Part>> {
        let mut parts = vec![];
        for extent in joined(self.layers(run).await?) {
            match extent.from {
                From::Zeros => parts.push(extent),
                from => parts.extend(extent.run.pieces(PIECE).map(|run| Part { run, from })),
            }
        }
        Ok(parts)
    }

    /// The bytes of a part that is not zeros.
    pub(crate) async fn read(&self, part: Part, pool: &Pool) -> Result<Bytes> {
        let bytes = match (part.from, &self.overlay) {
            (From::Overlay, Some(overlay)) => overlay.read(part.run, pool).await?,
            _ => self.disk.read(part.run, pool).await?,
        };
        if bytes.len() as u64 != part.run.len {
            let message = format!("a disk gave {} bytes for {}", bytes.len(), part.run.len);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(bytes)
    }

    /// Lengths and flags of one context from the start of `run`; at least one, not always all.
    pub(crate) async fn status(&self, context: u32, run: Run) -> Result<Vec<(u32, u32)>> {
        let run = Run::new(run.start, run.len.min(STATUS_SPAN));
        let mut descriptors: Vec<(u32, u32)> = match context.checked_sub(1) {
            None => {
                let flags = |from| if from == From::Zeros { STATE_HOLE | STATE_ZERO } else { 0 };
                self.layers(run).await?.iter().map(|p| (p.run.len as u32, flags(p.from))).collect()
            }
            Some(at) => dirty(&self.bitmaps[at as usize].1, run),
        };
        descriptors.dedup_by(|next, last| {
            let same = next.1 == last.1;
            if same {
                last.0 += next.0;
            }
            same
        });
        descriptors.truncate(MOST_DESCRIPTORS);
        Ok(descriptors)
    }

    async fn layers(&self, run: Run) -> Result<Vec<Part>> {
        let layers = match &self.overlay {
            None => vec![(run, Layer::Below)],
            Some(overlay) => overlay.layers(run),
        };
        let mut parts = vec![];
        for (run, layer) in layers {
            match layer {
                Layer::Stored => parts.push(Part { run, from: From::Overlay }),
                Layer::Zeroed => parts.push(Part { run, from: From::Zeros }),
                Layer::Below => parts.extend(below(run, &self.disk.extents(run).await?)),
            }
        }
        Ok(parts)
    }
}

/// A disk's extents as parts. Of a disk that breaks DSK-2, everything is read.
fn below(run: Run, extents: &[Extent]) -> Vec<Part> {
    let mut at = run.start;
    let mut parts = vec![];
    for extent in extents.iter().filter(|e| e.run.len > 0) {
        if extent.run.start != at {
            return vec![Part { run, from: From::Disk }];
        }
        at = extent.run.end();
        let from = if extent.fill == Fill::Zero { From::Zeros } else { From::Disk };
        parts.push(Part { run: extent.run, from });
    }
    if at == run.end() { parts } else { vec![Part { run, from: From::Disk }] }
}

/// Neighbours of one kind as one, and short zeros of the disk with the disk's data around them.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = vec![];
    for part in parts {
        match all.last_mut() {
            Some(last) if last.from == part.from => last.run.len += part.run.len,
            _ => all.push(part),
        }
        if let [.., before, short, after] = all.as_mut_slice()
            && (before.from, short.from, after.from) == (From::Disk, From::Zeros, From::Disk)
            && short.run.len < SHORT_HOLE
        {
            before.run.len += short.run.len + after.run.len;
            all.truncate(all.len() - 2);
        }
    }
    all
}

fn dirty(runs: &[Run], asked: Run) -> Vec<(u32, u32)> {
    let (mut at, mut descriptors) = (asked.start, vec![]);
    let first = runs.partition_point(|r| r.end() <= asked.start);
    for run in runs[first..].iter().map_while(|r| r.intersection(asked)) {
        if run.start > at {
            descriptors.push(((run.start - at) as u32, 0));
        }
        descriptors.push((run.len as u32, STATE_DIRTY));
        at = run.end();
    }
    if at < asked.end() {
        descriptors.push(((asked.end() - at) as u32, 0));
    }
    descriptors
}

/// Clients find an export by its name alone.
pub(crate) fn names_are_apart(exports: &[Export]) -> Result<()> {
    let mut names = BTreeSet::new();
    for export in exports {
        let invalid = |field, value: &str, rule: &str| {
            Err(Error::invalid(field, format!("{value:?}"), rule, "choose another one"))
        };
        if !names.insert(export.name()) {
            return invalid("export.name", export.name(), "a server has each name once");
        }
        let texts = export.contexts().chain([export.name(), export.description()]);
        if let Some(long) = texts.into_iter().find(|text| text.len() > LONGEST_TEXT) {
            return invalid("export", &long[..long.floor_char_boundary(40)], "names have at most 4096 bytes");
        }
        let contexts: BTreeSet<&str> = export.contexts().collect();
        if contexts.len() != export.contexts().count() {
            return invalid("export.changed", export.name(), "an export has each bitmap once");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_runs_and_the_clean_ones_between_cover_what_was_asked() {
        let runs = [Run::new(0, 10), Run::new(20, 10), Run::new(100, 50)];
        assert_eq!(dirty(&runs, Run::new(5, 100)), [(5, 1), (10, 0), (10, 1), (70, 0), (5, 1)]);
        assert_eq!(dirty(&runs, Run::new(40, 20)), [(20, 0)]);
        assert_eq!(dirty(&[], Run::new(0, 7)), [(7, 0)]);
    }

    #[test]
    fn short_zeros_between_data_are_read_with_it_and_long_ones_are_not() {
        let part = |start, len, from| Part { run: Run::new(start, len), from };
        let short =
            vec![part(0, 4096, From::Disk), part(4096, 4096, From::Zeros), part(8192, 4096, From::Disk)];
        assert_eq!(joined(short), [part(0, 12_288, From::Disk)]);
        let long = vec![part(0, 4096, From::Disk), part(4096, SHORT_HOLE, From::Zeros)];
        assert_eq!(joined(long.clone()), long);
    }

    #[test]
    fn a_disk_that_leaves_gaps_is_read_whole() {
        let run = Run::new(0, 100);
        let gap = [
            Extent { run: Run::new(0, 50), fill: Fill::Zero },
            Extent { run: Run::new(60, 40), fill: Fill::Zero },
        ];
        assert_eq!(below(run, &gap), [Part { run, from: From::Disk }]);
    }
}
