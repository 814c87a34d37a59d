//! Any bytes of a server are an answer or a named error, without a panic, and at the price of a bounded memory.

use crate::changed;
use crate::collect::Properties;
use crate::fault::Fault;
use crate::lease::Terms;
use crate::machine::Machine;
use crate::service::ServiceContent;
use crate::task::TaskInfo;
use crate::xml::{list, moment, parse};
use crate::{DatastorePath, Error, names};
use allocation_counter::measure;
use reqwest::Url;
use site_recovery_testkit::fuzz::{SPELL, fixed, mutated, write_corpus};

/// The memory that a byte of a document may cost: a node for each four of `<a/>`, and vectors that have just doubled.
const PRICE: u64 = 128;

/// The result of what costs no more than some times the bytes of the server.
fn cheap<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let mut work = Some(work);
    let cost = measure(|| result = work.take().map(|work| work())).bytes_max;
    assert!(cost < 65_536 + PRICE * bytes as u64, "{cost} bytes of memory for {bytes}");
    result.expect("it was called")
}

const ESXI: &str = include_str!("../tests/recorded/machine_esxi.xml");
const SIMULATOR: &str = include_str!("../tests/recorded/machine_simulator.xml");

fn machines() -> [Vec<u8>; 2] {
    let whole = |inside: &str| {
        let space = "http://www.w3.org/2001/XMLSchema-instance";
        format!("<r xmlns:xsi=\"{space}\"><returnval>{inside}<token>t</token></returnval></r>").into_bytes()
    };
    [whole(ESXI), whole(SIMULATOR)]
}

fn others() -> [Vec<u8>; 4] {
    let areas = "<returnval><startOffset>0</startOffset><length>1000</length><changedArea><start>0</start><length>64</length>\
                 </changedArea><changedArea><start>100</start><length>64</length></changedArea></returnval>";
    let task = "<info><state>error</state><progress>40</progress><error><fault><name>x</name></fault><localizedMessage>no\
                </localizedMessage></error><completeTime>2026-11-29T08:00:00.25+09:00</completeTime></info>";
    let content = "<returnval><rootFolder type=\"Folder\">f</rootFolder><propertyCollector type=\"P\">p</propertyCollector>\
                   <viewManager type=\"V\">v</viewManager><about><apiType>HostAgent</apiType></about>\
                   <sessionManager type=\"S\">s</sessionManager></returnval>";
    let lease = "<info><leaseTimeout>300</leaseTimeout><deviceUrl><key>/7/ParaVirtualSCSIController0:0</key><disk>true</disk>\
                 <url>https://*/ha-nfc/52-a/disk-0.vmdk</url></deviceUrl></info>";
    [areas, task, content, lease].map(|text| text.as_bytes().to_vec())
}

/// All readers, over whatever the document is.
fn read(bytes: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let document = match parse(text) {
        Ok(document) => document,
        Err(Error::Garbage { what }) => {
            assert!(what.len() < 200 && !what.contains(char::is_control), "{what:?}");
            return 0;
        }
        Err(other) => panic!("{other:?}"),
    };
    let root = document.root_element();
    let server = Url::parse("https://esx.example:8443/").expect("right");
    let mut read = 0;
    for node in root.descendants() {
        if let Ok(areas) = changed::of(node, 0, 1000) {
            assert!(areas.windows(2).all(|w| w[0].end() <= w[1].start));
            assert!(areas.iter().all(|a| a.len > 0 && a.end() <= 1000));
        }
        let shown = Fault::of(node).to_string();
        assert!(shown.len() < 2_000 && !shown.contains(char::is_control), "{shown:?}");
        if let Ok(terms) = Terms::of(node, &server) {
            assert!(!terms.every.is_zero() && terms.devices.iter().all(|d| d.address.scheme() == "https"));
        }
        let _ = (TaskInfo::of(node), ServiceContent::of(node));
        for object in list(node, "objects") {
            let machine = Properties::of(object, "propSet").and_then(|p| Machine::whole(&p));
            read += usize::from(machine.is_ok());
        }
    }
    read
}

#[test]
fn any_document_is_read_or_a_named_error() {
    for right in machines() {
        assert_eq!(read(&right), 1);
    }
    let property = |choices: &[u8]| {
        let _ = read(choices);
        for right in machines().iter().chain(&others()) {
            let _ = read(&mutated(right, choices));
        }
    };
    fixed(property);
    bolero::check!(name = "documents").with_test_time(SPELL).for_each(property);
}

#[test]
fn any_document_is_parsed_at_a_bounded_price() {
    let property = |choices: &[u8]| {
        for right in machines().iter().chain(&others()) {
            let bytes = mutated(right, choices);
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            cheap(bytes.len(), || drop(parse(text)));
        }
    };
    fixed(property);
    let dear = [
        "<a/>",
        "<a b=''/>",
        "<a b='' c='' d='' e=''/>",
        "<a xmlns:b='c'/>",
        "<a>b</a>",
        "a<b/>",
        "<?a?>",
        "&#97;<a/>",
    ];
    for piece in dear {
        let text = format!("<r>{}</r>", piece.repeat(20_000));
        cheap(text.len(), || drop(parse(&text)));
    }
    // Each of many elements is within many namespaces.
    let outer: String = (0..30).map(|n| format!("<a xmlns:p{n}='u{n}'>")).collect();
    let text = format!("{outer}{}{}", "<p0:b xmlns:q='v'/>".repeat(20_000), "</a>".repeat(30));
    cheap(text.len(), || drop(parse(&text)));
}

#[test]
fn any_text_is_a_path_a_moment_a_name_or_none() {
    let property = |choices: &[u8]| {
        for right in ["[fast] web/web.vmdk", "2026-11-29T08:00:00.25+09:00", "a%2fb%5c%25"] {
            let bytes = mutated(right.as_bytes(), choices);
            let text = String::from_utf8_lossy(&bytes);
            let _ = moment(&text);
            if let Ok(path) = text.parse::<DatastorePath>() {
                assert_eq!(path.to_string().parse::<DatastorePath>().ok(), Some(path));
            }
            assert_eq!(names::unescaped(&names::in_argument(&text)), text);
            assert_eq!(names::unescaped(&names::in_config(&text)), text);
            let _ = names::unescaped(&text);
        }
    };
    fixed(property);
    bolero::check!(name = "texts").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let write = |target, bytes: &[Vec<u8>]| write_corpus(env!("CARGO_MANIFEST_DIR"), "src", target, bytes);
    let all: Vec<Vec<u8>> = machines().into_iter().chain(others()).collect();
    write("documents", &all);
    write("texts", &[b"[fast] web/web.vmdk".to_vec(), b"2026-11-29T08:00:00.25+09:00".to_vec()]);
}
