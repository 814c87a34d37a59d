//! What no program at hand asks our server for: older ways to choose an export, simple replies, answers in one chunk.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_nbd::{Address, Export, RemoteDisk, Server};
use site_recovery_testkit::clock::ManualClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

const SIZE: u64 = 5 * MIB + 100;

/// A client by hand, with the export chosen in the older way.
struct Client(UnixStream);

impl Client {
    async fn new(dir: &Path, flags: u32, structured: bool) -> Self {
        let mut stream = UnixStream::connect(dir.join("s.sock")).await.unwrap();
        stream.read_exact(&mut [0; 18]).await.unwrap();
        stream.write_u32(flags).await.unwrap();
        if structured {
            stream.write_all(b"IHAVEOPT\0\0\0\x08\0\0\0\0").await.unwrap();
            stream.read_exact(&mut [0; 20]).await.unwrap();
        }
        stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\x01x").await.unwrap();
        assert_eq!(stream.read_u64().await.unwrap(), SIZE);
        let has_df = stream.read_u16().await.unwrap() & (1 << 7) != 0;
        assert_eq!(has_df, structured);
        if flags & 2 == 0 {
            let mut zeroes = [1; 124];
            stream.read_exact(&mut zeroes).await.unwrap();
            assert_eq!(zeroes, [0; 124]);
        }
        Self(stream)
    }

    async fn ask(&mut self, flags: u16, command: u16, offset: u64, len: u32, data: &[u8]) {
        let stream = &mut self.0;
        stream.write_u32(0x2560_9513).await.unwrap();
        stream.write_u16(flags).await.unwrap();
        stream.write_u16(command).await.unwrap();
        stream.write_u64(99).await.unwrap();
        stream.write_u64(offset).await.unwrap();
        stream.write_u32(len).await.unwrap();
        stream.write_all(data).await.unwrap();
    }

    /// The error number of a simple reply, and its bytes.
    async fn simple(&mut self, len: usize) -> (u32, Vec<u8>) {
        assert_eq!(self.0.read_u32().await.unwrap(), 0x6744_6698);
        let errno = self.0.read_u32().await.unwrap();
        assert_eq!(self.0.read_u64().await.unwrap(), 99);
        let mut bytes = vec![0; if errno == 0 { len } else { 0 }];
        self.0.read_exact(&mut bytes).await.unwrap();
        (errno, bytes)
    }

