//! The point that a machine runs on goes away: its guest waits, is paused, and goes on. It never sees an error.
//!
//! The guest is a boot sector that reads one sector after the other by the BIOS, and tells the first byte of each.

use crate::boot_sector::{ERROR, reader};
use crate::recovered::Recovered;
use crate::support::*;
use serde_json::{Value, json};
use site_recovery::*;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const SECTORS: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(4);
/// The first byte of each sector.
fn first_byte(sector: usize) -> u8 {
    if sector == 0 { reader()[0] } else { b'a' + (sector % 23) as u8 }
}

fn disk() -> Vec<u8> {
    let mut bytes = vec![0; SECTORS * 512];
    for (n, sector) in bytes.chunks_mut(512).enumerate() {
        sector.fill(first_byte(n));
    }
    bytes[..512].copy_from_slice(&reader());
    bytes
}

/// The machine, and what its guest tells.
struct Reading {
    machine: Recovered,
    told: PathBuf,
}

impl Reading {
    async fn booted() -> Self {
        let world = World::told(|b, _| b.patience(PATIENCE).hydrate_after(Duration::from_secs(3600))).await;
        let told = world.dir.path().join("told");
        let machine = Recovered::prepared(world, &vec![disk(), vec![7; 64 << 10]]).await;
        let path = machine.world.path(machine.name()).join("machine.json");
        let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        text["arguments"] = json!(["-debugcon", format!("file:{}", told.display())]);
        fs::write(path, text.to_string()).unwrap();
        assert!(machine.boot("boot").await.running);
        let reading = Self { machine, told };
        reading.goes_on();
        reading
    }

    /// How much the guest has read; every byte has to be right.
    fn read_so_far(&self) -> usize {
        let told = fs::read(&self.told).unwrap_or_default();
        for (n, byte) in told.iter().enumerate() {
            let sector = (n + 1) % SECTORS;
            assert_ne!(*byte, ERROR, "the guest saw an error at its read {n}, of sector {sector}");
            assert_eq!(
                *byte,
                first_byte(sector),
                "the guest read wrong bytes at its read {n}, of sector {sector}"
            );
        }
        told.len()
    }

    fn goes_on(&self) {
        let before = self.read_so_far();
        until("the guest reads on", || self.read_so_far() > before + 200);
    }

    /// The library's process ends, and the server of the point with it. Another one is started.
    async fn server_dies(&mut self) {
        self.machine.world.site = self.machine.world.again().await;
    }
}

#[test]
fn o1_a_guest_whose_point_is_gone_is_paused_without_an_error_and_goes_on_when_it_is_tended() {
    on_qemu(async {
        let mut guest = Reading::booted().await;
        guest.server_dies().await;
        let died = now();
        until("the guest is paused", || guest.machine.status() == "io-error");
        let waited = died.elapsed();
        println!("paused after {waited:?}");
        assert!(waited < PATIENCE + Duration::from_secs(10), "it waited {waited:?}");
        let stands = guest.read_so_far();
        // Whoever asks is told that it is on: it holds its memory, and its images.
        let power = guest.machine.world.site.power(&guest.machine.armed.instance).await.unwrap();
        assert_eq!(power, Power::On);
        assert_eq!(guest.read_so_far(), stands, "it reads without a point");

        guest.machine.tend().await.unwrap();
        guest.goes_on();
        assert_eq!(guest.machine.status(), "running");

        // Once more, and to the end: it hydrates, and needs nobody then.
        guest.server_dies().await;
        until("the guest is paused", || guest.machine.status() == "io-error");
        guest.machine.tend().await.unwrap();
        guest.goes_on();
        guest.machine.settle().await;
        guest.server_dies().await;
        let before = guest.read_so_far();
        while guest.read_so_far() <= before + SECTORS {
            guest.goes_on();
        }
        assert_eq!(guest.machine.status(), "running");
    });
}

#[test]
fn o1_a_point_that_is_back_in_time_is_not_missed() {
    on_qemu(async {
        let mut guest = Reading::booted().await;
        let died = now();
        guest.server_dies().await;
        guest.machine.tend().await.unwrap();
        let away = died.elapsed();
        guest.goes_on();
        println!("away for {away:?}");
        assert!(away > PATIENCE || guest.machine.status() == "running");
    });
}

#[test]
fn o5_a_guest_that_a_person_paused_is_not_resumed_by_tend() {
    on_qemu(async {
        let guest = Reading::booted().await;
        let name = guest.machine.name();
        guest.machine.world.monitor(name).unwrap().call("stop", Value::Null).unwrap();
        guest.machine.tend().await.unwrap();
        assert_eq!(guest.machine.status(), "paused");
        let stands = guest.read_so_far();
        guest.machine.world.monitor(name).unwrap().call("cont", Value::Null).unwrap();
        until("the guest reads on", || guest.read_so_far() > stands + 200);
    });
}
