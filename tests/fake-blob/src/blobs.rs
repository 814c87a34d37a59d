//! Blobs: put, read, and what is told of them.

use crate::answer::{Answer, Refused};
use crate::call::Call;
use crate::conditions::{self, Purpose};
use crate::image::Image;
use crate::world::{Blob, Content, Stamp, Version, World};
use crate::{clock, copies};
use bytes::Bytes;
use time::OffsetDateTime;

/// The most that one Put Blob takes of a block blob.
const MOST: usize = 256 << 20;
const MOST_PAGES: u64 = 8 << 40;

pub(crate) fn put(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let sink = world.sinks(&call.place);
    let content = match call.required("x-ms-blob-type")? {
        "BlockBlob" if call.body.len() > MOST => return Err(too_large()),
        "BlockBlob" => Content::Block(call.body.clone()),
        "PageBlob" => {
            if world.vault(&call.place.account)?.account.namespace {
                return Err(Refused::new(
                    409,
                    "BlobTypeNotSupported",
                    "Page blobs are not supported on accounts with a hierarchical namespace.",
                ));
            }
            let size = page_size(call)?.ok_or_else(|| Refused::missing_header("x-ms-blob-content-length"))?;
            if !call.body.is_empty() {
                return Err(Refused::bad_header("Content-Length"));
            }
            let sequence = call.number("x-ms-blob-sequence-number")?.unwrap_or(0);
            Content::Pages { image: if sink { Image::sink(size) } else { Image::new(size) }, sequence }
        }
        "AppendBlob" => return Err(Refused::not_faked("An append blob")),
        _ => return Err(Refused::bad_header("x-ms-blob-type")),
    };
    install(world, call, content, 201)
}

/// Makes the content what the blob holds, if the conditions of the request let it.
pub(crate) fn install(
    world: &mut World,
    call: &Call,
    content: Content,
    status: u16,
) -> Result<Answer, Refused> {
    let (stamp, now) = (world.stamp(), world.now());
    let name = call.place.blob.clone().unwrap_or_default();
    let container = world.container(&call.place)?;
    may_put(call, container.blobs.get_mut(&name), now)?;
    // A stamp is taken once, so its time tells one content of the name from the next.
    let mut version = Version::new(content, stamp.clone(), stamp.at.unix_timestamp_nanos() as u64);
    version.metadata = call.metadata().unwrap_or_default();
    set_type(call, &mut version);
    match container.blobs.get_mut(&name) {
        Some(blob) => {
            version.created = blob.live.created;
            blob.live = version;
            blob.sunk.clear();
        }
        None => {
            container.blobs.insert(name, Blob::new(version));
        }
    }
    Ok(tagged(Answer::new(status), &stamp).with("x-ms-request-server-encrypted", true))
}

/// Whether a blob may be put over what there is.
pub(crate) fn may_put(call: &Call, found: Option<&mut Blob>, now: OffsetDateTime) -> Result<(), Refused> {
    if let Some(blob) = &found {
        blob.lease.lets(call, now)?;
    }
    conditions::check(call, found.as_ref().map(|blob| &blob.live.stamp), Purpose::Put)?;
    found.map_or(Ok(()), |blob| blob.live.settled())
}

fn page_size(call: &Call) -> Result<Option<u64>, Refused> {
    let size = call.number("x-ms-blob-content-length")?;
    if size.is_some_and(|size| !size.is_multiple_of(512) || size > MOST_PAGES) {
        return Err(Refused::bad_header("x-ms-blob-content-length"));
    }
    Ok(size)
}

fn set_type(call: &Call, version: &mut Version) {
    let told = call.header("x-ms-blob-content-type").or_else(|| call.header("content-type"));
    if let Some(told) = told {
        version.content_type = told.to_owned();
    }
}

pub(crate) fn too_large() -> Refused {
    Refused::new(
        413,
        "RequestBodyTooLarge",
        "The request body is too large and exceeds the maximum permissible limit.",
    )
}

pub(crate) fn tagged(answer: Answer, stamp: &Stamp) -> Answer {
    answer.with("ETag", &stamp.etag).with("Last-Modified", clock::http(stamp.at))
}

pub(crate) fn head(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    copies::go_on(world, call);
    let now = world.now();
    world.blob(&call.place)?.lease.lets_read(call, now)?;
    let version = world.version(&call.place)?;
    conditions::check(call, Some(&version.stamp), Purpose::Read)?;
    let answer = Answer::new(200).with("Content-Length", version.len());
    describe(world, call, answer)
}

