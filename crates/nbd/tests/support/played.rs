//! A server that a test plays by hand, request by request.

use super::MIB;
use site_recovery::Run;
use site_recovery_nbd::Address;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub const SIZE: u64 = 64 * MIB;
/// Long beyond what anything here takes, and short enough for a test that fails.
const SOON: Duration = Duration::from_secs(20);

pub const READ_ONLY: u16 = 2;
pub const FLUSH: u16 = 4;
pub const TRIM: u16 = 32;
pub const ZEROES: u16 = 64;
pub const MULTI: u16 = 256;

/// What a server offers.
#[derive(Clone, Copy)]
pub struct Offer {
    pub flags: u16,
    pub structured: bool,
    pub longest: u32,
}

pub const PLAIN: Offer = Offer { flags: FLUSH, structured: true, longest: 32 << 20 };

/// The server's end of one connection.
pub struct Peer(pub UnixStream);

#[derive(Debug, PartialEq)]
pub struct Asked {
    pub flags: u16,
    pub command: u16,
    pub cookie: u64,
    pub run: Run,
    pub data: Vec<u8>,
}

impl Peer {
    /// The handshake, by the book.
    pub async fn accept(listener: &UnixListener, offer: Offer) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await.unwrap();
        stream.read_u32().await.unwrap();
        loop {
            assert_eq!(stream.read_u64().await.unwrap(), 0x4948_4156_454f_5054);
            let (option, len) = (stream.read_u32().await.unwrap(), stream.read_u32().await.unwrap());
            stream.read_exact(&mut vec![0; len as usize]).await.unwrap();
            let reply = |kind: u32, data: &[u8]| {
                let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
                let head = [&magic[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
                [&head[..], &(data.len() as u32).to_be_bytes(), data].concat()
            };
            if option == 8 && !offer.structured {
                stream.write_all(&reply((1 << 31) + 1, &[])).await.unwrap();
                continue;
            }
            if option == 7 {
                let export = [&[0, 0][..], &SIZE.to_be_bytes(), &(1 | offer.flags).to_be_bytes()].concat();
                stream.write_all(&reply(3, &export)).await.unwrap();
                let sizes = [1, 4096, offer.longest].map(u32::to_be_bytes).concat();
                stream.write_all(&reply(3, &[&[0, 3][..], &sizes].concat())).await.unwrap();
            }
            stream.write_all(&reply(1, &[])).await.unwrap();
            if option == 7 {
                return Self(stream);
            }
        }
    }

    /// The next request, whole; none where the client has left.
    pub async fn next(&mut self) -> Option<Asked> {
        let stream = &mut self.0;
        let magic = stream.read_u32().await.ok()?;
        assert_eq!(magic, 0x2560_9513, "this is no request");
        let (flags, command) = (stream.read_u16().await.unwrap(), stream.read_u16().await.unwrap());
        let (cookie, offset) = (stream.read_u64().await.unwrap(), stream.read_u64().await.unwrap());
        let len = stream.read_u32().await.unwrap();
        let mut data = vec![0; if command == 1 { len as usize } else { 0 }];
        stream.read_exact(&mut data).await.unwrap();
        let run = Run::new(offset, len.into());
        (command != 2).then_some(Asked { flags, command, cookie, run, data })
    }

    /// A simple reply; 0 is none of the errors.
    pub async fn answer(&mut self, cookie: u64, errno: u32) {
        let reply = [&0x6744_6698_u32.to_be_bytes()[..], &errno.to_be_bytes(), &cookie.to_be_bytes()];
        // The client may have had enough.
        let _ = self.0.write_all(&reply.concat()).await;
    }

    /// The last chunk of a structured reply.
    pub async fn chunk(&mut self, cookie: u64, kind: u16, data: &[u8]) {
        let head = [&0x668e_33ef_u32.to_be_bytes()[..], &[0, 1], &kind.to_be_bytes(), &cookie.to_be_bytes()];
        let chunk = [&head.concat()[..], &(data.len() as u32).to_be_bytes(), data];
        let _ = self.0.write_all(&chunk.concat()).await;
    }

    /// Nothing is on its way, and the client is still there.
    pub fn hears_nothing(&self) {
        let error = self.0.try_read(&mut [0]).expect_err("something was asked for");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// Plays a server and its client against each other.
pub async fn play<S: Future, C: Future<Output = ()>>(
    server: impl FnOnce(UnixListener) -> S,
    client: impl FnOnce(Address) -> C,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let server = server(UnixListener::bind(&path).unwrap());
    let both = async { tokio::join!(server, client(Address::Unix(path))) };
    tokio::time::timeout(SOON, both).await.expect("in bounded time");
}
