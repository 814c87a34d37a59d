//! `If-Match` and its like.

use crate::answer::Refused;
use crate::call::Call;
use crate::clock;
use crate::world::Stamp;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Change,
    /// Makes the blob, or puts it anew.
    Put,
}

/// `found` is what there is under the name.
pub(crate) fn check(call: &Call, found: Option<&Stamp>, purpose: Purpose) -> Result<(), Refused> {
    let not_met = |status| {
        Refused::new(
            status,
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        )
    };
    let date = |name: &'static str| {
        let parse = |value| clock::from_http(value).ok_or_else(|| Refused::bad_header(name));
        call.header(name).map(parse).transpose()
    };
    let unchanged = if purpose == Purpose::Read { 304 } else { 412 };
    if let Some(wanted) = call.header("if-match")
        && !found.is_some_and(|found| wanted == "*" || wanted == found.etag)
    {
        return Err(not_met(412));
    }
    match call.header("if-none-match") {
        Some("*") if found.is_some() && purpose == Purpose::Put => {
            return Err(Refused::new(409, "BlobAlreadyExists", "The specified blob already exists."));
        }
        Some("*") if found.is_some() => return Err(not_met(unchanged)),
        Some(etag) if found.is_some_and(|found| found.etag == etag) => return Err(not_met(unchanged)),
        _ => {}
    }
    let Some(found) = found else { return Ok(()) };
    let changed = found.at.replace_nanosecond(0).unwrap_or(found.at);
    if date("if-modified-since")?.is_some_and(|since| changed <= since) {
        return Err(not_met(unchanged));
    }
    if date("if-unmodified-since")?.is_some_and(|since| changed > since) {
        return Err(not_met(412));
    }
    Ok(())
}

/// `x-ms-source-if-match` and `-if-none-match`, of what is copied.
pub(crate) fn check_source(call: &Call, found: &Stamp) -> Result<(), Refused> {
    let matches =
        call.header("x-ms-source-if-match").is_none_or(|wanted| wanted == "*" || wanted == found.etag);
    let differs =
        call.header("x-ms-source-if-none-match").is_none_or(|other| other != "*" && other != found.etag);
    if matches && differs {
        return Ok(());
    }
    Err(Refused::new(
        412,
        "SourceConditionNotMet",
        "The source condition specified using HTTP conditional header(s) is not met.",
    ))
}

/// `x-ms-if-sequence-number-eq`, `-le`, `-lt`.
pub(crate) fn check_sequence(call: &Call, sequence: u64) -> Result<(), Refused> {
    let holds = |name, test: fn(&u64, &u64) -> bool| {
        call.number(name).map(|wanted| wanted.is_none_or(|wanted| test(&sequence, &wanted)))
    };
    if holds("x-ms-if-sequence-number-eq", u64::eq)?
        && holds("x-ms-if-sequence-number-le", u64::le)?
        && holds("x-ms-if-sequence-number-lt", u64::lt)?
    {
        return Ok(());
    }
    Err(Refused::new(
        412,
        "SequenceNumberConditionNotMet",
        "The sequence number condition specified was not met.",
    ))
}
