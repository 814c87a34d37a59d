//! Where the data of a disk lies: told by the file system for files, not known of devices.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use site_recovery::{Extent, Fill, Run};
use std::fs::File;

/// The extents of `range`, cut to `size`. What nobody can tell is data.
pub(crate) fn extents(file: &File, range: Run, size: u64) -> std::io::Result<Vec<Extent>> {
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
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e.into()),
        };
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
pub(crate) fn next_data(file: &File, from: u64) -> std::io::Result<Option<u64>> {
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
pub(crate) fn size_of(file: &File) -> std::io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}
