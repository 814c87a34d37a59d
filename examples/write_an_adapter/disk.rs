//! A disk of a capture: an image that nobody writes to any more.

use crate::host::{Image, blocking, failed};
use async_trait::async_trait;
use bytes::Bytes;
use imago::Mapping;
use site_recovery::{Disk, Error, Extent, Fill, Pool, Result, Run};
use std::sync::Arc;

/// It stays open, and so reads the same also when the capture is gone.
#[derive(Debug)]
pub(crate) struct Captured(Arc<Image>);

impl Captured {
    pub(crate) fn new(image: Image) -> Self {
        Self(Arc::new(image))
    }
}

#[async_trait]
impl Disk for Captured {
    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let (image, mut at, end) = (self.0.clone(), range.start, range.end().min(self.size()));
        blocking(move || {
            let mut extents = vec![];
            while at < end {
                let (mapping, len) = image.get_mapping(at, end - at).map_err(failed)?;
                let fill = if matches!(mapping, Mapping::Zero { .. }) { Fill::Zero } else { Fill::Data };
                extents.push(Extent { run: Run::new(at, len), fill });
                at += len;
            }
            Ok(extents)
        })
        .await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.end() > self.size() {
            let rule = format!("the disk has {} bytes", self.size());
            return Err(Error::invalid("run", format!("{run:?}"), &rule, "read less"));
        }
        let (image, mut memory) = (self.0.clone(), pool.take(run.len as usize).await?);
        blocking(move || {
            image.read(&mut memory[..], run.start).map_err(failed)?;
            Ok(memory.freeze())
        })
        .await
    }
}
