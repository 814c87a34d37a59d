//! What a document may cost, looked at before it is parsed: the parser takes any depth, looks at each pair of attributes of
//! an element, and keeps the namespaces of each element.

/// Elements inside each other. A chain of 32 snapshots is the deepest that there is.
const DEEPEST: usize = 128;
/// Attributes of one element.
const MOST_OF_ONE: usize = 16;
/// Namespaces in scope.
const MOST_IN_SCOPE: usize = 32;
/// Elements, attributes and texts of a document. A page of 100 machines has some 150,000.
pub(super) const MOST_NODES: u32 = 1 << 20;

/// Whether these bytes may be given to the parser. What is no XML passes: the parser says so better.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let (mut rest, mut spaces, mut attributes) = (text, vec![0], 0);
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let passed = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        if let Some((open, close)) = passed.into_iter().find(|(open, _)| rest.starts_with(open)) {
            let inside = &rest[open.len()..];
            let Some(end) = inside.find(close) else { return Ok(()) };
            rest = &inside[end + close.len()..];
            continue;
        }
        if rest.starts_with("<!") {
            return Err("it defines what XML of this protocol does not define");
        }
        let tag = Tag::of(rest);
        rest = &rest[tag.len..];
        if tag.closes {
            spaces.pop();
            continue;
        }
        attributes += tag.attributes;
        if tag.attributes > MOST_OF_ONE || attributes > MOST_NODES as usize {
            return Err("it has too many attributes");
        }
        let in_scope = spaces.last().unwrap_or(&0) + tag.namespaces;
        if in_scope > MOST_IN_SCOPE {
            return Err("it has too many namespaces");
        }
        if !tag.ends_itself {
            spaces.push(in_scope);
        }
        if spaces.len() > DEEPEST {
            return Err("it is too deep");
        }
    }
    Ok(())
}

struct Tag {
    len: usize,
    closes: bool,
    ends_itself: bool,
    attributes: usize,
    namespaces: usize,
}

impl Tag {
    /// The one that begins here, up to its end outside of quotes.
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut quote, mut attributes, mut namespaces, mut len) = (None, 0, 0, bytes.len());
        for (at, &byte) in bytes.iter().enumerate() {
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'=') => attributes += 1,
                (None, b'x') if at > 0 && bytes[at - 1].is_ascii_whitespace() => {
                    namespaces += usize::from(bytes[at..].starts_with(b"xmlns"));
                }
                (None, b'>') => {
                    len = at + 1;
                    break;
                }
                (None, _) => {}
            }
        }
        let ends_itself = bytes[..len].ends_with(b"/>");
        Self { len, closes: bytes.starts_with(b"</"), ends_itself, attributes, namespaces }
    }
}