pub(crate) fn get(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    copies::go_on(world, call);
    let now = world.now();
    world.blob(&call.place)?.lease.lets_read(call, now)?;
    let version = world.version(&call.place)?;
    conditions::check(call, Some(&version.stamp), Purpose::Read)?;
    let len = version.len();
    let (status, range) = match call.range()? {
        None => (200, 0..len),
        Some((start, _)) if start >= len => {
            let refused = Refused::new(
                416,
                "InvalidRange",
                "The range specified is invalid for the current size of the resource.",
            );
            return Err(refused.with("Content-Range", &format!("bytes */{len}")));
        }
        Some((start, end)) => (206, start..end.unwrap_or(len).min(len)),
    };
    let mut answer = Answer::new(status);
    if status == 206 {
        answer = answer.with("Content-Range", format!("bytes {}-{}/{len}", range.start, range.end - 1));
    }
    let answer = match &version.content {
        Content::Block(bytes) => answer.bytes(bytes.slice(range.start as usize..range.end as usize)),
        Content::Pages { image, .. } if !image.kept(&range) => {
            return Err(Refused::not_faked("Reading what a sink dropped"));
        }
        Content::Pages { image, .. } => answer.image(image.clone(), range),
    };
    describe(world, call, answer)
}

/// The headers that tell of a blob or a snapshot.
fn describe(world: &mut World, call: &Call, answer: Answer) -> Result<Answer, Refused> {
    let now = world.now();
    let lease = call.query("snapshot").is_none().then_some(&world.blob(&call.place)?.lease);
    let lease = lease.map(|lease| lease.headers(now)).unwrap_or_default();
    let version = world.version(&call.place)?;
    let mut answer = tagged(answer, &version.stamp)
        .with("Content-Type", &version.content_type)
        .with("Accept-Ranges", "bytes")
        .with("x-ms-blob-type", version.kind())
        .with("x-ms-creation-time", clock::http(version.created))
        .with("x-ms-server-encrypted", true)
        .with_all(lease);
    if let Content::Pages { sequence, .. } = version.content {
        answer = answer.with("x-ms-blob-sequence-number", sequence);
    }
    if let Some(copy) = &version.copy {
        answer = answer.with_all(copy.headers());
    }
    for (name, value) in &version.metadata {
        answer = answer.with(&format!("x-ms-meta-{name}"), value);
    }
    Ok(answer)
}

pub(crate) fn set_metadata(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let version = changing(world, call)?;
    version.metadata = call.metadata().unwrap_or_default();
    Ok(tagged(Answer::new(200), &version.stamp))
}

pub(crate) fn set_properties(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let (size, number) = (page_size(call)?, call.number("x-ms-blob-sequence-number")?);
    let action = call.header("x-ms-sequence-number-action");
    let sequence = match (action, number) {
        (None, None) => None,
        (Some("increment"), None) => Some(None),
        (Some("max" | "update"), Some(number)) => Some(Some(number)),
        (Some("max" | "update"), None) => return Err(Refused::missing_header("x-ms-blob-sequence-number")),
        _ => return Err(Refused::bad_header("x-ms-sequence-number-action")),
    };
    let version = changing(world, call)?;
    if size.is_some() || sequence.is_some() {
        let (image, now) = version.pages()?;
        if let Some(size) = size {
            image.resize(size);
        }
        match (sequence, action) {
            (Some(None), _) => *now += 1,
            (Some(Some(number)), Some("max")) => *now = (*now).max(number),
            (Some(Some(number)), _) => *now = number,
            (None, _) => {}
        }
    }
    set_type(call, version);
    let answer = tagged(Answer::new(200), &version.stamp);
    Ok(match version.content {
        Content::Pages { sequence, .. } => answer.with("x-ms-blob-sequence-number", sequence),
        Content::Block(_) => answer,
    })
}

/// The live blob, stamped anew, if lease and conditions let it be changed.
pub(crate) fn changing<'a>(world: &'a mut World, call: &Call) -> Result<&'a mut Version, Refused> {
    let (stamp, now) = (world.stamp(), world.now());
    let blob = world.blob(&call.place)?;
    blob.lease.lets(call, now)?;
    conditions::check(call, Some(&blob.live.stamp), Purpose::Change)?;
    blob.live.settled()?;
    if let Content::Pages { sequence, .. } = blob.live.content {
        conditions::check_sequence(call, sequence)?;
    }
    blob.live.stamp = stamp;
    Ok(&mut blob.live)
}

pub(crate) fn empty() -> Content {
    Content::Block(Bytes::new())
}
