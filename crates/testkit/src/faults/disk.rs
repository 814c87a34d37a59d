use super::Faults;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskMut, Extent, Pool, Result, Run};
use std::sync::Arc;

/// A disk of a faulty role.
#[derive(Debug)]
pub(super) struct FaultyDisk<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) faults: Faults,
    /// `<role>.disk`.
    pub(super) name: String,
}

impl<T: ?Sized> FaultyDisk<T> {
    async fn call<R>(&self, method: &str, call: impl Future<Output = Result<R>> + Send) -> Result<R> {
        self.faults.around(format!("{}.{method}", self.name), call).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Disk + ?Sized> Disk for FaultyDisk<T> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.call("extents", self.inner.extents(range)).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.call("read", self.inner.read(run, pool)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: DiskMut + ?Sized> DiskMut for FaultyDisk<T> {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.call("write", self.inner.write(start, data)).await
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.call("zero", self.inner.zero(run)).await
    }

    async fn flush(&self) -> Result<()> {
        self.call("flush", self.inner.flush()).await
    }
}
