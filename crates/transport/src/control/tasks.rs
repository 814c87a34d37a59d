//! What HTTP/2 wants to have run, run in the task of its connection: it ends with the connection, and in that order.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

type Task = BoxFuture<'static, ()>;

/// Takes tasks on.
#[derive(Debug, Clone)]
pub(super) struct Tasks(mpsc::UnboundedSender<Task>);

impl Tasks {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Task>) {
        let (tasks, to_run) = mpsc::unbounded_channel();
        (Self(tasks), to_run)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let _ = self.0.send(Box::pin(task));
    }
}

/// Runs them beside each other. Never ends as long as somebody may bring more.
pub(super) async fn run(mut to_run: mpsc::UnboundedReceiver<Task>) {
    let (mut running, mut open) = (FuturesUnordered::new(), true);
    loop {
        tokio::select! {
            biased;
            task = to_run.recv(), if open => match task {
                Some(task) => running.push(task),
                None => open = false,
            },
            Some(()) = running.next(), if !running.is_empty() => {}
            else => return,
        }
    }
}