    /// Flags, type and bytes of one chunk.
    async fn chunk(&mut self) -> (u16, u16, Vec<u8>) {
        assert_eq!(self.0.read_u32().await.unwrap(), 0x668e_33ef);
        let (flags, kind) = (self.0.read_u16().await.unwrap(), self.0.read_u16().await.unwrap());
        assert_eq!(self.0.read_u64().await.unwrap(), 99);
        let mut bytes = vec![0; self.0.read_u32().await.unwrap() as usize];
        self.0.read_exact(&mut bytes).await.unwrap();
        (flags, kind, bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_old_kind_reads_and_writes_by_simple_replies() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(image(SIZE, 21));
    let export = Export::with_overlay("x", disk.clone(), dir.path(), MIB).unwrap();
    let server =
        Server::builder().export(export).listen(Address::Unix(dir.path().join("s.sock"))).await.unwrap();
    let mut expected = disk.bytes.clone();
    for flags in [1, 3] {
        let mut client = Client::new(dir.path(), flags, false).await;
        // Longer than what is read in one go.
        client.ask(0, 0, 10, (SIZE - 10) as u32, &[]).await;
        let (errno, bytes) = client.simple(SIZE as usize - 10).await;
        assert!(errno == 0 && bytes == expected[10..], "other bytes");
        for (flags, command, offset, len, errno) in [
            (0, 0, SIZE - 1, 2, 22),
            (0, 0, u64::MAX, 2, 22), // past the end of all numbers
            (0, 6, SIZE - 1, 2, 28), // zeroes past the end
            (4, 0, 0, 512, 22),      // DF was not offered
            (0, 7, 0, 512, 22),      // block status without structured replies
            (0, 77, 0, 512, 22),     // no such command
            (0, 3, 0, 0, 0),         // flush
            (1, 4, 0, 512, 0),       // trim with FUA
        ] {
            client.ask(flags, command, offset, len, &[]).await;
            assert_eq!(client.simple(0).await.0, errno, "command {command} at {offset}");
        }
        client.ask(0, 1, SIZE - 1, 3, b"abc").await;
        assert_eq!(client.simple(0).await.0, 28);
        client.ask(0, 1, 600, 3, b"abc").await;
        assert_eq!(client.simple(0).await.0, 0);
        client.ask(0, 0, 512, 100, &[]).await;
        expected[..512].fill(0);
        expected[600..603].copy_from_slice(b"abc");
        assert_eq!(client.simple(100).await, (0, expected[512..612].to_vec()));
    }
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_may_not_be_split_is_one_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(image(SIZE, 22));
    let server = Server::builder().export(Export::read_only("x", disk.clone()));
    let server = server.listen(Address::Unix(dir.path().join("s.sock"))).await.unwrap();
    let mut client = Client::new(dir.path(), 3, true).await;
    client.ask(4, 0, 0, SIZE as u32, &[]).await;
    let (flags, kind, bytes) = client.chunk().await;
    assert_eq!((flags, kind), (1, 1));
    assert!(bytes[8..] == disk.bytes, "other bytes");
    client.ask(0, 1, 0, 3, b"abc").await;
    let (flags, kind, bytes) = client.chunk().await;
    assert_eq!((flags, kind, &bytes[..4]), (1, 0x8001, &[0, 0, 0, 1][..]), "the export is read-only");
    // Without the flag, zeros are not sent.
    client.ask(0, 0, 0, SIZE as u32, &[]).await;
    let (mut read, mut holes) = (vec![1; SIZE as usize], 0);
    loop {
        let (flags, kind, bytes) = client.chunk().await;
        let at = u64::from_be_bytes(bytes[..8].try_into().unwrap()) as usize;
        match kind {
            1 => read[at..at + bytes.len() - 8].copy_from_slice(&bytes[8..]),
            _ => {
                let len = u32::from_be_bytes(bytes[8..].try_into().unwrap()) as usize;
                read[at..at + len].fill(0);
                holes += 1;
            }
        }
        if flags == 1 {
            break;
        }
    }
    assert!(read == disk.bytes && holes > 0, "other bytes, or no hole");
    server.stop(Duration::from_secs(5)).await;
}

/// The first block is read once the second one was.
#[derive(Debug)]
struct SecondFirst {
    asked: Semaphore,
    second: Semaphore,
}

impl SecondFirst {
    fn new() -> Arc<Self> {
        Arc::new(Self { asked: Semaphore::new(0), second: Semaphore::new(0) })
    }
}

#[async_trait]
impl Disk for SecondFirst {
    fn size(&self) -> u64 {
        8192
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        Ok(vec![Extent { run: range, fill: Fill::Data }])
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.asked.add_permits(1);
        match run.start {
            0 => drop(self.second.acquire().await.unwrap()),
            _ => self.second.add_permits(1),
        }
        Ok(pool.take(run.len as usize).await?.freeze())
    }
}

async fn one_connection(server: &Server) -> RemoteDisk {
    RemoteDisk::builder(server.address().clone(), "").connections(1).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_do_not_wait_for_each_other() {
    let export = Export::read_only("", SecondFirst::new());
    let server = Server::builder().export(export).listen(Address::loopback()).await.unwrap();
    let remote = one_connection(&server).await;
    let pool = Pool::new(8192);
    let read = |start| remote.read(Run::new(start, 4096), &pool);
    let both = async { tokio::join!(biased; read(0), read(4096)) };
    let (first, second) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("both are answered");
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (4096, 4096));
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_in_flight_and_cuts_it_at_its_bound() {
    for second_comes in [true, false] {
        let (disk, clock) = (SecondFirst::new(), ManualClock::new());
        let export = Export::read_only("", disk.clone());
        let builder = Server::builder().export(export).clock(Arc::new(clock.clone()));
        let server = builder.listen(Address::loopback()).await.unwrap();
        let remote = one_connection(&server).await;
        let pool = Pool::new(8192);
        let stop = async {
            disk.asked.acquire().await.unwrap().forget();
            let stopped = server.stop(Duration::from_secs(10));
            if second_comes {
                tokio::join!(biased; stopped, async { disk.second.add_permits(1) }).0
            } else {
                as_time_flies(&clock, stopped).await
            }
        };
        let (read, stopped) = tokio::join!(remote.read(Run::new(0, 4096), &pool), stop);
        if second_comes {
            assert_eq!((read.unwrap().len(), stopped.cut), (4096, 0));
        } else {
            assert_eq!((read.expect_err("cut").kind(), stopped.cut), (ErrorKind::Unavailable, 1));
        }
        assert_eq!(Arc::strong_count(&disk), 1, "the disk is let go");
    }
}
