//! The one client of all NBD servers: ours reads ours and the peer's.

use crate::Outcome;
use crate::images::{BLOCK, Dice};
use site_recovery::{Disk, Pool, Run};
use site_recovery_nbd::{Address, RemoteDisk};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const DEPTH: u64 = 16;
pub(crate) const LONGEST_START: Duration = Duration::from_secs(60);

/// What a server did for a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    /// From the start of its process.
    pub(crate) first_4k_ms: f64,
    /// Of random reads of 64 KiB, 16 at a time.
    pub(crate) mb_a_second: f64,
}

/// Waits for the server at a socket, reads the first 4 KiB, and then so many bytes at random.
pub(crate) fn read(socket: &Path, started: Instant, bytes: u64) -> Outcome<Served> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (disk, pool) = connect(socket, None, started).await?;
        disk.read(Run::new(0, 4096), &pool).await?;
        let first_4k_ms = started.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        let mut readers = JoinSet::new();
        for number in 0..DEPTH {
            let (disk, pool, mut dice) = (Arc::clone(&disk), pool.clone(), Dice(7 + number));
            readers.spawn(async move {
                for _ in 0..bytes / BLOCK / DEPTH {
                    let start = dice.below(disk.size() / BLOCK) * BLOCK;
                    disk.read(Run::new(start, BLOCK), &pool).await?;
                }
                Ok::<_, site_recovery::Error>(())
            });
        }
        while let Some(done) = readers.join_next().await {
            done??;
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Served { first_4k_ms, mb_a_second: bytes as f64 / 1e6 / seconds })
    })
}

/// Connects as soon as the server listens: there is nothing to wait on but to try again.
pub(crate) async fn connect(
    socket: &Path,
    bitmap: Option<&str>,
    started: Instant,
) -> Outcome<(Arc<RemoteDisk>, Pool)> {
    loop {
        let mut builder = RemoteDisk::builder(Address::Unix(socket.to_owned()), "");
        if let Some(bitmap) = bitmap {
            builder = builder.bitmap(bitmap);
        }
        match builder.connect().await {
            Ok(disk) => return Ok((Arc::new(disk), Pool::new(4 << 20))),
            Err(error) if started.elapsed() > LONGEST_START => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_micros(200)).await,
        }
    }
}
