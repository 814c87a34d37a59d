//! Bytes of disks, as files that other programs read.

use crate::failed;
use site_recovery::{Disk, Fill, Pool, Result, Run};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Copies an opened disk into a sparse raw file.
///
/// # Errors
/// Those of the disk and of the file system.
pub async fn copy_out(disk: &Arc<dyn Disk>, to: &Path) -> Result<()> {
    let (file, pool) = (File::create(to).map_err(|e| failed("make", to, e))?, Pool::new(4 << 20));
    file.set_len(disk.size()).map_err(|e| failed("size", to, e))?;
    for window in Run::new(0, disk.size()).pieces(1 << 30) {
        for extent in disk.extents(window).await?.iter().filter(|e| e.fill == Fill::Data) {
            for piece in extent.run.pieces(1 << 20) {
                let bytes = disk.read(piece, &pool).await?;
                file.write_all_at(&bytes, piece.start).map_err(|e| failed("write", to, e))?;
            }
        }
    }
    Ok(())
}
