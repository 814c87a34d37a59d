//! What a block of 64 KiB costs to pack and to unpack, by what is in it, by codec, and with a seal or without.
//!
//! `cargo bench -p site-recovery-record --bench frames [-- FILTER]`

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use site_recovery::{Form, MachineId, Run};
use site_recovery_record::{Codec, KEY_BYTES, Key, Keyring, Packer, Unpacker};
use std::time::Duration;

const BLOCK: usize = 64 << 10;
const CODECS: [Codec; 3] = [Codec::Raw, Codec::Lz4, Codec::Zstd];

fn frames(criterion: &mut Criterion) {
    let (machine, disk, run) = (MachineId::from("web"), "root".into(), Run::new(0, BLOCK as u64));
    for (content, plain) in contents() {
        let mut group = criterion.benchmark_group(format!("64 KiB of {content}"));
        group.throughput(Throughput::Bytes(BLOCK as u64)).sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        for codec in CODECS {
            for (seal, keys) in [("open", Keyring::new()), ("sealed", sealing())] {
                let (packer, unpacker) = (Packer::new(codec, keys.clone()), Unpacker::new(keys));
                group.bench_function(format!("pack {codec:?} {seal}"), |bencher| {
                    bencher.iter(|| packer.pack(&machine, &disk, run, plain.clone(), Form::Sealed));
                });
                let record = packer.pack(&machine, &disk, run, plain.clone(), Form::Sealed);
                group.bench_function(format!("unpack {codec:?} {seal}"), |bencher| {
                    bencher.iter(|| unpacker.unpack(&machine, &record).expect("it was packed here"));
                });
            }
        }
        group.finish();
    }
}

/// A part of this program, which is like what disks hold; bytes that do not compress; and zeros.
fn contents() -> [(&'static str, Bytes); 3] {
    let program = std::env::current_exe().and_then(std::fs::read).expect("a program can read itself");
    let middle = program.len() / 2;
    let mut state = 1_u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    [
        ("a program", Bytes::copy_from_slice(&program[middle..middle + BLOCK])),
        ("noise", random.take(BLOCK / 8).flatten().collect()),
        ("zeros", vec![0; BLOCK].into()),
    ]
}

fn sealing() -> Keyring {
    Keyring::new().seal_with(Key::new([7; KEY_BYTES]))
}

criterion_group!(benches, frames);
criterion_main!(benches);
