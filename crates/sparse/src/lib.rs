//! Disks that are files or block devices of this host: where their data lies, and runs that are made zero. For adapters; all calls
//! block.
#![forbid(unsafe_code)]

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use site_recovery::{Extent, Fill, Run};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// How many bytes of zeros are written at a time where they have to be.
const PIECE: u64 = 4 << 20;

/// The extents of `range`, cut to `size`. What nobody can tell, as of any block device, is data.
///
/// # Errors
/// Those of the file system.
pub fn extents(file: &File, range: Run, size: u64) -> std::io::Result<Vec<Extent>> {
    let end = range.start.saturating_add(range.len).min(size);
    let (mut at, mut all) = (range.start, vec![]);
    let mut add = |start: u64, end: u64, fill: Fill| {
        if end > start {
            all.push(Extent { run: Run::new(start, end - start), fill });
        }
    };
    if !file.metadata()?.is_file() {
        add(at, end, Fill::Data);
        return Ok(all);
    }
    while at < end {
        let data = next_data(file, at)?.unwrap_or(end).min(end);
        add(at, data, Fill::Zero);
        if data == end {
            break;
        }
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(end),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => end,
            Err(e) => return Err(e.into()),
        };
        add(data, hole, Fill::Data);
        at = hole;
    }
    Ok(all)
}

/// Where there may be data next, from `from` on; `None` where there is none.
///
/// # Errors
/// Those of the file system.
pub fn next_data(file: &File, from: u64) -> std::io::Result<Option<u64>> {
    if !file.metadata()?.is_file() {
        return Ok(Some(from));
    }
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(e) => Err(e.into()),
    }
}

/// Bytes of a file or of a block device.
///
/// # Errors
/// Those of the file system.
pub fn size_of(file: &File) -> std::io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}

/// Makes a run read as zeros, and gives the space back where that is known to leave zeros.
///
/// # Errors
/// Those of the file system.
pub fn zero(file: &File, run: Run) -> std::io::Result<()> {
    if run.len == 0 {
        return Ok(());
    }
    for how in [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE] {
        match rustix::fs::fallocate(file, how | FallocateFlags::KEEP_SIZE, run.start, run.len) {
            Ok(()) => return Ok(()),
            // Of a device, also for runs that are no whole sectors.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let zeros = vec![0; PIECE.min(run.len) as usize];
    run.pieces(PIECE).try_for_each(|p| file.write_all_at(&zeros[..p.len as usize], p.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Holes, then a MiB of data from the second one on, and holes.
    fn sparse() -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4 * MIB).expect("sized");
        file.write_all_at(&vec![7; MIB as usize], MIB).expect("written");
        file
    }

    fn of(file: &File, range: Run) -> Vec<(u64, u64, Fill)> {
        let all = extents(file, range, 4 * MIB).expect("mapped");
        all.iter().map(|extent| (extent.run.start, extent.run.len, extent.fill)).collect()
    }

    #[test]
    fn holes_are_zero_and_all_else_is_data_and_nothing_is_left_out() {
        let file = sparse();
        let whole = [(0, MIB, Fill::Zero), (MIB, MIB, Fill::Data), (2 * MIB, 2 * MIB, Fill::Zero)];
        assert_eq!(of(&file, Run::new(0, u64::MAX)), whole);
        assert_eq!(of(&file, Run::new(MIB + 4096, 4096)), [(MIB + 4096, 4096, Fill::Data)]);
        assert_eq!(of(&file, Run::new(4 * MIB, MIB)), []);
        let next = |from| next_data(&file, from).expect("looked for");
        assert_eq!((next(0), next(MIB + 1), next(2 * MIB)), (Some(MIB), Some(MIB + 1), None));
        assert_eq!(size_of(&file).expect("told"), 4 * MIB);
    }

    #[test]
    fn a_run_that_is_made_zero_reads_as_zeros_and_nothing_beside_it_does() {
        let file = sparse();
        zero(&file, Run::new(MIB + 1, MIB - 2)).expect("made zero");
        let mut bytes = vec![1; MIB as usize];
        file.read_exact_at(&mut bytes, MIB).expect("read");
        assert_eq!((bytes[0], bytes[MIB as usize - 1]), (7, 7));
        assert!(bytes[1..MIB as usize - 1].iter().all(|b| *b == 0));
        zero(&file, Run::new(0, 0)).expect("nothing");
        assert_eq!(size_of(&file).expect("told"), 4 * MIB, "it keeps its size");
    }
}
