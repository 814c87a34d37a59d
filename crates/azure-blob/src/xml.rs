//! What the service lists, read as it comes: elements by their names from the root on, with their text. Neither depth nor length
//! is the service's to choose.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use std::borrow::Cow;

/// Elements inside each other. `EnumerationResults/Blobs/Blob/Metadata/name` is the deepest that is read.
const DEEPEST: usize = 16;
/// The longest text of one element. A value of metadata may have 8 KiB.
const LONGEST: usize = 64 << 10;

/// An element that has just ended.
pub(crate) struct Element<'a> {
    /// The names of those that it is in, from the root on, and its own.
    pub(crate) path: &'a [&'a str],
    /// What it holds beside elements.
    pub(crate) text: &'a str,
    /// Whether that is percent-encoded, as a name is that XML cannot hold.
    pub(crate) encoded: bool,
}

struct Open {
    name: String,
    text: String,
    encoded: bool,
}

/// Shows each element of a document at its end, in their order.
pub(crate) fn walk(
    body: &[u8],
    mut seen: impl FnMut(Element<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not in UTF-8")?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Open> = vec![];
    let mut whole = false;
    loop {
        let event = reader.read_event().map_err(|_| "it is no XML")?;
        match event {
            Event::Start(start) => {
                push(&mut open, &start)?;
            }
            Event::Empty(start) => {
                push(&mut open, &start)?;
                end(&mut open, &mut seen)?;
            }
            Event::End(_) => end(&mut open, &mut seen)?,
            Event::Text(text) => append(&mut open, &text.decode().map_err(|_| "it is not in UTF-8")?)?,
            Event::CData(text) => append(&mut open, &text.decode().map_err(|_| "it is not in UTF-8")?)?,
            Event::GeneralRef(reference) => append(&mut open, &character(&reference)?)?,
            Event::DocType(_) => return Err("it has a DTD".into()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        whole |= open.is_empty() && reader.buffer_position() > 0;
    }
    if open.is_empty() && whole { Ok(()) } else { Err("it ends too early".into()) }
}

fn push(open: &mut Vec<Open>, start: &BytesStart<'_>) -> Result<(), String> {
    if open.len() >= DEEPEST {
        return Err("it is too deep".into());
    }
    let name = String::from_utf8_lossy(start.local_name().into_inner()).into_owned();
    let encoded = start.try_get_attribute("Encoded").map_err(|_| "it is no XML")?;
    let encoded = encoded.is_some_and(|a| a.value.as_ref() == b"true");
    open.push(Open { name, text: String::new(), encoded });
    Ok(())
}

fn end(open: &mut Vec<Open>, seen: &mut impl FnMut(Element<'_>) -> Result<(), String>) -> Result<(), String> {
    let path: Vec<&str> = open.iter().map(|o| o.name.as_str()).collect();
    let last = open.last().ok_or("it ends what has not begun")?;
    seen(Element { path: &path, text: &last.text, encoded: last.encoded })?;
    open.pop();
    Ok(())
}

fn append(open: &mut [Open], text: &str) -> Result<(), String> {
    let Some(last) = open.last_mut() else {
        return if text.trim().is_empty() { Ok(()) } else { Err("it is no XML".into()) };
    };
    if last.text.len() + text.len() > LONGEST {
        return Err("a text is too long".into());
    }
    last.text.push_str(text);
    Ok(())
}

fn character(reference: &BytesRef<'_>) -> Result<Cow<'static, str>, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| "it is no XML")? {
        return Ok(Cow::Owned(character.to_string()));
    }
    Ok(Cow::Borrowed(match reference.as_ref() {
        b"amp" => "&",
        b"lt" => "<",
        b"gt" => ">",
        b"quot" => "\"",
        b"apos" => "'",
        _ => return Err("it refers to what it does not define".into()),
    }))
}
