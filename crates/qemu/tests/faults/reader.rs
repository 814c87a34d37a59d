//! Whoever reads a capture stops reading, or dies.

use crate::protected::*;
use crate::support::*;
use site_recovery::*;
use site_recovery_testkit::suite::pattern;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A client of a capture's export that asks for everything, many times, and reads no answer.
fn hung_reader(world: &World, export: &str, size: u32) -> UnixStream {
    let mut socket = UnixStream::connect(world.place("web").join("nbd")).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let mut hello = [0; 18];
    socket.read_exact(&mut hello).unwrap();
    // Fixed newstyle without zeroes, then NBD_OPT_EXPORT_NAME. Source: NBD protocol specification.
    socket.write_all(&3_u32.to_be_bytes()).unwrap();
    socket.write_all(&0x4948_4156_454f_5054_u64.to_be_bytes()).unwrap();
    socket.write_all(&1_u32.to_be_bytes()).unwrap();
    socket.write_all(&(export.len() as u32).to_be_bytes()).unwrap();
    socket.write_all(export.as_bytes()).unwrap();
    socket.read_exact(&mut [0; 10]).unwrap();
    // More answers than any buffer of the system takes.
    for cookie in 0..16_u64 {
        socket.write_all(&0x2560_9513_u32.to_be_bytes()).unwrap();
        socket.write_all(&[0; 4]).unwrap();
        socket.write_all(&cookie.to_be_bytes()).unwrap();
        socket.write_all(&0_u64.to_be_bytes()).unwrap();
        socket.write_all(&size.to_be_bytes()).unwrap();
    }
    socket
}

/// The names of all exports, as the machine's process has them.
fn exports(world: &World) -> Vec<String> {
    let found = world.monitor("web").unwrap().call("query-block-exports", serde_json::Value::Null).unwrap();
    found.as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

fn guest_writes(world: &World, seed: u64) {
    for at in (0..DATA - 64 * KIB).step_by(64 * KIB as usize) {
        let begun = now();
        world.put("web", 1, at, &pattern(seed + at, 64 * KIB as usize));
        assert!(begun.elapsed() < Duration::from_secs(10), "a write took {:?}", begun.elapsed());
    }
}

#[test]
fn o2_a_reader_that_hangs_holds_up_the_release_and_never_the_guest() {
    on_qemu(async {
        let protected = Protected::running_in(World::new().await).await;
        let world = &protected.world;
        guest_writes(world, 1000);
        let first = protected.seal("first").await;
        let capture = protected.capture("hung").await.unwrap();
        let at_the_cut = protected.truth();
        let export = exports(world).into_iter().find(|e| e.ends_with("-1")).unwrap();
        let hung: Vec<_> = (0..2).map(|_| hung_reader(world, &export, 1 << 20)).collect();

        guest_writes(world, 2000);
        assert!(world.is_on("web"));
        // Others read beside it.
        assert!(protected.image("hung", &capture).await.unwrap() == at_the_cut, "the capture has changed");

        // QEMU cannot end a connection whose peer neither reads nor closes, and would stand still in every change of its
        // nodes, the guest with it. So it is said, and nothing is touched.
        for asked in ["release", "capture", "sweep"] {
            let begun = now();
            let answer = match asked {
                "release" => protected.release("hung", &capture, Fate::Abandoned).await,
                "capture" => protected.capture("next").await.map(drop),
                _ => protected.site().sweep(&op("sweep"), &protected.instance, &[]).await.map(drop),
            };
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy, "{asked}: {error}");
            assert!(error.message().contains("end that process"), "{asked}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{asked} took {:?}", begun.elapsed());
            guest_writes(world, 3000 + asked.len() as u64);
        }

        drop(hung);
        protected.release("hung", &capture, Fate::Abandoned).await.unwrap();
        protected.is_as_before();
        assert_eq!(exports(world).len(), 0);
        protected.seal_delta("next", &first).await.expect("tracking was kept");
    });
}

#[test]
fn o2_a_reader_that_is_killed_is_nothing_to_the_guest_and_to_other_readers() {
    on_qemu(async {
        let protected = Protected::running_in(World::new().await).await;
        let world = &protected.world;
        guest_writes(world, 1000);
        let first = protected.seal("first").await;
        let capture = protected.capture("killed").await.unwrap();
        let at_the_cut = protected.truth();
        let export = exports(world).into_iter().find(|e| e.ends_with("-1")).unwrap();
        for round in 0..5 {
            let uri = format!("nbd+unix:///{export}?socket={}", world.place("web").join("nbd").display());
            let mut reader = Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", "raw", &uri])
                .arg(world.dir.path().join("copy"))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(10 * round));
            reader.kill().unwrap();
            reader.wait().unwrap();
            guest_writes(world, 3000 + round);
        }
        assert!(protected.image("killed", &capture).await.unwrap() == at_the_cut, "the capture has changed");
        protected.release("killed", &capture, Fate::Sealed).await.unwrap();
        protected.is_as_before();
        let sealed = Sealed {
            cursor: capture.member(&protected.instance.machine).unwrap().cursor.clone().unwrap(),
            image: at_the_cut,
        };
        drop(first);
        protected.seal_delta("next", &sealed).await.expect("tracking was kept");
    });
}
