//! Text of others on the page: isolated, cut where it is very long, and visible where it would hide or turn something.

use maud::{Markup, html};
use site_recovery::{Severity, Timestamp};
use std::borrow::Cow;
use std::time::Duration;

/// Characters of a name, a code, a reach.
pub(super) const LINE: usize = 120;
/// Characters of a reason, a note.
const PROSE: usize = 2_000;

pub(super) fn clipped(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((at, _)) => Cow::Owned(format!(
            "{}… (cut: {} characters, whole in the JSON)",
            &text[..at],
            text.chars().count()
        )),
    }
}

/// What somebody else has named. A name that is written from right to left turns nothing beside it.
pub(super) fn name(text: &str) -> Markup {
    html! { bdi { (clipped(text, LINE)) } }
}

/// What somebody else has told.
pub(super) fn prose(text: &str) -> Markup {
    html! { bdi { (clipped(text, PROSE)) } }
}

/// `2026-01-01 08:00:00.000 UTC` for people, RFC 3339 for programs.
pub(super) fn time(at: Timestamp) -> Markup {
    let stamp = at.to_string();
    html! { time datetime=(stamp) { (stamp) } }
}

pub(super) fn time_or(at: Option<Timestamp>, otherwise: &str) -> Markup {
    html! { @match at { Some(at) => (time(at)), None => (otherwise) } }
}

pub(super) fn span_or(span: Option<Duration>, otherwise: &str) -> String {
    span.map_or_else(|| otherwise.to_owned(), crate::words::span)
}

pub(super) fn badge(class: &str, sign: &str, word: &str) -> Markup {
    html! { span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (word) } }
}

pub(super) fn severity(severity: Severity) -> Markup {
    match severity {
        Severity::Info => badge("info", "i", "Info"),
        Severity::Warning => badge("warn", "△", "Warning"),
        Severity::Critical => badge("bad", "✗", "Critical"),
    }
}

/// The head of a table; these of its columns hold numbers.
pub(super) fn columns(names: &[&str], numbers: &[&str]) -> Markup {
    html! {
        thead { tr { @for name in names { th scope="col" class=[numbers.contains(name).then_some("number")] { (name) } } } }
    }
}

/// A list, or nothing.
pub(super) fn list(all: &[String]) -> Markup {
    html! { @if !all.is_empty() { ul { @for one in all { li { (prose(one)) } } } } }
}

/// Replaces what no page may hold, and what turns the direction of writing, by its number. Markup has none of these.
pub(super) fn visible(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    for c in page.chars() {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}');
        // XML has no place for these at all; HTML calls them errors.
        let forbidden = c.is_control() && !matches!(c, '\n' | '\t')
            || u32::from(c) & 0xfffe == 0xfffe
            || matches!(c, '\u{fdd0}'..='\u{fdef}');
        if hidden || forbidden {
            out.push_str(&format!("⟨U+{:04X}⟩", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}
