//! Page blobs: pages are put and cleared, and told by ranges.

use crate::answer::{Answer, Refused};
use crate::blobs::{changing, tagged, too_large};
use crate::call::{Call, Place, byte_range};
use crate::conditions::{self, Purpose};
use crate::copies;
use crate::image::Image;
use crate::ranges::Change;
use crate::world::{Content, Sunk, World};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use std::ops::Range;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

/// The most that one request puts.
const MOST: u64 = 4 << 20;

pub(crate) fn put(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    match call.required("x-ms-page-write")? {
        "update" => {}
        "clear" => return clear(world, call),
        _ => return Err(Refused::bad_header("x-ms-page-write")),
    }
    if call.body.len() as u64 > MOST {
        return Err(too_large());
    }
    let range = call.page_range()?;
    if range.end - range.start != call.body.len() as u64 {
        return Err(Refused::bad_header("Content-Length"));
    }
    if call.header("content-md5").is_some() {
        return Err(Refused::not_faked("Content-MD5"));
    }
    let crc = BASE64_STANDARD.encode(checksum(CrcAlgorithm::Crc64Nvme, &call.body).to_le_bytes());
    if call.header("x-ms-content-crc64").is_some_and(|told| told != crc) {
        return Err(Refused::new(
            400,
            "Crc64Mismatch",
            "The CRC64 value specified in the request did not match.",
        ));
    }
    Ok(write(world, call, range, &call.body)?.with("x-ms-content-crc64", crc))
}

fn write(world: &mut World, call: &Call, range: Range<u64>, bytes: &Bytes) -> Result<Answer, Refused> {
    let sink = world.sinks(&call.place);
    let answer = change(world, call, &range, |image| image.write(range.start, bytes))?;
    if sink {
        let sunk = Sunk { offset: range.start, len: bytes.len() as u64, xxh3: xxh3_64(bytes) };
        world.blob(&call.place)?.sunk.push(sunk);
    }
    Ok(answer)
}

fn clear(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let range = call.page_range()?;
    if !call.body.is_empty() {
        return Err(Refused::bad_header("Content-Length"));
    }
    change(world, call, &range, |image| image.clear(range.start, range.end - range.start))
}

fn change(
    world: &mut World,
    call: &Call,
    range: &Range<u64>,
    act: impl FnOnce(&mut Image),
) -> Result<Answer, Refused> {
    if range.end > world.blob(&call.place)?.live.image()?.size() {
        return Err(Refused::new(416, "InvalidPageRange", "The page range specified is invalid."));
    }
    let version = changing(world, call)?;
    let stamp = version.stamp.clone();
    let (image, sequence) = version.pages()?;
    act(image);
    Ok(tagged(Answer::new(201), &stamp).with("x-ms-blob-sequence-number", *sequence))
}

pub(crate) fn put_from_url(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    if call.required("x-ms-page-write")? != "update" {
        return Err(Refused::bad_header("x-ms-page-write"));
    }
    if !call.body.is_empty() {
        return Err(Refused::bad_header("Content-Length"));
    }
    let range = call.page_range()?;
    let source = call.required("x-ms-source-range")?;
    let Some((start, Some(end))) = byte_range(source) else {
        return Err(Refused::bad_header("x-ms-source-range"));
    };
    if end - start != range.end - range.start {
        return Err(Refused::bad_header("x-ms-source-range"));
    }
    if end - start > MOST {
        return Err(Refused::new(413, "RequestBodyTooLarge", "The source range is too large."));
    }
    let from = copies::source(world, call, None)?;
    conditions::check_source(call, &from.stamp)?;
    if end > from.len() {
        return Err(Refused::new(
            416,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
        ));
    }
    let bytes = match &from.content {
        Content::Block(bytes) => bytes.slice(start as usize..end as usize),
        Content::Pages { image, .. } if image.kept(&(start..end)) => image.read(start, end - start).into(),
        Content::Pages { .. } => return Err(Refused::not_faked("Reading what a sink dropped")),
    };
    write(world, call, range, &bytes)
}

