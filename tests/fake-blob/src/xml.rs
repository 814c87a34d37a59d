//! Text that stands in XML.

/// Escaped.
pub(crate) fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escaped, for between quotes.
pub(crate) fn quoted(value: &str) -> String {
    text(value).replace('"', "&quot;")
}

/// An element with a text in it.
pub(crate) fn element(name: &str, value: impl ToString) -> String {
    format!("<{name}>{}</{name}>", text(&value.to_string()))
}
