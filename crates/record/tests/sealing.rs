//! What is sealed opens with its key, in its place, and in no other way.

use bytes::Bytes;
use proptest::prelude::*;
use site_recovery::{DiskId, ErrorKind, Form, MachineId, Payload, Record, Run};
use site_recovery_record::{Codec, KEY_BYTES, Key, Keyring, Packer, Unpacker};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn key(byte: u8) -> Key {
    Key::new([byte; KEY_BYTES])
}

fn web() -> MachineId {
    "web".into()
}

fn packed(packer: &Packer, machine: &MachineId, plain: &[u8]) -> Record {
    let run = Run::new(8192, plain.len() as u64);
    packer.pack(machine, &"data".into(), run, Bytes::copy_from_slice(plain), Form::Sealed)
}

fn frame(record: &Record) -> &[u8] {
    match &record.payload {
        Payload::Sealed(frame) => frame,
        other => panic!("not sealed: {other:?}"),
    }
}

fn secret() -> Vec<u8> {
    b"account 4711 ".iter().copied().cycle().take(5000).collect()
}

proptest! {
    #[test]
    fn c5_what_is_sealed_opens_with_its_key_alone(plain in prop::collection::vec(1..=255_u8, 1..5000), zstd in any::<bool>()) {
        let codec = if zstd { Codec::Zstd } else { Codec::Raw };
        let packer = Packer::new(codec, Keyring::new().seal_with(key(1)));
        let record = packed(&packer, &web(), &plain);
        let opened = Unpacker::new(Keyring::new().open_with(key(1))).unpack(&web(), &record).expect("its key");
        prop_assert_eq!(opened.expect("not zeros"), plain);
        for keys in [Keyring::new(), Keyring::new().seal_with(key(2))] {
            let error = Unpacker::new(keys).unpack(&web(), &record).expect_err("not its key");
            prop_assert_eq!(error.kind(), ErrorKind::Denied);
            let named = key(1).id().to_string();
            prop_assert_eq!(error.fact("key"), Some(named.as_str()));
        }
    }

    #[test]
    fn c5_a_flipped_bit_of_a_sealed_frame_never_passes(at in any::<prop::sample::Index>()) {
        let record = packed(&Packer::new(Codec::Zstd, Keyring::new().seal_with(key(1))), &web(), &secret());
        let mut bytes = frame(&record).to_vec();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let damaged = Record { payload: Payload::Sealed(bytes.into()), ..record };
        let checked = Unpacker::new(Keyring::new()).check(&web(), &damaged);
        prop_assert_eq!(checked.expect_err("damaged").kind(), ErrorKind::Corrupt);
        let opened = Unpacker::new(Keyring::new().seal_with(key(1))).unpack(&web(), &damaged);
        match bit / 8 {
            // What stands for those who have no key.
            8..16 => prop_assert_eq!(opened.expect("its key").expect("not zeros"), secret()),
            _ => prop_assert_eq!(opened.expect_err("damaged").kind(), ErrorKind::Corrupt),
        }
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), seal in 0..3_u8) {
        let mut bytes = bytes;
        for (at, byte) in [1, 1, seal, 0].into_iter().enumerate().take(bytes.len()) {
            bytes[at] = byte;
        }
        let payload = Payload::Sealed(bytes.into());
        let record = Record { disk: "data".into(), run: Run::new(0, 4096), checksum: 1, payload };
        Unpacker::new(Keyring::new().seal_with(key(1))).unpack(&web(), &record).expect_err("garbage");
    }
}

#[test]
fn c5_a_record_that_is_put_elsewhere_does_not_open() {
    let packer = Packer::new(Codec::Raw, Keyring::new().seal_with(key(1)));
    let unpacker = Unpacker::new(Keyring::new().seal_with(key(1)));
    let record = packed(&packer, &web(), &secret());
    unpacker.unpack(&web(), &record).expect("in its place");
    let moved = Record { run: Run::new(16_384, record.run.len), ..record.clone() };
    let other = Record { disk: DiskId::from("boot"), ..record.clone() };
    for (machine, record) in [(web(), moved), (web(), other), ("db".into(), record)] {
        assert_eq!(unpacker.unpack(&machine, &record).expect_err("elsewhere").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn c5_nothing_of_the_plain_bytes_is_in_a_frame_and_no_two_are_alike() {
    let packer = || Packer::new(Codec::Raw, Keyring::new().seal_with(key(1)));
    let (one, other) = (packer(), packer());
    let frames = [&one, &one, &other].map(|packer| frame(&packed(packer, &web(), &secret())).to_vec());
    for (at, frame) in frames.iter().enumerate() {
        assert!(!frame.windows(8).any(|w| w == b"account "), "frame {at} tells");
        assert!(!frames[..at].contains(frame), "frame {at} came before");
    }
}

#[test]
fn c5_groups_have_keys_of_their_own_and_keys_rotate() {
    let old = Packer::new(Codec::Zstd, Keyring::new().seal_with(key(1)));
    let before = packed(&old, &web(), &secret());
    let keys = Keyring::new().seal_with(key(2)).seal_for(key(3), ["db".into()]).open_with(key(1));
    let packer = Packer::new(Codec::Zstd, keys.clone());
    let unpacker = Unpacker::new(keys);
    assert!(unpacker.unpack(&web(), &before).expect("from before the rotation").is_some());
    let shop = Unpacker::new(Keyring::new().open_with(key(3)));
    let db = "db".into();
    shop.unpack(&db, &packed(&packer, &db, &secret())).expect("its group's key");
    let error = shop.unpack(&web(), &packed(&packer, &web(), &secret())).expect_err("another group's");
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[test]
fn c1_a_key_is_read_from_a_file_of_its_owner_and_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("key");
    let digits = "00112233445566778899aabbccddeeff".repeat(2);
    let write = |text: &str, mode| {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
    };
    write(&format!("{digits}\n"), 0o600);
    let read = Key::read(&file).expect("a key");
    let shown = format!("{read:?} {:?}", Keyring::new().seal_with(read.clone()));
    assert!(shown.contains(&read.id().to_string()) && !shown.contains("00112233"), "{shown}");
    for (text, mode, rule) in [
        (digits.clone(), 0o640, "only its owner"),
        (digits[1..].to_owned(), 0o600, "64 hex digits"),
        (digits.replace('a', "g"), 0o600, "hex digits alone"),
    ] {
        write(&text, mode);
        let error = Key::read(&file).expect_err(rule);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let told = error.to_string();
        assert!(told.contains(rule) && !told.contains(&text[..16]), "{told}");
    }
    fs::remove_file(&file).expect("removed");
    assert_eq!(Key::read(&file).expect_err("gone").kind(), ErrorKind::NotFound);
}
