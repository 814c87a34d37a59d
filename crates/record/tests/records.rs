//! What is packed is unpacked, and what was damaged is named.

use bytes::Bytes;
use proptest::prelude::*;
use site_recovery::{DiskId, ErrorKind, Form, Payload, Record, Result, Run};
use site_recovery_record::{Codec, Keyring, MOST_BYTES, Packer, Unpacker, checksum, hash, is_zero};

fn pack(disk: &DiskId, run: Run, plain: Bytes, form: Form, codec: Codec) -> Record {
    Packer::new(codec, Keyring::new()).pack(&"m".into(), disk, run, plain, form)
}

fn unpack(record: &Record) -> Result<Option<Bytes>> {
    Unpacker::new(Keyring::new()).unpack(&"m".into(), record)
}

fn check(record: &Record) -> Result<()> {
    Unpacker::new(Keyring::new()).check(&"m".into(), record)
}

fn disk() -> DiskId {
    "data".into()
}

fn packed(plain: &[u8], form: Form, codec: Codec) -> Record {
    pack(&disk(), Run::new(8192, plain.len() as u64), Bytes::copy_from_slice(plain), form, codec)
}

fn frame(record: &Record) -> &Bytes {
    match &record.payload {
        Payload::Sealed(frame) => frame,
        other => panic!("not sealed: {other:?}"),
    }
}

fn text(len: usize) -> Vec<u8> {
    b"recovery ".iter().copied().cycle().take(len).collect()
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..5000),
        (1..70_000_usize).prop_map(text),
        (1..9000_usize).prop_map(|len| vec![0; len]),
        (1..9000_usize, any::<prop::sample::Index>()).prop_map(|(len, at)| {
            let mut bytes = vec![0; len];
            bytes[at.index(len)] = 1;
            bytes
        }),
    ]
}