pub(crate) fn list(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let now = world.now();
    world.blob(&call.place)?.lease.lets_read(call, now)?;
    let base = base(world, call)?;
    let most = world.config.range_page;
    let version = world.version(&call.place)?;
    conditions::check(call, Some(&version.stamp), Purpose::Read)?;
    let (image, stamp) = (version.image()?, version.stamp.clone());
    let mut within = match call.range()? {
        None => 0..image.size(),
        Some((start, _)) if start >= image.size() => {
            return Err(Refused::new(
                416,
                "InvalidRange",
                "The range specified is invalid for the current size of the resource.",
            ));
        }
        Some((start, end)) => start..end.unwrap_or(image.size()).min(image.size()),
    };
    if let Some(marker) = call.query("marker").filter(|marker| !marker.is_empty()) {
        within.start = unmark(marker).ok_or_else(|| Refused::bad_query("marker"))?.max(within.start);
    }
    let found = match base {
        Some(base) => image.diff_in(&base, within),
        None => image.ranges_in(within).into_iter().map(Change::Written).collect(),
    };
    let most = call.count("maxresults")?.unwrap_or(most).min(most);
    let next = found.get(most).map(|change| BASE64_STANDARD.encode(change.range().start.to_string()));
    let ranges: String = found.iter().take(most).map(element).collect();
    let size = image.size();
    let body = format!("<PageList>{ranges}<NextMarker>{}</NextMarker></PageList>", next.unwrap_or_default());
    Ok(tagged(Answer::xml(&body), &stamp).with("x-ms-blob-content-length", size))
}

fn unmark(marker: &str) -> Option<u64> {
    String::from_utf8(BASE64_STANDARD.decode(marker).ok()?).ok()?.parse().ok()
}

fn element(change: &Change) -> String {
    let name = if matches!(change, Change::Written(_)) { "PageRange" } else { "ClearRange" };
    let range = change.range();
    format!("<{name}><Start>{}</Start><End>{}</End></{name}>", range.start, range.end - 1)
}

/// What a list is the difference from.
fn base(world: &mut World, call: &Call) -> Result<Option<Image>, Refused> {
    if let Some(url) = call.header("x-ms-previous-snapshot-url") {
        if !world.exports.contains_key(&call.place.account) {
            return Err(Refused::new(
                409,
                "PreviousSnapshotOperationNotSupported",
                "Differential Get Page Ranges is not supported on the previous snapshot.",
            ));
        }
        let url = Url::parse(url).map_err(|_| Refused::bad_header("x-ms-previous-snapshot-url"))?;
        return exported(world, &Place::of(&url)).map(Some);
    }
    let Some(previous) = call.query("prevsnapshot") else { return Ok(None) };
    if call.query("snapshot").is_some_and(|at| at < previous) {
        return Err(Refused::new(
            400,
            "PreviousSnapshotCannotBeNewer",
            "The prevsnapshot query parameter value cannot be newer than snapshot query parameter value.",
        ));
    }
    let generation = world.version(&call.place)?.generation;
    let none = || Refused::new(409, "PreviousSnapshotNotFound", "The previous snapshot is not found.");
    let base = world.blob(&call.place)?.snapshots.get(previous).ok_or_else(none)?;
    if base.generation != generation {
        return Err(Refused::new(
            409,
            "BlobOverwritten",
            "The blob has been recreated since the previous snapshot was taken.",
        ));
    }
    base.image().cloned().map(Some)
}

fn exported(world: &mut World, place: &Place) -> Result<Image, Refused> {
    let now = world.now();
    let none = || Refused::new(409, "PreviousSnapshotNotFound", "The previous snapshot is not found.");
    let export = world.exports.get(&place.account).ok_or_else(none)?;
    export.check(place, "r", now)?;
    export.blob.live.image().cloned()
}
