//! The point that a machine runs on goes away: its guest waits, is paused, and goes on. It never sees an error.
//!
//! The guest is a boot sector that reads one sector after the other by the BIOS, and tells the first byte of each.

use crate::recovered::Recovered;
use crate::support::*;
use serde_json::{Value, json};
use site_recovery::*;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const SECTORS: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(4);
/// What the guest tells where a read failed.
const ERROR: u8 = b'E';

/// Reads sectors for ever, 1 to 4095 and again from 0, into 0:8000h; tells the first byte of each, or `E`, at port E9h.
///
/// ```text
/// 7c00  cld; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,7c00h; mov [7c60h],dl
/// 7c10  mov word [7c52h],1; mov si,7c50h; mov dl,[7c60h]; mov ah,42h; int 13h; jc 7c34h
/// 7c23  mov al,[8000h]; out e9h,al; inc word [7c58h]; and word [7c58h],0fffh; jmp 7c10h
/// 7c34  mov al,'E'; out e9h,al; jmp 7c10h
/// 7c50  the packet of function 42h: 16 bytes, 1 sector, to 0:8000h, from sector 1
/// ```
const CODE: [u8; 0x60] = {
    let code = *b"\xfc\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0\xbc\x00\x7c\x88\x16\x60\x7c\
        \xc7\x06\x52\x7c\x01\x00\xbe\x50\x7c\x8a\x16\x60\x7c\xb4\x42\xcd\x13\x72\x11\
        \xa0\x00\x80\xe6\xe9\xff\x06\x58\x7c\x81\x26\x58\x7c\xff\x0f\xeb\xdc\
        \xb0\x45\xe6\xe9\xeb\xd6";
    let mut all = [0; 0x60];
    let mut at = 0;
    while at < code.len() {
        all[at] = code[at];
        at += 1;
    }
    let packet = *b"\x10\x00\x01\x00\x00\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00";
    let mut at = 0;
    while at < packet.len() {
        all[0x50 + at] = packet[at];
        at += 1;
    }
    all
};

/// The first byte of each sector.
fn first_byte(sector: usize) -> u8 {
    if sector == 0 { CODE[0] } else { b'a' + (sector % 23) as u8 }
}

fn disk() -> Vec<u8> {
    let mut bytes = vec![0; SECTORS * 512];
    for (n, sector) in bytes.chunks_mut(512).enumerate() {
        sector.fill(first_byte(n));
    }
    bytes[..CODE.len()].copy_from_slice(&CODE);
    bytes[510..512].copy_from_slice(b"\x55\xaa");
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
        until("the guest reads everything once more", || guest.read_so_far() > before + SECTORS);
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
