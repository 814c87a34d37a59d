use crate::error::Fault;
use crate::store::Store;
use site_recovery::{Error, ErrorKind, Result};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// So many calls share one commit at most.
const GROUP: usize = 256;

/// The thread that owns the database.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Does one call inside the open transaction, where there is one, and returns what tells its caller once that
/// transaction has ended, or was lost.
type Job = Box<dyn FnOnce(Option<&mut Store>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Option<&Error>) + Send>;

impl Writer {
    pub(crate) async fn start(
        open: impl FnOnce() -> std::result::Result<Store, Fault> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, queue) = channel();
        let (tell, opened) = oneshot::channel();
        let run = move || match open() {
            Ok(store) => {
                // Whoever no longer waits for the opening has dropped `jobs` too, and the thread ends.
                let _ = tell.send(Ok(()));
                serve(store, &queue);
            }
            Err(fault) => drop(tell.send(Err(fault))),
        };
        let thread =
            std::thread::Builder::new().name("journal".into()).spawn(run).map_err(Fault::NoThread)?;
        let writer = Self { jobs: Some(jobs), thread: Some(thread) };
        opened.await.map_err(|_| Fault::Ended)??;
        Ok(writer)
    }

    /// Has one call done. It is durable when the answer is there.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Store) -> std::result::Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (tell, answer) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let done = store.map(call);
            Box::new(move |lost| {
                let answer = match (lost, done) {
                    (Some(error), _) => Err(again(error)),
                    (None, Some(done)) => done.map_err(Error::from),
                    (None, None) => Err(Fault::Ended.into()),
                };
                // A caller that was dropped does not wait for its answer.
                let _ = tell.send(answer);
            })
        });
        let jobs = self.jobs.as_ref().ok_or(Fault::Ended)?;
        jobs.send(job).map_err(|_| Fault::Ended)?;
        answer.await.map_err(|_| Fault::Ended)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has told its callers by not answering.
            let _ = thread.join();
        }
    }
}

/// Takes whatever waits, up to a group, does it in one transaction, and answers after the commit.
fn serve(mut store: Store, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(GROUP - 1)).collect();
        let begun = store.begin();
        let run = |job: Job| job(Some(&mut store).filter(|store| store.in_transaction()));
        let replies: Vec<Reply> = group.into_iter().map(run).collect();
        let lost = begun.and_then(|()| store.commit()).err().map(Error::from);
        for reply in replies {
            reply(lost.as_ref());
        }
    }
}

/// The same error, for one more caller of the group.
fn again(error: &Error) -> Error {
    let status = if error.is_temporary() {
        site_recovery::ErrorStatus::Temporary
    } else {
        site_recovery::ErrorStatus::Permanent
    };
    let kind: ErrorKind = error.kind();
    Error::new(kind, error.message()).status(status)
}
