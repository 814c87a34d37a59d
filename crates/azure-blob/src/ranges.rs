//! Lists of pages: which hold data, and which have been written or cleared since.

use crate::xml::walk;
use site_recovery::Run;

/// What has happened to pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// They hold other bytes, maybe.
    Written,
    /// They hold zeros.
    Cleared,
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// In the order of the list, which is that of the blob.
    pub(crate) ranges: Vec<(Run, Change)>,
    /// Where the next one begins.
    pub(crate) next: Option<String>,
}

/// Reads a `PageList`. `PageRange` and `ClearRange` may take turns in any way.
pub(crate) fn parse(body: &[u8]) -> Result<Page, String> {
    let mut page = Page { ranges: vec![], next: None };
    let (mut first, mut last) = (None, None);
    walk(body, |element| {
        match element.path {
            ["PageList", "PageRange" | "ClearRange", "Start"] => first = Some(number(element.text)?),
            ["PageList", "PageRange" | "ClearRange", "End"] => last = Some(number(element.text)?),
            ["PageList", kind @ ("PageRange" | "ClearRange")] => {
                let (Some(start), Some(end)) = (first.take(), last.take()) else {
                    return Err("a range has no start or no end".into());
                };
                // The end is the last byte, not the one after it.
                let len = u64::checked_sub(end, start).and_then(|less| less.checked_add(1));
                let len = len.filter(|len| start.checked_add(*len).is_some());
                let run = Run::new(start, len.ok_or("a range ends before it begins")?);
                let change = if *kind == "PageRange" { Change::Written } else { Change::Cleared };
                page.ranges.push((run, change));
            }
            ["PageList", "NextMarker"] if !element.text.is_empty() => {
                page.next = Some(element.text.to_owned())
            }
            ["PageList", ..] => {}
            _ => return Err("it is no list of pages".into()),
        }
        Ok(())
    })?;
    Ok(page)
}

fn number(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| "a range is no number".into())
}

/// Appends ranges that follow, cut at `within`; those that touch and are alike become one. Refuses what does not follow.
pub(crate) fn append(
    all: &mut Vec<(Run, Change)>,
    more: Vec<(Run, Change)>,
    within: Run,
) -> Result<(), String> {
    for (run, change) in more {
        let Some(run) = run.intersection(within) else { continue };
        match all.last_mut() {
            Some((last, _)) if last.end() > run.start => return Err("its ranges are not in order".into()),
            Some((last, same)) if last.end() == run.start && *same == change => last.len += run.len,
            _ => all.push((run, change)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Azure sends a difference: with a byte order mark, and the two kinds taking turns.
    const TURNS: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>\
        <PageRange><Start>0</Start><End>511</End></PageRange><ClearRange><Start>512</Start><End>1023</End></ClearRange>\
        <PageRange><Start>1024</Start><End>2047</End></PageRange><PageRange><Start>2048</Start><End>2559</End></PageRange>\
        <ClearRange><Start>4096</Start><End>8191</End></ClearRange><NextMarker>a&amp;b</NextMarker></PageList>";

    #[test]
    fn pages_that_were_written_and_cleared_take_turns() {
        use Change::{Cleared, Written};
        let page = parse(TURNS.as_bytes()).expect("a list");
        assert_eq!(page.next.as_deref(), Some("a&b"));
        let mut all = vec![];
        append(&mut all, page.ranges, Run::new(256, 6_000)).expect("in order");
        let wanted = [
            (Run::new(256, 256), Written),
            (Run::new(512, 512), Cleared),
            (Run::new(1024, 1536), Written),
            (Run::new(4096, 2160), Cleared),
        ];
        assert_eq!(all, wanted);
        append(&mut all, vec![(Run::new(6256, 0), Cleared)], Run::new(256, 6_000)).expect("nothing");
        assert_eq!(all.len(), 4);
        let error = append(&mut all, vec![(Run::new(4608, 512), Written)], Run::new(0, 1 << 20));
        assert!(error.is_err(), "out of order");
    }

    #[test]
    fn what_is_no_list_of_pages_is_refused() {
        let end = "18446744073709551615";
        let cases = [
            String::new(),
            "<PageList>".into(),
            "<PageList/><PageList>".into(),
            "<EnumerationResults/>".into(),
            "<PageList><PageRange><Start>0</Start></PageRange></PageList>".into(),
            "<PageList><PageRange><Start>9</Start><End>7</End></PageRange></PageList>".into(),
            "<PageList><PageRange><Start>x</Start><End>7</End></PageRange></PageList>".into(),
            format!("<PageList><PageRange><Start>0</Start><End>{end}</End></PageRange></PageList>"),
            "<!DOCTYPE a [<!ENTITY b \"c\">]><PageList>&b;</PageList>".into(),
            "<PageList>&b;</PageList>".into(),
            "<a>".repeat(100),
        ];
        for case in cases {
            assert!(parse(case.as_bytes()).is_err(), "{case}");
        }
        assert_eq!(parse(b"<PageList/>").expect("none"), Page { ranges: vec![], next: None });
    }
}
