//! Disks with known bytes, and the programs that are asked.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs; a test that cannot go on fails"
)]

pub mod played;

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_nbd::Address;
use site_recovery_testkit::clock::ManualClock;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::process::{Child, Command};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// A disk in memory. What is zero in whole blocks of 4 KiB is told as such.
pub struct Image {
    pub bytes: Vec<u8>,
    /// Reads that touch this byte fail.
    pub bad: Option<u64>,
    /// How often it was read.
    pub reads: AtomicUsize,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} bytes)", self.bytes.len())
    }
}

/// Islands of data in a sea of zeros, of a size that is no multiple of anything.
pub fn image(size: u64, seed: u64) -> Image {
    let mut bytes = vec![0; size as usize];
    let mut next = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        next % below
    };
    for _ in 0..24 {
        let start = random(size);
        let end = (start + random(size / 32) + 1).min(size);
        let first = random(255) as u8 + 1;
        for (i, byte) in bytes[start as usize..end as usize].iter_mut().enumerate() {
            *byte = first.wrapping_add((i / 512) as u8) | 1;
        }
    }
    filled(bytes)
}

/// A disk of these bytes.
pub fn filled(bytes: Vec<u8>) -> Image {
    Image { bytes, bad: None, reads: AtomicUsize::new(0) }
}

#[async_trait]
impl Disk for Image {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.end().min(self.size());
        let mut extents: Vec<Extent> = vec![];
        for run in Run::new(range.start, end.saturating_sub(range.start)).pieces(4096) {
            let zero = self.bytes[run.start as usize..run.end() as usize].iter().all(|b| *b == 0);
            let fill = if zero { Fill::Zero } else { Fill::Data };
            match extents.last_mut() {
                Some(last) if last.fill == fill => last.run.len += run.len,
                _ => extents.push(Extent { run, fill }),
            }
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.end() > self.size() {
            return Err(Error::invalid("run", run.end(), "past the end", "read inside"));
        }
        if self.bad.is_some_and(|bad| run.intersection(Run::new(bad, 1)).is_some()) {
            return Err(Error::new(ErrorKind::Corrupt, "this byte is damaged"));
        }
        let mut block = pool.take(run.len as usize).await?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        block.copy_from_slice(&self.bytes[run.start as usize..run.end() as usize]);
        Ok(block.freeze())
    }
}

/// xorshift64*
pub struct Rng(u64);

impl Rng {
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }
}

/// All bytes of a disk, read in pieces.
pub async fn contents(disk: &dyn Disk) -> Vec<u8> {
    let pool = Pool::new(4 * MIB as usize);
    let mut bytes = vec![];
    for run in Run::new(0, disk.size()).pieces(MIB - 4096) {
        bytes.extend_from_slice(&disk.read(run, &pool).await.unwrap());
    }
    bytes
}

/// Does `work` while every wait by the clock ends at once.
pub async fn as_time_flies<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
    let flies = async {
        loop {
            clock.advance_to_next();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = flies => unreachable!("it never ends"),
    }
}

/// A certificate or key of the tests.
pub fn pem(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)).unwrap()
}

/// Whether these programs are here. Says so where not, and fails where they have to be.
pub fn peers(what: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |program: &&&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let Some(absent) = programs.iter().find(|p| !here(p)) else { return true };
    println!("SKIPPED {what}: {absent} is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{absent} is required");
    false
}

/// What a program that ends well says.
pub async fn run(program: &str, args: &[&str]) -> String {
    let (code, said) = try_run(program, args).await;
    assert_eq!(code, Some(0), "{program} {args:?}: {said}");
    said
}

/// The exit code of a program, and what it says: output, and errors where there is none.
pub async fn try_run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {args:?} does not end")).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), if output.status.success() { said } else { format!("{said}{errors}") })
}

/// A server program that is given a socket that listens already, so that nobody has to wait for it. It is killed, by its
/// id, when this is dropped.
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
}

impl Daemon {
    pub fn address(&self) -> Address {
        Address::Unix(self.socket.clone())
    }

    /// By SIGKILL, and waits for its end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

pub fn daemon(dir: &Path, command: &str) -> Daemon {
    let socket = dir.join("peer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let script = format!("exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec {command}");
    let child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .current_dir(dir)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Daemon { child, socket }
}
