//! What the service says of an image, as extents of a disk.

use site_recovery::{Extent, Fill, Run};

/// A range as data where the service has pages, and zeros in between.
pub(crate) fn extents(data: Vec<Run>, range: Run) -> Vec<Extent> {
    let (mut extents, mut at) = (vec![], range.start);
    let mut add = |start: u64, end: u64, fill: Fill| {
        if start < end {
            extents.push(Extent { run: Run::new(start, end - start), fill });
        }
    };
    for run in data.into_iter().filter_map(|run| run.intersection(range)) {
        add(at, run.start, Fill::Zero);
        add(run.start.max(at), run.end(), Fill::Data);
        at = at.max(run.end());
    }
    add(at, range.end(), Fill::Zero);
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_cover_the_range_without_gap() {
        let told = extents(vec![Run::new(0, 512), Run::new(1024, 4096)], Run::new(256, 4000));
        let runs: Vec<_> = told.iter().map(|e| (e.run.start, e.run.len, e.fill)).collect();
        let expected = [(256, 256, Fill::Data), (512, 512, Fill::Zero), (1024, 3232, Fill::Data)];
        assert_eq!(runs, expected);
        assert_eq!(extents(vec![], Run::new(0, 8))[0].fill, Fill::Zero);
    }
}
