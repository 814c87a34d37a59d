//! Any bytes of the service are a list or a named refusal, without a panic, and at the price of a bounded memory.

use crate::ranges::{self, append};
use crate::{list, sas};
use allocation_counter::measure;
use site_recovery::Run;
use site_recovery_testkit::fuzz::{SPELL, fixed, mutated, write_corpus};

/// The memory that a byte of a document may cost: a range for each 24 of `<PageRange>`, and vectors that have just doubled.
const PRICE: u64 = 64;

/// The result of what costs no more than some times the bytes of the service.
fn cheap<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let mut work = Some(work);
    let cost = measure(|| result = work.take().map(|work| work())).bytes_max;
    assert!(cost < 65_536 + PRICE * bytes as u64, "{cost} bytes of memory for {bytes}");
    result.expect("it was called")
}

fn right() -> [Vec<u8>; 3] {
    let pages = "<?xml version=\"1.0\"?><PageList><PageRange><Start>0</Start><End>511</End></PageRange><ClearRange><Start>512</Start>\
                 <End>1023</End></ClearRange><PageRange><Start>4096</Start><End>8191</End></PageRange><NextMarker>a</NextMarker>\
                 </PageList>";
    let blobs = "<EnumerationResults><Blobs><Blob><Name Encoded=\"true\">a%20b</Name><Snapshot>2026-11-29T08:00:00.1Z</Snapshot>\
                 <Properties><Etag>0x8D</Etag><Content-Length>5</Content-Length></Properties><Metadata><a>&lt;</a></Metadata>\
                 </Blob><BlobPrefix><Name>c/</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>";
    let key = "<UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid><SignedStart>s</SignedStart><SignedExpiry>e\
               </SignedExpiry><SignedService>b</SignedService><SignedVersion>v</SignedVersion><Value>QUJD</Value>\
               </UserDelegationKey>";
    [pages, blobs, key].map(|text| text.as_bytes().to_vec())
}

/// All readers, over whatever the document is.
fn read(bytes: &[u8]) -> usize {
    let mut read = 0;
    let told = |what: String| assert!(what.len() < 100 && !what.contains(char::is_control), "{what:?}");
    match cheap(bytes.len(), || ranges::parse(bytes)) {
        Ok(page) => {
            let (mut all, within) = (vec![], Run::new(256, 1 << 20));
            if append(&mut all, page.ranges, within).is_ok() {
                assert!(all.windows(2).all(|w| w[0].0.end() <= w[1].0.start));
                assert!(all.iter().all(|(run, _)| run.len > 0 && run.intersection(within) == Some(*run)));
            }
            read += 1;
        }
        Err(what) => told(what),
    }
    match cheap(bytes.len(), || list::parse(bytes)) {
        Ok(_) => read += 1,
        Err(what) => told(what),
    }
    match cheap(bytes.len(), || sas::read(bytes)) {
        Ok(_) => read += 1,
        Err(what) => told(what),
    }
    read
}

#[test]
fn any_document_is_read_or_a_named_refusal() {
    for right in right() {
        assert_eq!(read(&right), 1);
    }
    let property = |choices: &[u8]| {
        let _ = read(choices);
        for right in &right() {
            let _ = read(&mutated(right, choices));
        }
    };
    fixed(property);
    for piece in ["<a/>", "<a b=''/>", "<a>b</a>", "a<b/>", "<?a?>", "&#97;<a/>", "<a>", "</a>"] {
        for root in ["PageList", "EnumerationResults", "UserDelegationKey"] {
            let _ = read(format!("<{root}>{}</{root}>", piece.repeat(20_000)).as_bytes());
        }
    }
    bolero::check!(name = "documents").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    write_corpus(env!("CARGO_MANIFEST_DIR"), "src", "documents", &right());
}
