//! Any bytes that a server sends as a disk are the disk or a named error, and cost the memory of one grain.

use super::stream_vmdk::StreamVmdk;
use super::tests::streams::{GRAIN, disk, stream};
use allocation_counter::measure;
use site_recovery::ErrorKind;
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, mutated, write_corpus};

/// The largest grain, packed and not, with vectors that have just doubled; a descriptor; what inflates.
const PRICE: u64 = 8 << 20;

fn read(bytes: &[u8], capacity: u64, choices: &[u8]) {
    let (mut choices, mut left) = (Choices(choices), bytes);
    let mut end = 0;
    let cost = measure(|| {
        let mut reader = StreamVmdk::new(capacity);
        let mut write = |at: u64, bytes: &[u8]| {
            assert!(at >= end && at + bytes.len() as u64 <= capacity, "{at} after {end}");
            end = at + bytes.len() as u64;
            Ok(())
        };
        let mut taken = Ok(());
        while taken.is_ok() && !left.is_empty() {
            let len = (1 + choices.below(4096)).min(left.len());
            taken = reader.push(&left[..len], &mut write);
            left = &left[len..];
        }
        if let Err(error) = taken.and_then(|()| reader.finish()) {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
    });
    assert!(cost.bytes_max < PRICE, "{} bytes of memory for {}", cost.bytes_max, bytes.len());
}

#[test]
fn any_bytes_are_a_disk_or_a_named_error() {
    let (disk, small) = (disk(), vec![5; GRAIN as usize]);
    let rights = [(stream(&disk), disk.len() as u64), (stream(&small), GRAIN)];
    let property = |choices: &[u8]| {
        read(choices, 1 << 20, choices);
        for (right, capacity) in &rights {
            read(&mutated(right, choices), *capacity, choices);
            // Most edits of a whole stream fall into its one long grain; these fall into what surrounds it.
            let mut edited = mutated(&right[..512], choices);
            edited.extend_from_slice(&right[512..]);
            read(&edited, *capacity, choices);
        }
    };
    fixed(property);
    bolero::check!(name = "streams").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let small = stream(&vec![5; GRAIN as usize]);
    write_corpus(env!("CARGO_MANIFEST_DIR"), "src/read", "streams", &[small]);
}
