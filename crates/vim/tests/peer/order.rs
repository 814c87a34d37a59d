//! The order of VMware's schema: a real server passes by what is out of it, VMware's simulator takes any.
//!
//! `wsdl/sequences.txt` has a type per line, with its elements in order and the types of those that have any within; those of
//! the types that it extends come first. The order is that of govmomi 0.56, whose types VMware generates from the WSDL.

use roxmltree::{Document, Node};
use std::collections::BTreeMap;

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

type Sequences = BTreeMap<&'static str, Vec<(&'static str, Option<&'static str>)>>;

fn sequences() -> Sequences {
    let element = |e: &'static str| e.split_once(':').map_or((e, None), |(name, kind)| (name, Some(kind)));
    let line = |line: &'static str| {
        let (kind, elements) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        (kind, elements.split(' ').map(element).collect())
    };
    include_str!("../wsdl/sequences.txt").lines().map(line).collect()
}

/// What is wrong with a request, if anything.
pub(crate) fn check(request: &str) -> Result<(), String> {
    let document = Document::parse(request).map_err(|e| e.to_string())?;
    let body = document.descendants().find(|n| n.tag_name().name() == "Body").ok_or("no body")?;
    let call = body.first_element_child().ok_or("no call")?;
    if call.tag_name().namespace() != Some("urn:vim25") {
        return Err("the call is in another namespace".into());
    }
    let name = call.tag_name().name();
    let kind = format!("{}RequestType", name.strip_suffix("_Task").unwrap_or(name));
    within(call, &kind, &sequences())
}

fn within(node: Node<'_, '_>, kind: &str, all: &Sequences) -> Result<(), String> {
    let sequence = all.get(kind).ok_or_else(|| format!("{kind} is not among the sequences"))?;
    let (mut at, mut before) = (0, "");
    for child in node.children().filter(Node::is_element) {
        let name = child.tag_name().name();
        let place = sequence.iter().position(|(n, _)| *n == name);
        let place = place.ok_or_else(|| format!("{kind} has no {name}"))?;
        if place < at {
            return Err(format!("{name} comes after {before} in {kind}"));
        }
        (at, before) = (place, name);
        match (child.attribute((XSI, "type")), sequence[place].1) {
            (Some(named), None) => {
                assert!(named.contains(':') || named == "ManagedObjectReference", "{named}")
            }
            (_, Some("ManagedObjectReference")) => {
                child.attribute("type").ok_or_else(|| format!("{name} in {kind} is of no type"))?;
            }
            (Some(named), Some(_)) => within(child, named, all)?,
            (None, Some(declared)) => within(child, declared, all)?,
            (None, None) if child.first_element_child().is_some() => {
                return Err(format!("{name} in {kind} holds nothing by the schema"));
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn wrapped(call: &str) -> String {
    let soap = "http://schemas.xmlsoap.org/soap/envelope/";
    format!("<s:Envelope xmlns:s='{soap}' xmlns:xsi='{XSI}'><s:Body>{call}</s:Body></s:Envelope>")
}

#[test]
fn what_is_out_of_order_is_found() {
    let this = "<_this type='VirtualMachine'>vm-1</_this>";
    let call = |inside: &str| {
        check(&wrapped(&format!(
            "<ReconfigVM_Task xmlns='urn:vim25'>{this}<spec>{inside}</spec></ReconfigVM_Task>"
        )))
    };
    assert_eq!(call("<name>a</name><numCPUs>1</numCPUs><firmware>efi</firmware>"), Ok(()));
    let swapped = call("<firmware>efi</firmware><changeTrackingEnabled>true</changeTrackingEnabled>");
    assert_eq!(swapped, Err("changeTrackingEnabled comes after firmware in VirtualMachineConfigSpec".into()));
    assert_eq!(call("<nam>a</nam>"), Err("VirtualMachineConfigSpec has no nam".into()));
    let device = "<deviceChange><operation>add</operation><device xsi:type='VirtualDisk'><unitNumber>1</unitNumber>\
                  <key>-1</key></device></deviceChange>";
    assert_eq!(call(device), Err("key comes after unitNumber in VirtualDisk".into()));
}
