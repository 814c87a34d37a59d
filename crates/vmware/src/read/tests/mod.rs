//! Disks that are read by each way, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lease;
#[path = "../../../../vim/tests/simulator/process.rs"]
mod process;
#[path = "../../../../https/tests/support/fake.rs"]
mod server;
mod simulator;
mod stream;
pub(super) mod streams;
mod vddk;

use site_recovery::{Disk, Fill, Pool, Run};

/// All of a disk: what its extents call data is read, the rest is zeros.
async fn whole(disk: &dyn Disk) -> Vec<u8> {
    let pool = Pool::new(8 << 20);
    let size = disk.size();
    let mut bytes = vec![0; size as usize];
    let mut at = 0;
    for extent in disk.extents(Run::new(0, size)).await.unwrap() {
        assert_eq!(extent.run.start, at, "extents follow each other");
        at = extent.run.end();
        if extent.fill == Fill::Zero {
            continue;
        }
        for piece in extent.run.pieces(1 << 20) {
            let read = disk.read(piece, &pool).await.unwrap();
            bytes[piece.start as usize..piece.end() as usize].copy_from_slice(&read);
        }
    }
    assert_eq!(at, size);
    bytes
}
