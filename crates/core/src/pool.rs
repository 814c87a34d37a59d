//! Memory on the way: a fixed number of bytes, lent out and waited for.

use bytes::Bytes;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const PAGE: usize = 4096;

/// The bound of memory in flight, and the memory.
///
/// Whoever reads a disk takes a [`Block`] and waits while the pool is empty; the block comes back when the last
/// [`Bytes`] made of it is dropped. Blocks start at a multiple of 4 KiB in memory, as O_DIRECT wants.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    pages: usize,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A pool of `bytes`, at least one page.
    pub fn new(bytes: usize) -> Self {
        let pages = (bytes / PAGE).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self(Arc::new(Shared { pages, free: Arc::new(Semaphore::new(pages)), idle: Mutex::default() }))
    }

    /// The most that one block can be.
    pub fn size(&self) -> usize {
        self.0.pages * PAGE
    }

    /// A block of `len` zero or stale bytes, at most the pool's size. Waits until there is room.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when `len` is more than the whole pool.
    pub async fn take(&self, len: usize) -> crate::Result<Block> {
        let pages = len.div_ceil(PAGE).max(1);
        if pages > self.0.pages {
            let rule = format!("the pool has {} bytes", self.size());
            return Err(crate::Error::invalid(
                "len",
                len,
                &rule,
                "read a shorter run or make the pool larger",
            ));
        }
        let permit = Arc::clone(&self.0.free).acquire_many_owned(pages as u32).await;
        let permit = permit
            .map_err(|e| crate::Error::new(crate::ErrorKind::Cancelled, "the pool is closed").caused_by(e))?;
        let idle = self.0.idle.lock().expect("no panic under this lock").pop();
        // Fresh memory comes as zeros from the system; grown memory would be copied and written over.
        let memory = idle.filter(|m| m.len() >= len + PAGE).unwrap_or_else(|| vec![0; pages * PAGE + PAGE]);
        let skip = memory.as_ptr().align_offset(PAGE);
        let skip = if skip <= PAGE { skip } else { 0 };
        Ok(Block { memory, skip, len, pool: self.clone(), _permit: permit })
    }
}

/// Memory of a [`Pool`].
pub struct Block {
    memory: Vec<u8>,
    skip: usize,
    len: usize,
    pool: Pool,
    _permit: OwnedSemaphorePermit,
}

impl Block {
    /// The block as shared bytes; the memory goes back when the last of them is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

// By hand: the memory holds guests' bytes, which belong in no log.
impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} bytes, {} free)", self.size(), self.0.free.available_permits() * PAGE)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.skip..self.skip + self.len]
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.skip..self.skip + self.len]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if let Ok(mut idle) = self.pool.0.idle.lock() {
            let held: usize = idle.iter().map(Vec::len).sum();
            if held + memory.len() <= self.pool.size() + PAGE {
                idle.push(memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_pool_is_a_bound_and_its_blocks_are_aligned() {
        let pool = Pool::new(8 * PAGE);
        let one = pool.take(8 * PAGE - 10).await.expect("fits");
        assert_eq!(one.as_ptr() as usize % PAGE, 0);
        assert!(pool.take(1).now_or_never().is_none(), "the pool is empty");
        drop(one.freeze());
        assert_eq!(pool.take(1).await.expect("fits").len(), 1);
        assert!(pool.take(9 * PAGE).await.is_err());
    }
}
