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
