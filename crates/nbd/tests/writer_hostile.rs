//! Our writer and servers that refuse, lie, hang up or say nothing, each played by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use site_recovery::{Disk, DiskMut, ErrorKind, Pool, Run};
use site_recovery_nbd::{Address, RemoteDisk, RemoteDiskMut};
use site_recovery_testkit::clock::ManualClock;
use std::sync::Arc;
use support::played::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

const IO: u32 = 5;
const NOSPC: u32 = 28;

async fn writable(address: Address) -> RemoteDiskMut {
    RemoteDisk::builder(address, "x").connect_writable().await.unwrap()
}

fn bytes(len: usize, seed: usize) -> Bytes {
    (0..len).map(|i| (i / 7 + seed) as u8).collect()
}

/// All calls, again and again.
async fn is_broken(disk: &RemoteDiskMut, kind: ErrorKind, temporary: bool) {
    for _ in 0..2 {
        for outcome in [
            disk.flush().await,
            disk.write(0, Bytes::from_static(b"x")).await,
            disk.zero(Run::new(0, 1)).await,
            disk.read(Run::new(0, 1), &Pool::new(4096)).await.map(drop),
        ] {
            let error = outcome.expect_err("it is broken for good");
            assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_takes_no_writes_or_keeps_none_is_refused() {
    let cases = [
        (FLUSH | READ_ONLY, ErrorKind::Denied, "read-only"),
        (ZEROES | MULTI, ErrorKind::Unsupported, "FLUSH"),
    ];
    for (flags, kind, word) in cases {
        let server = async |listener: UnixListener| {
            let mut peer = Peer::accept(&listener, Offer { flags, ..PLAIN }).await;
            assert_eq!(peer.next().await, None, "the client leaves as it should");
        };
        play(server, async |address| {
            let builder = RemoteDisk::builder(address, "x").connections(1);
            let error = builder.connect_writable().await.expect_err(word);
            assert!(error.kind() == kind && error.message().contains(word), "{error}");
            assert!(error.fact("export").unwrap().contains("x at "), "{error}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_told_and_breaks_nothing() {
    for structured in [true, false] {
        let server = async |listener: UnixListener| {
            let mut peer = Peer::accept(&listener, Offer { structured, ..PLAIN }).await;
            for errno in [NOSPC, 1, IO, 22] {
                let asked = peer.next().await.unwrap();
                if structured {
                    let error = [&errno.to_be_bytes()[..], &[0, 4], b"told"].concat();
                    peer.chunk(asked.cookie, 0x8001, &error).await;
                } else {
                    peer.answer(asked.cookie, errno).await;
                }
            }
            for command in [1, 3] {
                let asked = peer.next().await.unwrap();
                assert_eq!(asked.command, command);
                // Where structured replies are agreed on, both kinds may say that something is done.
                match structured && command == 1 {
                    true => peer.chunk(asked.cookie, 0, &[]).await,
                    false => peer.answer(asked.cookie, 0).await,
                }
            }
            assert_eq!(peer.next().await, None);
        };
        play(server, async |address| {
            let disk = writable(address).await;
            use ErrorKind::*;
            for kind in [OutOfSpace, Denied, Unavailable, Invalid] {
                let error = disk.write(0, bytes(10, 0)).await.expect_err("refused");
                assert_eq!(error.kind(), kind, "{error}");
                assert_eq!(error.message().contains("told"), structured, "{error}");
            }
            disk.write(0, bytes(10, 0)).await.unwrap();
            disk.flush().await.unwrap();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refused_flush_no_flush_succeeds() {
    for (structured, given_up) in [(true, false), (false, false), (true, true)] {
        let server = async |listener: UnixListener| {
            let mut peer = Peer::accept(&listener, Offer { structured, ..PLAIN }).await;
            let asked = peer.next().await.unwrap();
            peer.answer(asked.cookie, 0).await;
            let flush = peer.next().await.unwrap();
            assert_eq!((flush.command, flush.flags, flush.run), (3, 0, Run::new(0, 0)));
            match structured {
                true => peer.chunk(flush.cookie, 0x8001, &[0, 0, 0, 5, 0, 0]).await,
                false => peer.answer(flush.cookie, IO).await,
            }
            assert_eq!(peer.next().await, None, "nothing more is asked for");
        };
        play(server, async |address| {
            let disk = writable(address).await;
            disk.write(0, bytes(10, 0)).await.unwrap();
            if given_up {
                // Nobody hears the refusal, and it counts.
                let mut flush = Box::pin(disk.flush());
                assert!(futures_util::poll!(flush.as_mut()).is_pending());
                drop(flush);
                while disk.extents(Run::new(0, 1)).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            } else {
                let error = disk.flush().await.expect_err("refused");
                assert!(error.message().contains("EIO"), "{error}");
            }
            is_broken(&disk, ErrorKind::Unavailable, true).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_a_write_ends_the_connection() {
    for lie in 0..5 {
        let server = async |listener: UnixListener| {
            let mut peer = Peer::accept(&listener, PLAIN).await;
            let cookie = peer.next().await.unwrap().cookie;
            match lie {
                0 => peer.answer(cookie + 1, 0).await,
                1 => peer.chunk(cookie, 1, &[0; 18]).await, // bytes
                2 => peer.chunk(cookie, 5, &[0; 12]).await, // a block status
                3 => peer.chunk(cookie, 0, &[0; 4]).await,
                _ => peer.0.write_all(&[0xa5; 64]).await.unwrap(),
            }
            // Not the answer any more.
            peer.answer(cookie, 0).await;
            assert_eq!(peer.next().await, None);
        };
        play(server, async |address| {
            let disk = writable(address).await;
            let error = disk.write(0, bytes(10, 0)).await.expect_err("a lie");
            assert!(error.message().contains("broke the protocol"), "{lie}: {error}");
            is_broken(&disk, ErrorKind::Unavailable, false).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_takes_what_is_in_flight_with_it() {
    // In the middle of the bytes, before the answer, and after half of the answer.
    for half in 0..3 {
        let server = async |listener: UnixListener| {
            let mut peer = Peer::accept(&listener, PLAIN).await;
            match half {
                0 => drop(peer.0.read_exact(&mut [0; 5000]).await),
                1 => drop(peer.next().await),
                _ => {
                    peer.next().await;
                    peer.0.write_all(&[0x67, 0x44, 0x66]).await.unwrap();
                }
            }
        };
        play(server, async |address| {
            let disk = writable(address).await;
            let writes =
                tokio::join!(disk.write(0, bytes(10_000_000, 0)), disk.write(MIB * 32, bytes(10, 1)));
            for outcome in [writes.0, writes.1] {
                let error = outcome.expect_err("nobody answered");
                assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error}");
            }
            is_broken(&disk, ErrorKind::Unavailable, true).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_connection_of_several_is_enough() {
    let server = async |listener: UnixListener| {
        let offer = Offer { flags: FLUSH | MULTI, ..PLAIN };
        let mut stays = Peer::accept(&listener, offer).await;
        let mut goes = Peer::accept(&listener, offer).await;
        let first = async {
            while let Some(asked) = stays.next().await {
                stays.answer(asked.cookie, 0).await;
            }
        };
        let second = async {
            let asked = goes.next().await.unwrap();
            goes.answer(asked.cookie, 0).await;
            drop(goes);
        };
        tokio::join!(first, second);
    };
    play(server, async |address| {
        let disk = RemoteDisk::builder(address, "x").connections(2).connect_writable().await.unwrap();
        assert_eq!(disk.reader().connections(), 2);
        // The one with less to do is taken: both are used, and the second one hangs up.
        let (a, b) = tokio::join!(disk.write(0, bytes(100, 0)), disk.write(4096, bytes(100, 0)));
        assert!(a.is_ok() && b.is_ok(), "both were answered");
        while disk.flush().await.is_ok() {
            tokio::task::yield_now().await;
        }
        is_broken(&disk, ErrorKind::Unavailable, true).await;
        drop(disk);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_nobody_answers_ends_the_handle_in_time() {
    let (heard, is_heard) = oneshot::channel();
    let server = async |listener: UnixListener| {
        let mut peer = Peer::accept(&listener, PLAIN).await;
        let asked = peer.next().await.unwrap();
        peer.answer(asked.cookie, 0).await;
        assert_eq!(peer.next().await.unwrap().command, 3);
        heard.send(()).unwrap();
        assert_eq!(peer.next().await, None);
    };
    play(server, async |address| {
        let clock = ManualClock::new();
        let builder = RemoteDisk::builder(address, "x").clock(Arc::new(clock.clone()));
        let disk = builder.connect_writable().await.unwrap();
        disk.write(0, bytes(10, 0)).await.unwrap();
        let late = async {
            is_heard.await.unwrap();
            as_time_flies(&clock, std::future::pending::<()>()).await;
        };
        let error = tokio::select! {
            outcome = disk.flush() => outcome.expect_err("nobody answers"),
            () = late => unreachable!("it never ends"),
        };
        assert!(error.message().contains("no answer"), "{error}");
        is_broken(&disk, ErrorKind::Unavailable, true).await;
    })
    .await;
}

/// A write that is dropped with its bytes half sent goes on to its end; what overlaps waits for its answer, and what does
/// not passes it by.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_dropped_in_the_middle_is_sent_to_its_end() {
    let (go, may_go) = oneshot::channel();
    let dropped = bytes(16 * MIB as usize, 1);
    let expected = dropped.clone();
    let server = async |listener: UnixListener| {
        let mut peer = Peer::accept(&listener, PLAIN).await;
        may_go.await.unwrap();
        let first = peer.next().await.unwrap();
        assert!(first.run == Run::new(5, 16 * MIB) && first.data == expected, "other bytes");
        let second = peer.next().await.unwrap();
        assert_eq!((second.run, &second.data[..]), (Run::new(32 * MIB, 100), &bytes(100, 3)[..]));
        peer.answer(second.cookie, 0).await;
        let third = peer.next().await.unwrap();
        assert_eq!(third.command, 3, "what overlaps waits");
        peer.answer(third.cookie, 0).await;
        peer.hears_nothing();
        peer.answer(first.cookie, 0).await;
        let last = peer.next().await.unwrap();
        assert_eq!((last.run, &last.data[..]), (Run::new(MIB, 100), &bytes(100, 2)[..]));
        peer.answer(last.cookie, 0).await;
        assert_eq!(peer.next().await, None);
    };
    play(server, async |address| {
        let disk = writable(address).await;
        let mut write = Box::pin(disk.write(5, dropped));
        // The server reads nothing yet, so the socket is full at some time, and no more goes.
        for _ in 0..100 {
            assert!(futures_util::poll!(write.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        drop(write);
        go.send(()).unwrap();
        let overlapping = disk.write(MIB, bytes(100, 2));
        let others = async {
            disk.write(32 * MIB, bytes(100, 3)).await.unwrap();
            disk.flush().await.unwrap();
        };
        tokio::join!(biased; overlapping, others).0.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_cut_to_what_the_server_takes_and_nothing_is_ever_trimmed() {
    for zeroes in [ZEROES, 0] {
        let server = async |listener: UnixListener| {
            let offer = Offer { flags: FLUSH | TRIM | zeroes, longest: 65_536, ..PLAIN };
            let mut peer = Peer::accept(&listener, offer).await;
            let (mut at, mut image) = (100, vec![]);
            for _ in 0..2 {
                while at < 300_000 {
                    let asked = peer.next().await.unwrap();
                    assert!(asked.run.start == at && asked.run.len <= 65_536, "{:?}", asked.run);
                    assert_eq!(asked.flags, 0, "space may come back");
                    at = asked.run.end();
                    match asked.command {
                        1 => image.extend(asked.data),
                        6 if zeroes != 0 => image.resize(image.len() + asked.run.len as usize, 0),
                        other => panic!("command {other}"),
                    }
                    peer.answer(asked.cookie, 0).await;
                }
                at = 100;
            }
            let (written, zeroed) = image.split_at(299_900);
            assert!(written == &bytes(299_900, 9)[..] && zeroed.len() == 299_900, "other bytes");
            assert!(zeroed.iter().all(|b| *b == 0), "no zeros");
            assert_eq!(peer.next().await, None);
        };
        play(server, async |address| {
            let disk = writable(address).await;
            disk.write(100, bytes(299_900, 9)).await.unwrap();
            disk.zero(Run::new(100, 299_900)).await.unwrap();
        })
        .await;
    }
}

/// More than go out at a time, by many tasks, answered in the reverse order.
#[tokio::test(flavor = "multi_thread")]
async fn many_writes_are_in_flight_at_once_and_no_more_than_the_window() {
    const WINDOW: usize = 32;
    let server = async |listener: UnixListener| {
        let mut peer = Peer::accept(&listener, PLAIN).await;
        let mut seen = vec![];
        while seen.len() < 100 {
            let mut asked = vec![];
            for _ in 0..WINDOW.min(100 - seen.len()) {
                asked.push(peer.next().await.unwrap());
            }
            peer.hears_nothing();
            for asked in asked.into_iter().rev() {
                assert_eq!(asked.data, bytes(5000, asked.run.start as usize));
                peer.answer(asked.cookie, 0).await;
                seen.push(asked.run.start);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).map(|i| i * 5000).collect::<Vec<_>>());
        assert_eq!(peer.next().await, None);
    };
    play(server, async |address| {
        let disk = writable(address).await;
        let writes = (0..100).map(|i| disk.write(i * 5000, bytes(5000, i as usize * 5000)));
        for outcome in futures_util::future::join_all(writes).await {
            outcome.unwrap();
        }
    })
    .await;
}
