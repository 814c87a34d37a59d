//! A TCP proxy, where a network must be slow, torn or silent for one pair alone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes that are read at once, and how many of these are on their way at most: a delay does not limit what goes through.
const PIECE: usize = 16 << 10;
const PIECES: usize = 1024;
/// No cut is to come.
const NEVER: u64 = u64::MAX;

/// A way from its own address to another. It runs on a thread of its own, and ends, with its connections, when dropped.
pub struct Line {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    told: watch::Sender<Told>,
    /// Bytes that still go through before a cut.
    left: AtomicU64,
    passed: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Told {
    delay: Duration,
    paused: bool,
    cuts: u64,
    over: bool,
}

impl Line {
    /// From an address of this machine, where port 0 is any free one, to another, which need not listen yet.
    pub fn open(from: SocketAddr, to: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(from).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (told, left, passed) = (watch::Sender::new(Told::default()), NEVER.into(), 0.into());
        let state = Arc::new(State { told, left, passed });
        let serving = state.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(serve(listener, to, serving)));
        Self { address, state, thread: Some(thread) }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of both ways that were let through so far.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// Every byte takes so long, each way.
    pub fn delay(&self, delay: Duration) {
        self.state.told.send_modify(|told| told.delay = delay);
    }

    /// Nothing goes through, but what the system took already, and nothing is reset; connections are still taken.
    pub fn pause(&self) {
        self.state.told.send_modify(|told| told.paused = true);
    }

    /// Ends a pause; nothing was lost.
    pub fn resume(&self) {
        self.state.told.send_modify(|told| told.paused = false);
    }

    /// Resets all connections. New ones go through.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// [`cut`](Self::cut) after so many more bytes, those of both ways and all connections together. The last of them may be
    /// lost on the way, as always with a reset.
    pub fn cut_after(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.state.told.send_modify(|told| told.over = true);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the line broke");
    }
}

impl State {
    fn cut(&self) {
        self.left.store(NEVER, Ordering::SeqCst);
        self.told.send_modify(|told| told.cuts += 1);
    }

    /// How many of these bytes go through before the cut.
    fn take(&self, bytes: usize) -> usize {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            Some(if left == NEVER { NEVER } else { left.saturating_sub(bytes as u64) })
        });
        let through = usize::try_from(before.unwrap()).unwrap_or(usize::MAX).min(bytes);
        self.passed.fetch_add(through as u64, Ordering::SeqCst);
        through
    }

    async fn flows(&self) {
        let mut told = self.told.subscribe();
        told.wait_for(|told| !told.paused).await.expect("the state outlives who waits");
    }
}

async fn serve(listener: std::net::TcpListener, to: SocketAddr, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut told = state.told.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted.unwrap();
                connections.spawn(connection(near, to, state.clone()));
            }
            Some(ended) = connections.join_next() => ended.unwrap(),
            _ = told.wait_for(|told| told.over) => break,
        }
    }
    // Each resets its ends.
    connections.join_all().await;
}

async fn connection(mut near: TcpStream, to: SocketAddr, state: Arc<State>) {
    let mut told = state.told.subscribe();
    let cuts = told.borrow().cuts;
    let mut far = None;
    let whole = async {
        state.flows().await;
        let far = far.insert(TcpStream::connect(to).await?);
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        tokio::try_join!(pass(near_read, far_write, &state), pass(far_read, near_write, &state))
    };
    let whole = tokio::select! {
        whole = whole => whole.is_ok(),
        _ = told.wait_for(|told| told.cuts != cuts || told.over) => false,
    };
    if !whole {
        // Closed so, it is reset.
        for end in [Some(&near), far.as_ref()].into_iter().flatten() {
            let _closed_already = end.set_zero_linger();
        }
    }
}

/// Passes on what comes, and at last that no more comes.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, state: &State) -> io::Result<()> {
    let (on_their_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        loop {
            state.flows().await;
            let mut piece = vec![0; PIECE];
            let length = from.read(&mut piece).await?;
            piece.truncate(length);
            let due = Instant::now() + state.told.borrow().delay;
            if on_their_way.send((due, piece)).await.is_err() || length == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            state.flows().await;
            if piece.is_empty() {
                break;
            }
            let through = state.take(piece.len());
            to.write_all(&piece[..through]).await?;
            if state.left.load(Ordering::SeqCst) == 0 {
                state.cut();
                std::future::pending::<()>().await;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}