fn forms() -> impl Strategy<Value = (Form, Codec)> {
    prop_oneof![
        Just((Form::Plain, Codec::Raw)),
        Just((Form::Sealed, Codec::Raw)),
        Just((Form::Sealed, Codec::Zstd)),
        Just((Form::Sealed, Codec::Lz4))
    ]
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(plain in contents(), (form, codec) in forms()) {
        let record = packed(&plain, form, codec);
        let zero = plain.iter().all(|b| *b == 0);
        prop_assert_eq!(record.checksum, if zero { 0 } else { hash(&plain) });
        check(&record).expect("whole");
        match unpack(&record).expect("whole") {
            Some(bytes) => prop_assert_eq!(&bytes, &plain),
            None => prop_assert!(zero),
        }
        let mut into = vec![7; plain.len()];
        Unpacker::new(Keyring::new()).unpack_into(&"m".into(), &record, &mut into).expect("whole");
        prop_assert_eq!(into, plain.clone());
        if let Payload::Sealed(frame) = &record.payload {
            prop_assert!(frame.len() <= plain.len() + 16);
        }
    }

    #[test]
    fn a_flipped_bit_never_passes(plain in contents(), (form, codec) in forms(), at in any::<prop::sample::Index>()) {
        let mut record = packed(&plain, form, codec);
        let flip = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(bytes)
        };
        record.payload = match &record.payload {
            Payload::Zero => { record.checksum ^= 1 << at.index(128); Payload::Zero }
            Payload::Plain(bytes) => Payload::Plain(flip(bytes)),
            Payload::Sealed(bytes) => Payload::Sealed(flip(bytes)),
        };
        prop_assert_eq!(check(&record).expect_err("damaged").kind(), ErrorKind::Corrupt);
        // There are bits that mean nothing to the bytes: then they must be the right ones.
        match unpack(&record) {
            Ok(bytes) => prop_assert_eq!(bytes.expect("not zeros"), plain),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }

    #[test]
    fn garbage_is_corrupt(bytes in prop::collection::vec(any::<u8>(), 0..200), known in any::<bool>(), start: u64, len: u64) {
        let mut bytes = bytes;
        let len = if known { len % MOST_BYTES } else { len };
        if known && bytes.len() >= 8 {
            let codec = bytes[0] % 3;
            bytes[..4].copy_from_slice(&[1, codec, 0, 0]);
            bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        }
        let record = Record { disk: disk(), run: Run { start, len }, checksum: 1, payload: Payload::Sealed(bytes.into()) };
        let error = unpack(&record).expect_err("garbage");
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        prop_assert_eq!(error.fact("disk"), Some("data"));
        prop_assert_eq!(check(&record).expect_err("garbage").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn zero_is_only_zero(bytes in contents()) {
        prop_assert_eq!(is_zero(&bytes), bytes.iter().all(|b| *b == 0));
    }
}

#[test]
fn truncated_frames_are_corrupt_and_name_disk_and_run() {
    for codec in [Codec::Raw, Codec::Zstd, Codec::Lz4] {
        let whole = packed(&text(4096), Form::Sealed, codec);
        for len in 0..frame(&whole).len() {
            let cut = Record { payload: Payload::Sealed(frame(&whole).slice(..len)), ..whole.clone() };
            let error = unpack(&cut).expect_err("truncated");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert_eq!((error.fact("disk"), error.fact("run")), (Some("data"), Some("8192+4096")));
        }
    }
}

#[test]
fn a_header_that_was_flipped_to_sealed_is_corrupt_and_asks_for_no_key() {
    let mut record = packed(&text(4096), Form::Sealed, Codec::Lz4);
    let mut bytes = frame(&record).to_vec();
    bytes[2] ^= 1;
    record.payload = Payload::Sealed(bytes.into());
    assert_eq!(unpack(&record).expect_err("damaged").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_frame_of_another_length_is_corrupt() {
    let mut record = packed(&text(4096), Form::Sealed, Codec::Zstd);
    record.run.len = 8192;
    assert_eq!(unpack(&record).expect_err("another length").kind(), ErrorKind::Corrupt);
    let huge = Record { run: Run::new(0, MOST_BYTES + 1), payload: Payload::Zero, ..record };
    assert_eq!(unpack(&huge).expect_err("too long").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_codec_that_does_not_help_is_dropped() {
    let mut seed = 7_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(65_536)
    .collect();
    for codec in [Codec::Zstd, Codec::Lz4] {
        assert_eq!(frame(&packed(&noise, Form::Sealed, codec)).len(), noise.len() + 16);
        assert!(frame(&packed(&text(65_536), Form::Sealed, codec)).len() < 400);
    }
    assert_eq!(packed(&[0; 4096], Form::Sealed, Codec::Raw).payload, Payload::Zero);
}

#[test]
fn o9_frames_of_version_1_stay_readable() {
    let plain = b"site-recovery site-recovery site-recovery site-recovery";
    let raw = packed(plain, Form::Sealed, Codec::Raw);
    assert_eq!(raw.checksum, GOLDEN_HASH);
    assert_eq!(frame(&raw)[..16], [1, 0, 0, 0, 55, 0, 0, 0, 0x88, 0xac, 0x9f, 0xea, 0xbe, 0x9a, 0xda, 0x1c]);
    assert_eq!(&frame(&raw)[16..], plain);
    for golden in [GOLDEN_ZSTD, GOLDEN_LZ4] {
        let kept = Record { payload: Payload::Sealed(Bytes::from_static(golden)), ..raw.clone() };
        check(&kept).expect("whole");
        assert_eq!(unpack(&kept).expect("readable").expect("not zeros"), &plain[..]);
    }
    let mut newer = frame(&raw).to_vec();
    newer[0] = 2;
    let newer = Record { payload: Payload::Sealed(newer.into()), ..raw };
    let error = unpack(&newer).expect_err("a version that is not known is refused");
    assert!(error.to_string().contains("version 2"), "{error}");
}

const GOLDEN_HASH: u128 = 0x1faa_8ac0_7aae_ab5a_f215_d8a6_e06f_b245;
const GOLDEN_LZ4: &[u8] = b"\x01\x02\0\x007\0\0\0x\x8a\xc1H9\x7f)\xf3\xefsite-recovery \x0e\0\x10`covery";
const GOLDEN_ZSTD: &[u8] =
    b"\x01\x01\0\x007\0\0\0h\xc4\x02\xe8\xc9\xeco\xf2(\xb5/\xfd 7\xa5\0\0psite-recovery \x01\0\x02\x9aJ";

#[test]
fn a_frame_that_is_put_elsewhere_is_told_without_a_key() {
    let record = packed(&text(4096), Form::Sealed, Codec::Zstd);
    let moved = Record { run: Run::new(0, 4096), ..record.clone() };
    let other = Record { disk: "boot".into(), ..record.clone() };
    let changed = Record { checksum: record.checksum ^ 1, ..record };
    for record in [moved, other, changed] {
        assert_eq!(check(&record).expect_err("elsewhere").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn checksums_are_crc_64_nvme() {
    assert_eq!(checksum(b"123456789"), 0xae8b_1486_0a79_9888);
}
