//! What is sent. Order is the caller's: servers of VMware read a sequence, and pass by what stands out of it.

use super::XSI;
use crate::Moref;
use std::fmt::{Display, Write};
use zeroize::Zeroizing;

/// Elements that follow each other. Wiped when it is dropped: one of them may hold a password.
#[derive(Default)]
pub(crate) struct Xml {
    written: Zeroizing<String>,
    /// Some text has a character that no XML can hold.
    unfit: bool,
}

impl Xml {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `<name>value</name>`
    pub(crate) fn text(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.open(name, &[]).escape(&Zeroizing::new(value.to_string()));
        self.close(name)
    }

    pub(crate) fn maybe(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// A value whose type is not in the schema: `xsi:type="xsd:string"`.
    pub(crate) fn any_text(&mut self, name: &str, value: &str) -> &mut Self {
        self.open(name, &[("xsi:type", "xsd:string")]).escape(value);
        self.close(name)
    }

    pub(crate) fn moref(&mut self, name: &str, object: &Moref) -> &mut Self {
        self.open(name, &[("type", &object.kind)]).escape(&object.id);
        self.close(name)
    }

    pub(crate) fn maybe_moref(&mut self, name: &str, object: Option<&Moref>) -> &mut Self {
        if let Some(object) = object {
            self.moref(name, object);
        }
        self
    }

    pub(crate) fn any_moref(&mut self, name: &str, object: &Moref) -> &mut Self {
        self.open(name, &[("xsi:type", "ManagedObjectReference"), ("type", &object.kind)]).escape(&object.id);
        self.close(name)
    }

    /// An element of the type that the schema has there.
    pub(crate) fn inside(&mut self, name: &str, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.open(name, &[]);
        write(self);
        self.close(name)
    }

    /// An element of a type that extends the schema's.
    pub(crate) fn typed(&mut self, name: &str, kind: &str, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.open(name, &[("xsi:type", kind)]);
        write(self);
        self.close(name)
    }

    /// The whole message, or nothing where some text cannot be said in XML.
    pub(crate) fn envelope(&self, method: &str, this: &Moref) -> Option<Zeroizing<String>> {
        let mut all = Self::new();
        let space = |name: &str| format!("xmlns:{name}");
        let soap = ("soapenv", "http://schemas.xmlsoap.org/soap/envelope/");
        let outer = [soap, ("xsd", "http://www.w3.org/2001/XMLSchema"), ("xsi", XSI)];
        let outer = outer.map(|(name, value)| (space(name), value));
        let outer: Vec<_> = outer.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        all.written.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        all.open("soapenv:Envelope", &outer).open("soapenv:Body", &[]);
        all.open(method, &[("xmlns", "urn:vim25")]).moref("_this", this);
        all.written.push_str(&self.written);
        all.close(method).close("soapenv:Body").close("soapenv:Envelope");
        (!self.unfit && !all.unfit).then_some(all.written)
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) -> &mut Self {
        let _ = write!(self.written, "<{name}");
        for (name, value) in attributes {
            let _ = write!(self.written, " {name}=\"");
            self.escape(value);
            self.written.push('"');
        }
        self.written.push('>');
        self
    }

    fn close(&mut self, name: &str) -> &mut Self {
        let _ = write!(self.written, "</{name}>");
        self
    }

    fn escape(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.written.push_str("&amp;"),
                '<' => self.written.push_str("&lt;"),
                '>' => self.written.push_str("&gt;"),
                '"' => self.written.push_str("&quot;"),
                // A parser would make a blank or a newline of them.
                '\t' | '\n' | '\r' => {
                    let _ = write!(self.written, "&#{};", u32::from(c));
                }
                '\0'..'\x20' | '\u{fffe}' | '\u{ffff}' => self.unfit = true,
                c => self.written.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(xml: &Xml) -> String {
        xml.envelope("Rename_Task", &Moref::new("Folder", "group-d1")).expect("fit").to_string()
    }

    #[test]
    fn whatever_a_name_holds_comes_back_as_it_was() {
        for name in ["웹 서버/1", "a%b \"c\" 'd'", "<&>]]>", " tab\t line\n end\r ", "😀", ""] {
            let mut xml = Xml::new();
            xml.text("newName", name).any_text("value", name);
            let said = said(&xml);
            let document = roxmltree::Document::parse(&said).expect("it is XML");
            let found = |tag: &str| document.descendants().find(|n| n.has_tag_name(("urn:vim25", tag)));
            for tag in ["newName", "value"] {
                assert_eq!(found(tag).and_then(|n| n.text()).unwrap_or_default(), name);
            }
        }
    }

    #[test]
    fn what_no_xml_can_hold_is_never_sent() {
        let this = Moref::new("Folder", "group-d1");
        for name in ["\0", "a\x1bb", "\u{ffff}"] {
            assert!(Xml::new().text("newName", name).envelope("Rename_Task", &this).is_none(), "{name:?}");
        }
        assert!(Xml::new().envelope("Rename_Task", &Moref::new("Folder", "\x01")).is_none());
    }

    #[test]
    fn types_that_extend_the_schema_are_named() {
        let mut xml = Xml::new();
        xml.any_moref("removeKey", &Moref::new("VirtualMachine", "vm-1"));
        xml.typed("device", "VirtualDisk", |x| {
            x.text("key", -1);
        });
        let said = said(&xml);
        assert!(said.contains(
            "<removeKey xsi:type=\"ManagedObjectReference\" type=\"VirtualMachine\">vm-1</removeKey>"
        ));
        assert!(said.contains("<device xsi:type=\"VirtualDisk\"><key>-1</key></device>"));
    }
}
