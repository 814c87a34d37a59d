//! The rules of everything that has bytes: run on captures, on opened points and on landing disks alike.

use super::case::{must, must_be};
use super::content::{pattern, pool, read, same_bytes};
use bytes::Bytes;
use site_recovery::{Disk, DiskMut, ErrorKind, Fill, Pool, Run};
use std::sync::Arc;

const PAGE: u64 = 4096;

/// DSK-1.
pub(super) async fn size_never_changes(disk: &Arc<dyn Disk>, expected: u64) {
    let before = disk.size();
    must("DSK-1", "read", read(disk).await);
    assert_eq!((before, disk.size()), (expected, expected), "DSK-1: size, before and after a read");
}

/// DSK-2: the whole disk, a part, and a range that passes the end.
pub(super) async fn extents_cover_the_range(disk: &Arc<dyn Disk>) {
    let size = disk.size();
    for asked in [Run::new(0, size), Run::new(PAGE, 3 * PAGE), Run::new(size - 512, 4 * PAGE)] {
        let extents = must("DSK-2", "extents", disk.extents(asked).await);
        let mut at = asked.start;
        for extent in &extents {
            assert_eq!(extent.run.start, at, "DSK-2: gap or overlap in {extents:?} of {asked:?}");
            assert!(extent.run.len > 0, "DSK-2: an empty extent in {extents:?}");
            at = extent.run.end();
        }
        assert_eq!(at, asked.end().min(size), "DSK-2: {extents:?} do not end where {asked:?} does");
    }
}

/// DSK-3.
pub(super) async fn zero_extents_read_as_zeros(disk: &Arc<dyn Disk>, truth: &[u8]) {
    let extents = must("DSK-3", "extents", disk.extents(Run::new(0, disk.size())).await);
    for extent in extents.iter().filter(|e| e.fill == Fill::Zero) {
        let bytes = &truth[extent.run.start as usize..extent.run.end() as usize];
        assert!(bytes.iter().all(|b| *b == 0), "DSK-3: {:?} is told as Zero and holds data", extent.run);
        let read = must("DSK-3", "read", disk.read(extent.run, &pool()).await);
        assert!(read.iter().all(|b| *b == 0), "DSK-3: {:?} is told as Zero and reads as data", extent.run);
    }
}

/// DSK-4: exactly what was asked for, in memory of the pool.
pub(super) async fn reads_are_exact_and_pooled(disk: &Arc<dyn Disk>, truth: &[u8]) {
    let size = disk.size();
    for run in [Run::new(0, PAGE), Run::new(PAGE, 5 * PAGE), Run::new(size - 512, 512)] {
        let bytes = must("DSK-4", "read", disk.read(run, &pool()).await);
        same_bytes("DSK-4", &format!("{run:?}"), &bytes, &truth[run.start as usize..run.end() as usize]);
    }
    for past in [Run::new(size - PAGE, 2 * PAGE), Run::new(size + PAGE, PAGE)] {
        must_be(
            "DSK-4",
            &format!("{past:?} of {size} bytes"),
            ErrorKind::Invalid,
            disk.read(past, &pool()).await,
        );
    }
    let pool = Pool::new(PAGE as usize);
    let held = must("DSK-4", "read", disk.read(Run::new(0, PAGE), &pool).await);
    let mut next = Box::pin(pool.take(PAGE as usize));
    let waits = futures_util::poll!(next.as_mut()).is_pending();
    assert!(waits, "DSK-4: bytes were read in memory that is not of the pool");
    drop(held);
    must("DSK-4", "the pool's memory comes back", next.await);
}

/// DSM-1: by this handle, and by the next one.
pub(super) async fn written_is_read_back(disk: &Arc<dyn DiskMut>, again: &Arc<dyn DiskMut>) {
    let bytes = pattern(11, 2 * PAGE as usize);
    must("DSM-1", "write", disk.write(PAGE, Bytes::from(bytes.clone())).await);
    for (which, handle) in [("this handle", disk), ("the next handle", again)] {
        let read = must("DSM-1", "read", handle.read(Run::new(PAGE, 2 * PAGE), &pool()).await);
        same_bytes("DSM-1", which, &read, &bytes);
    }
}

/// DSM-2: all of it, and nothing beside it.
pub(super) async fn zeroed_reads_as_zeros(disk: &Arc<dyn DiskMut>) {
    let bytes = pattern(12, 4 * PAGE as usize);
    must("DSM-2", "write", disk.write(0, Bytes::from(bytes.clone())).await);
    must("DSM-2", "zero", disk.zero(Run::new(PAGE, 2 * PAGE)).await);
    let read = must("DSM-2", "read", disk.read(Run::new(0, 4 * PAGE), &pool()).await);
    let page = PAGE as usize;
    same_bytes("DSM-2", "zeroed", &read[page..3 * page], &vec![0; 2 * page]);
    same_bytes("DSM-2", "below", &read[..page], &bytes[..page]);
    same_bytes("DSM-2", "above", &read[3 * page..], &bytes[3 * page..]);
}

/// The cases DSK-1 to DSK-4 of a suite; `$disk` makes a world, a disk in it, and the bytes that it holds.
macro_rules! disk_cases {
    ($fixture:ident, $disk:ident) => {
        /// DSK-1: the size of a handle never changes.
        pub async fn dsk_1_size_never_changes<F: $fixture>() {
            let (_world, disk, truth) = $disk::<F>("DSK-1").await;
            $crate::suite::disk::size_never_changes(&disk, truth.len() as u64).await;
        }
        /// DSK-2: extents cover the asked range without gap or overlap, in order, cut to the disk.
        pub async fn dsk_2_extents_cover_the_range<F: $fixture>() {
            let (_world, disk, _) = $disk::<F>("DSK-2").await;
            $crate::suite::disk::extents_cover_the_range(&disk).await;
        }
        /// DSK-3: what is told as zero is zero.
        pub async fn dsk_3_zero_extents_read_as_zeros<F: $fixture>() {
            let (_world, disk, truth) = $disk::<F>("DSK-3").await;
            $crate::suite::disk::zero_extents_read_as_zeros(&disk, &truth).await;
        }
        /// DSK-4: reads are exact, in memory of the pool, and refused past the end.
        pub async fn dsk_4_reads_are_exact_and_pooled<F: $fixture>() {
            let (_world, disk, truth) = $disk::<F>("DSK-4").await;
            $crate::suite::disk::reads_are_exact_and_pooled(&disk, &truth).await;
        }
    };
}
pub(super) use disk_cases;
