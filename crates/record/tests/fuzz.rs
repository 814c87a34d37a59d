//! Any bytes are a record or a named error, and what was packed is unpacked.

use allocation_counter::measure;
use bytes::Bytes;
use site_recovery::{DiskId, ErrorKind, Form, MachineId, Payload, Record, Result, Run};
use site_recovery_record::{Codec, KEY_BYTES, Key, Keyring, MOST_BYTES, Packer, Unpacker, hash};
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, mutated, write_corpus};

const CODECS: [Codec; 3] = [Codec::Raw, Codec::Zstd, Codec::Lz4];

fn web() -> MachineId {
    "web".into()
}

fn keys() -> [Keyring; 2] {
    [Keyring::new(), Keyring::new().seal_with(Key::new([7; KEY_BYTES]))]
}

fn packed(codec: Codec, keys: Keyring, plain: &[u8], form: Form) -> Record {
    let run = Run::new(8192, plain.len() as u64);
    let packer = Packer::new(codec, keys);
    packer.pack(&web(), &DiskId::from("root"), run, Bytes::copy_from_slice(plain), form)
}

/// Of all codecs and seals.
fn right() -> Vec<Record> {
    let plain: Vec<u8> = b"site-recovery ".iter().copied().cycle().take(700).chain(0..=255).collect();
    let each = |keys: Keyring| CODECS.map(|codec| packed(codec, keys.clone(), &plain, Form::Sealed));
    keys().into_iter().flat_map(each).collect()
}

fn frame(record: &Record) -> &[u8] {
    match &record.payload {
        Payload::Sealed(frame) => frame,
        other => panic!("not sealed: {other:?}"),
    }
}

/// Whatever opens is what the record says, and it costs no more than a record may be long.
fn open(unpacker: &Unpacker, record: &Record) {
    let (mut checked, mut opened): (Result<()>, Result<Option<Bytes>>) = (Ok(()), Ok(None));
    let cost = measure(|| {
        checked = unpacker.check(&web(), record);
        opened = unpacker.unpack(&web(), record);
    });
    let given = if let Payload::Sealed(frame) = &record.payload { frame.len() as u64 } else { 0 };
    assert!(cost.bytes_max < MOST_BYTES + 2 * given + 65_536, "{} bytes of memory", cost.bytes_max);
    if let Err(error) = checked {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    match opened {
        Ok(None) => assert_eq!((&record.payload, record.checksum), (&Payload::Zero, 0)),
        Ok(Some(plain)) => {
            assert_eq!((plain.len() as u64, hash(&plain)), (record.run.len, record.checksum));
        }
        Err(error) => {
            assert!([ErrorKind::Corrupt, ErrorKind::Denied].contains(&error.kind()), "{error}");
            assert_eq!(error.fact("disk"), Some("root"));
        }
    }
}

#[test]
fn any_bytes_are_a_record_or_a_named_error() {
    let right = right();
    let unpackers = keys().map(Unpacker::new);
    let property = |choices: &[u8]| {
        let number = Choices(choices).number();
        for record in &right {
            let (Run { start, len }, frame) = (record.run, frame(record));
            let edited: Bytes = mutated(frame, choices).into();
            let sealed = |run, bytes| Record { run, payload: Payload::Sealed(bytes), ..record.clone() };
            // The body alone, so that the codec is reached.
            let body: Bytes = [&frame[..16], &mutated(&frame[16..], choices)].concat().into();
            let of_codec = sealed(record.run, body);
            for record in [
                sealed(record.run, edited.clone()),
                sealed(Run::new(number, len), edited.clone()),
                sealed(Run::new(start, number), edited.clone()),
                sealed(record.run, Bytes::copy_from_slice(choices)),
                of_codec,
                Record { payload: Payload::Plain(edited), ..record.clone() },
                Record { payload: Payload::Zero, run: Run::new(start, number), ..record.clone() },
            ] {
                unpackers.iter().for_each(|unpacker| open(unpacker, &record));
            }
        }
    };
    fixed(property);
    bolero::check!(name = "record").with_test_time(SPELL).for_each(property);
}

/// A frame of another length: its header, the body as it is.
#[test]
fn a_length_that_lies_costs_no_memory() {
    let property = |choices: &[u8]| {
        let len = 1 + Choices(choices).number() % MOST_BYTES;
        for record in right() {
            let mut bytes = frame(&record).to_vec();
            bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
            let payload = Payload::Sealed(mutated(&bytes, choices.get(8..).unwrap_or_default()).into());
            let record = Record { run: Run::new(0, len), payload, ..record };
            keys().map(Unpacker::new).iter().for_each(|unpacker| open(unpacker, &record));
        }
    };
    fixed(property);
}

#[test]
fn any_bytes_are_unpacked_as_they_were_packed() {
    let property = |plain: &[u8]| {
        if plain.is_empty() {
            return;
        }
        for (keys, codec) in keys().iter().flat_map(|keys| CODECS.map(|codec| (keys, codec))) {
            for form in [Form::Plain, Form::Sealed] {
                let record = packed(codec, keys.clone(), plain, form);
                let unpacker = Unpacker::new(keys.clone());
                unpacker.check(&web(), &record).expect("whole");
                let zero = vec![0; plain.len()];
                let opened = unpacker.unpack(&web(), &record).expect("whole");
                assert_eq!(opened.as_deref().unwrap_or(&zero), plain);
            }
        }
    };
    fixed(property);
    bolero::check!(name = "plain").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let frames: Vec<Vec<u8>> = right().iter().map(|record| frame(record).to_vec()).collect();
    write_corpus(env!("CARGO_MANIFEST_DIR"), "tests", "record", &frames);
    let plain = [vec![0; 4096], b"recovery ".repeat(300), frames.concat()];
    write_corpus(env!("CARGO_MANIFEST_DIR"), "tests", "plain", &plain);
}
