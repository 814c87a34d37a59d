//! Any bytes of a server are an answer or a named error, without a panic, and at the price of a bounded memory.

use super::{Dialect, Error, refusal, value};
use crate::{Details, Machine, ObjectId, Tag, TaggedObjects};
use allocation_counter::measure;
use serde::de::DeserializeOwned;
use site_recovery_testkit::fuzz::{SPELL, fixed, mutated, write_corpus};

/// The memory that a byte of an answer may cost: of the smallest rows that can be, in a vector that has just doubled.
const PRICE: u64 = 32;

fn right() -> [&'static [u8]; 6] {
    [
        br#"[{"vm":"vm-1","name":"web","power_state":"POWERED_ON","cpu_count":2,"memory_size_MiB":1024}]"#,
        br#"{"value":[{"tag_id":"urn:1","object_ids":[{"type":"VirtualMachine","id":"vm-1"}]}]}"#,
        br#"{"name":"a","power_state":"POWERED_OFF","guest_OS":"X","hardware":{"version":"VMX_19"},"disks":{"2000":{"label":"d",
            "capacity":1,"backing":{"type":"VMDK_FILE","vmdk_file":"[a] b"}}},"nics":{"4000":{"label":"n","type":"E1000"}}}"#,
        br#"{"value":{"name":"a","power_state":"POWERED_OFF","guest_OS":"X","hardware":{"version":"VMX_19"},"disks":
            [{"key":"2000","value":{"label":"d"}}],"nics":[{"key":"4000","value":{"label":"n","type":"E1000"}}]}}"#,
        br#"{"error_type":"NOT_FOUND","messages":[{"id":"a","default_message":"gone","args":["x"]}]}"#,
        br#"{"type":"com.vmware.vapi.std.errors.not_found","value":{"messages":[{"default_message":"gone"}]}}"#,
    ]
}

/// Whether it is one of these, in either shape.
fn is<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    [Dialect::Api, Dialect::Rest].into_iter().any(|dialect| match value::<T>(dialect, "test", bytes) {
        Ok(_) => true,
        Err(Error::Garbage { what, .. }) => {
            assert!(what.len() < 100, "{what}");
            false
        }
        Err(other) => panic!("{other:?}"),
    })
}

/// All readers; how many took it.
fn read(bytes: &[u8]) -> usize {
    let mut took = 0;
    let cost = measure(|| {
        took += usize::from(is::<Vec<Machine>>(bytes));
        took += usize::from(is::<Vec<ObjectId>>(bytes));
        took += usize::from(is::<Vec<TaggedObjects>>(bytes));
        took += usize::from(is::<Details>(bytes)) + usize::from(is::<Tag>(bytes));
        if let Some((word, words)) = refusal(bytes) {
            let shown = format!("{word}{words:?}");
            assert!(shown.len() < 20_000 && !word.as_str().contains(char::is_control), "{shown}");
            took += 1;
        }
    });
    let most = 65_536 + PRICE * bytes.len() as u64;
    assert!(cost.bytes_max < most, "{} bytes of memory for {}", cost.bytes_max, bytes.len());
    took
}

#[test]
fn any_bytes_are_an_answer_or_a_named_error_at_a_bounded_price() {
    for right in right() {
        assert_eq!(read(right), 1, "{}", String::from_utf8_lossy(right));
    }
    let many =
        |around: [&str; 2], row: &str| format!("{}{}{}", around[0], [row; 20_000].join(","), around[1]);
    let list = ["[", "]"];
    let inner = ["{\"value\":{\"disks\":[", "]}}"];
    for row in ["{}", "null", "0", "[]", r#"{"id":"","type":""}"#, r#"{"vm":"","name":"","power_state":""}"#]
    {
        read(many(list, row).as_bytes());
        read(many(inner, row).as_bytes());
        read(many(["{\"messages\":[", "],\"error_type\":\"A\"}"], row).as_bytes());
    }
    read(many(list, r#"{"tag_id":""}"#).as_bytes());
    let property = |choices: &[u8]| {
        read(choices);
        for right in right() {
            read(&mutated(right, choices));
        }
    };
    fixed(property);
    bolero::check!(name = "answers").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    write_corpus(env!("CARGO_MANIFEST_DIR"), "src/shape", "answers", &right().map(<[u8]>::to_vec));
}
