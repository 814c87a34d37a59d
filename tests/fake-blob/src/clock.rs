//! Times as Azure writes them.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// For `Last-Modified` and its like.
pub(crate) fn http(at: OffsetDateTime) -> String {
    httpdate::fmt_http_date(at.into())
}

pub(crate) fn from_http(text: &str) -> Option<OffsetDateTime> {
    httpdate::parse_http_date(text).ok().map(OffsetDateTime::from)
}

/// To the second, as in a signature.
pub(crate) fn seconds(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (date, time) = (at.date(), at.time());
    format!("{date}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

/// To a tenth of a microsecond, as the name of a snapshot.
pub(crate) fn snapshot(at: OffsetDateTime) -> String {
    let whole = seconds(at);
    format!("{}.{:07}Z", whole.trim_end_matches('Z'), at.nanosecond() / 100)
}

/// Any of the forms that a signature may use.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    OffsetDateTime::parse(&whole, &Rfc3339).ok()
}
