//! What is received: a tree by [`roxmltree`], looked at by local names. A server's prefixes differ by product, so types and
//! attributes are found by namespace; what is not there is `None`, and so is an element without text.

use super::{XSI, bounds};
use crate::{Error, Moref};
use roxmltree::{Document, Node, ParsingOptions};
use std::str::FromStr;

/// The document, or what is wrong with it. None of its bytes are repeated.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, Error> {
    let garbage = |what: String| Error::Garbage { what };
    bounds::check(text).map_err(|what| garbage(format!("XML that is not taken: {what}")))?;
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: bounds::MOST_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|e| {
        garbage(match e {
            roxmltree::Error::UnclosedRootNode | roxmltree::Error::UnexpectedEndOfStream => {
                "XML that ends too early".into()
            }
            roxmltree::Error::DtdDetected => "XML that is not taken: it has a DTD".into(),
            roxmltree::Error::NodesLimitReached => "XML that is not taken: it has too many elements".into(),
            other => format!("no XML, at {}", other.pos()),
        })
    })
}

/// The first child of this name.
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    children(node).find(|c| c.tag_name().name() == name)
}

/// Those that are elements.
pub(crate) fn children<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// All children of this name.
pub(crate) fn list<'a, 'i>(node: Node<'a, 'i>, name: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    children(node).filter(move |c| c.tag_name().name() == name)
}

/// The text at the end of a path of names, `backing.fileName`.
pub(crate) fn text<'a>(node: Node<'a, '_>, path: &str) -> Option<&'a str> {
    let found = path.split('.').try_fold(node, child)?;
    found.text().filter(|text| !text.is_empty())
}

pub(crate) fn number<T: FromStr>(node: Node<'_, '_>, path: &str) -> Option<T> {
    text(node, path)?.trim().parse().ok()
}

pub(crate) fn flag(node: Node<'_, '_>, path: &str) -> Option<bool> {
    truth(text(node, path)?)
}

pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// The name of a node's type, without its prefix.
pub(crate) fn typed<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    let named = node.attribute((XSI, "type"))?;
    named.rsplit(':').next().filter(|name| !name.is_empty())
}

impl Moref {
    /// Of an element that is one, as the schema says.
    pub(crate) fn of(node: Node<'_, '_>) -> Option<Self> {
        let id = node.text().filter(|id| !id.is_empty())?;
        Some(Self::new(node.attribute("type")?, id))
    }

    pub(crate) fn at(node: Node<'_, '_>, name: &str) -> Option<Self> {
        child(node, name).and_then(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn garbage(text: &str) -> String {
        match parse(text) {
            Err(Error::Garbage { what }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn types_are_found_under_any_prefix() {
        let ways = [
            "<d xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:type='VirtualDisk'/>",
            "<d xmlns:_XMLSchema-instance='http://www.w3.org/2001/XMLSchema-instance' _XMLSchema-instance:type='VirtualDisk'/>",
            "<d xmlns:XMLSchema-instance='http://www.w3.org/2001/XMLSchema-instance' XMLSchema-instance:type='vim25:VirtualDisk'/>",
        ];
        for way in ways {
            assert_eq!(typed(parse(way).expect("XML").root_element()), Some("VirtualDisk"), "{way}");
        }
        // The attribute `type` of a reference is not it.
        let reference = parse("<d type='VirtualMachine'>vm-1</d>").expect("XML");
        assert_eq!(typed(reference.root_element()), None);
        assert_eq!(Moref::of(reference.root_element()), Some(Moref::new("VirtualMachine", "vm-1")));
    }

    #[test]
    fn what_is_empty_or_absent_is_nothing() {
        let document = parse("<r><empty></empty><no/><n>seven</n><b>maybe</b></r>").expect("XML");
        let root = document.root_element();
        for path in ["empty", "no", "absent", "absent.deeper"] {
            assert_eq!(text(root, path), None);
        }
        assert_eq!((number::<u32>(root, "n"), flag(root, "b")), (None, None));
    }

    #[test]
    fn bombs_and_what_ends_too_early_are_named() {
        let laughs = r#"<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><l>&b;</l>"#;
        assert!(garbage(laughs).contains("defines"), "{}", garbage(laughs));
        assert!(garbage(&"<a>".repeat(200)).contains("too deep"));
        let attributes: String = (0..40).map(|n| format!(" a{n}='1'")).collect();
        assert!(garbage(&format!("<a{attributes}/>")).contains("attributes"));
        let spaces: String = (0..40).map(|n| format!("<a xmlns:p{n}='u'>")).collect();
        assert!(garbage(&spaces).contains("namespaces"));
        assert!(garbage(&format!("<a>{}</a>", "<b/>".repeat(1 << 20))).contains("too many elements"));
        for early in ["<a><b>text", "<a><b></b>", "<a", ""] {
            let what = garbage(early);
            assert!(what.contains("too early") || what.contains("no XML"), "{early}: {what}");
        }
        assert!(parse("<a><!-- <!DOCTYPE --><![CDATA[<!DOCTYPE]]></a>").is_ok(), "it is only spoken of");
    }
}
