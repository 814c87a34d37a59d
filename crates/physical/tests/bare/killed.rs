//! A process that is killed while it writes.

use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, BareServer, Slot, Switched};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const PAGES: u64 = 64;

fn site(dir: &Path, device: &Path) -> BareDisks {
    let server = BareServer {
        name: "web-1".into(),
        slots: vec![Slot { id: "root".into(), path: device.to_owned() }],
        firmware: None,
        starter: Arc::new(Switched(FakeServer::new(TELLS, false))),
    };
    let builder = BareDisks::builder("hall-1".into(), dir.join("state"), Arc::new(SystemClock));
    builder.server(server).open().unwrap()
}

fn web() -> Machine {
    machine("m-web", "hall-1", "web-1", &[("root", PAGES * 4096)])
}

fn page(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(512)
}

#[tokio::test]
async fn d1_what_was_flushed_is_there_after_the_process_was_killed_and_its_disks_are_free() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.img");
    disk_file(&file, PAGES * 4096);
    let device = Loop::over(&file);
    let mut flushed = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed::writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env("BARE_DIR", dir.path())
            .env("BARE_DEVICE", &device.path)
            .env("BARE_FROM", flushed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(std::result::Result::ok);
        let told = lines.filter_map(|line| line.strip_prefix("flushed ")?.parse::<u64>().ok());
        let last = told.take(7 + round).last();
        child.kill().unwrap();
        child.wait().unwrap();
        flushed = last.expect("it writes");
        // From the disk itself, past what the kernel keeps for the loop device.
        let disk = std::fs::File::open(&file).unwrap();
        let mut bytes = vec![0; 4096];
        for number in flushed.saturating_sub(PAGES - 2)..=flushed {
            disk.read_exact_at(&mut bytes, number % PAGES * 4096).unwrap();
            let found = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            // A later one may have come over it before the kill.
            assert!(found == number || found == number + PAGES || number < 2, "page {number} holds {found}");
        }
        // Attached still, and nobody holds it: the next one goes on without a word.
        let site = site(dir.path(), &device.path);
        let disk = site.disk(&web().instance, &"root".into()).await.unwrap();
        assert_eq!(disk.size(), PAGES * 4096);
    }
    let site = site(dir.path(), &device.path);
    site.detach(&op("d"), &web().instance).await.unwrap();
    let gone = site.disk(&web().instance, &"root".into()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Refused);
}

/// Not a test of its own: the process that the test above kills.
#[tokio::test]
#[ignore = "is run, and killed, by another test"]
async fn writes_until_it_is_killed() {
    let told = |name: &str| std::env::var_os(name).unwrap();
    let site = site(Path::new(&told("BARE_DIR")), Path::new(&told("BARE_DEVICE")));
    let from: u64 = told("BARE_FROM").into_string().unwrap().parse().unwrap();
    let instance = site.attach(&op("a"), &web(), Some(web().instance), &Settings::default()).await.unwrap();
    let disk = site.disk(&instance, &"root".into()).await.unwrap();
    for number in from.. {
        disk.write(number % PAGES * 4096, Bytes::from(page(number))).await.unwrap();
        disk.flush().await.unwrap();
        println!("flushed {number}");
    }
}
