//! Reads that are asked for at the same time and lie near each other are made as one: over HTTPS each request is a way there and
//! back, and what lies between them costs less.

use site_recovery::{Block, Result, Run, Spawner, TokioSpawner};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What lies between two runs is read through up to here.
pub(crate) const GAP: u64 = 256 << 10;
/// One request brings so much at most, unless a single run is longer.
const MOST: u64 = 4 << 20;
/// Requests at once.
const AT_ONCE: usize = 4;

/// Where bytes come from, by ranges.
#[async_trait::async_trait]
pub(crate) trait Ranges: Send + Sync + 'static {
    async fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()>;
}

/// Somebody who waits for a run, with the memory for it.
struct Waiting {
    run: Run,
    block: Block,
    done: oneshot::Sender<Result<Block>>,
}

/// Reads of one file, merged.
pub(crate) struct Merged<R> {
    ranges: Arc<R>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether somebody works on it.
    driven: bool,
}

impl<R: Ranges> Merged<R> {
    pub(crate) fn new(ranges: R) -> Self {
        Self { ranges: Arc::new(ranges), queue: Arc::default() }
    }

    /// Fills the block with the run, which is as long.
    ///
    /// # Cancel safety
    /// Dropped, the bytes are read all the same where that was begun, and given up.
    pub(crate) async fn read(&self, run: Run, block: Block) -> Result<Block> {
        let (done, waits) = oneshot::channel();
        let idle = {
            let mut queue = locked(&self.queue);
            queue.waiting.push(Waiting { run, block, done });
            !std::mem::replace(&mut queue.driven, true)
        };
        if idle {
            let driven = drive(Arc::clone(&self.ranges), Arc::clone(&self.queue));
            TokioSpawner::current()?.spawn(Box::pin(driven));
        }
        waits.await.unwrap_or_else(|_| {
            let message = "the runtime is shutting down";
            Err(site_recovery::Error::new(site_recovery::ErrorKind::Cancelled, message))
        })
    }
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until nobody waits.
async fn drive<R: Ranges>(ranges: Arc<R>, queue: Arc<Mutex<Queue>>) {
    let mut requests = tokio::task::JoinSet::new();
    loop {
        // Whoever is about to ask does so now.
        tokio::task::yield_now().await;
        let waiting = {
            let mut queue = locked(&queue);
            if queue.waiting.is_empty() && requests.is_empty() {
                queue.driven = false;
                return;
            }
            std::mem::take(&mut queue.waiting)
        };
        for group in groups(waiting) {
            if requests.len() >= AT_ONCE {
                requests.join_next().await;
            }
            let ranges = Arc::clone(&ranges);
            requests.spawn(async move { fetch(&*ranges, group).await });
        }
        requests.join_next().await;
    }
}

/// Those that are read by one request each, in order.
fn groups(mut waiting: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    waiting.retain(|one| !one.done.is_closed());
    waiting.sort_by_key(|one| one.run.start);
    let mut groups: Vec<Vec<Waiting>> = vec![];
    for one in waiting {
        match groups.last_mut() {
            Some(group) if fits(group, one.run) => group.push(one),
            _ => groups.push(vec![one]),
        }
    }
    groups
}

fn fits(group: &[Waiting], next: Run) -> bool {
    let end = group.iter().map(|one| one.run.end()).max().unwrap_or_default();
    let whole = next.end().max(end) - group[0].run.start;
    next.start <= end.saturating_add(GAP) && whole <= MOST
}

async fn fetch(ranges: &impl Ranges, group: Vec<Waiting>) {
    if group.len() == 1 {
        for mut one in group {
            let read = ranges.read(one.run.start, &mut one.block).await;
            let _ = one.done.send(read.map(|()| one.block));
        }
        return;
    }
    let start = group[0].run.start;
    let end = group.iter().map(|one| one.run.end()).max().unwrap_or(start);
    let mut bytes = vec![0; (end - start) as usize];
    let read = ranges.read(start, &mut bytes).await;
    for mut one in group {
        let told = match &read {
            Ok(()) => {
                let from = (one.run.start - start) as usize;
                one.block.copy_from_slice(&bytes[from..from + one.run.len as usize]);
                Ok(one.block)
            }
            Err(error) => Err(again(error)),
        };
        let _ = one.done.send(told);
    }
}

/// The same error, for each who waits for the request.
fn again(error: &site_recovery::Error) -> site_recovery::Error {
    let mut same = site_recovery::Error::new(error.kind(), error.message());
    for (name, value) in error.facts() {
        same = same.with(name.to_owned(), value);
    }
    same
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use site_recovery::{Error, ErrorKind, Pool};

    /// A byte says where it stands.
    fn byte(at: u64) -> u8 {
        (at / 4096 * 31 + at % 251) as u8
    }

    #[derive(Default)]
    struct Counted {
        requests: Mutex<Vec<Run>>,
        broken: bool,
    }

    #[async_trait::async_trait]
    impl Ranges for Arc<Counted> {
        async fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
            self.requests.lock().unwrap().push(Run::new(start, buffer.len() as u64));
            if self.broken {
                return Err(Error::new(ErrorKind::Unavailable, "broken").with("fault", "x"));
            }
            (start..).zip(buffer).for_each(|(at, b)| *b = byte(at));
            Ok(())
        }
    }

    async fn read_at_once(counted: &Arc<Counted>, runs: &[Run]) -> Vec<Result<Block>> {
        let (merged, pool) = (Merged::new(Arc::clone(counted)), Pool::new(64 << 20));
        let reads = runs.iter().map(|run| {
            let (merged, pool) = (&merged, &pool);
            async move { merged.read(*run, pool.take(run.len as usize).await.unwrap()).await }
        });
        futures_util::future::join_all(reads).await
    }

    async fn each_gets_its_own(runs: &[Run]) -> Vec<Run> {
        let counted = Arc::new(Counted::default());
        for (run, block) in runs.iter().zip(read_at_once(&counted, runs).await) {
            let block = block.unwrap();
            assert_eq!(block.len() as u64, run.len);
            assert!(block.iter().zip(run.start..).all(|(b, at)| *b == byte(at)), "{run:?}");
        }
        let mut requests = counted.requests.lock().unwrap().clone();
        requests.sort_by_key(|run| run.start);
        requests
    }

    #[tokio::test]
    async fn runs_that_lie_near_are_one_request_and_others_are_not() {
        let near = [Run::new(0, 4096), Run::new(4096 + GAP, 4096), Run::new(GAP + 8192, 100)];
        assert_eq!(each_gets_its_own(&near).await, [Run::new(0, GAP + 8292)]);
        let far = [Run::new(0, 4096), Run::new(4097 + GAP, 4096)];
        assert_eq!(each_gets_its_own(&far).await, far);
        let mixed =
            [Run::new(10 << 20, 4096), Run::new(0, 8), Run::new((10 << 20) + 65_536, 1), Run::new(4, 8)];
        let wanted = [Run::new(0, 12), Run::new(10 << 20, 65_537)];
        assert_eq!(each_gets_its_own(&mixed).await, wanted);
    }

    #[tokio::test]
    async fn a_request_has_a_bound_but_for_a_run_that_is_longer() {
        let runs: Vec<Run> = (0..64).map(|n| Run::new(n * (256 << 10), 256 << 10)).collect();
        let requests = each_gets_its_own(&runs).await;
        assert_eq!(requests.len(), 4);
        assert!(requests.iter().all(|run| run.len == MOST), "{requests:?}");
        let long = [Run::new(0, 6 << 20)];
        assert_eq!(each_gets_its_own(&long).await, long);
    }

    #[tokio::test]
    async fn a_request_that_fails_fails_for_each_who_waits_for_it() {
        let counted = Arc::new(Counted { broken: true, ..Counted::default() });
        let told = read_at_once(&counted, &[Run::new(0, 10), Run::new(20, 10), Run::new(1 << 30, 10)]).await;
        for one in told {
            let error = one.unwrap_err();
            assert_eq!((error.kind(), error.fact("fault")), (ErrorKind::Unavailable, Some("x")));
        }
        assert_eq!(counted.requests.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn whoever_gives_up_is_not_read_for() {
        let counted = Arc::new(Counted::default());
        let (merged, pool) = (Merged::new(Arc::clone(&counted)), Pool::new(1 << 20));
        let block = pool.take(10).await.unwrap();
        drop(
            futures_util::future::select(
                Box::pin(merged.read(Run::new(0, 10), block)),
                std::future::ready(()),
            )
            .await,
        );
        let block = pool.take(10).await.unwrap();
        merged.read(Run::new(1 << 30, 10), block).await.unwrap();
        assert_eq!(*counted.requests.lock().unwrap(), [Run::new(1 << 30, 10)]);
    }
}
