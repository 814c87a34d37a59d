//! Lists, in parts.

use crate::answer::{Answer, Refused};
use crate::call::Call;
use crate::clock;
use crate::world::{Blob, Content, Version, World};
use crate::xml::{element, quoted, text};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What a list is in the order of: the name, then snapshots by age, then the blob itself.
type Key = (String, String);

/// Behind every snapshot of its name.
const LIVE: &str = "~";

pub(crate) fn blobs(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let include: Vec<&str> =
        call.query("include").unwrap_or_default().split(',').filter(|s| !s.is_empty()).collect();
    let known = ["snapshots", "metadata", "copy", "uncommittedblobs", "deleted", "tags", "versions"];
    if !include.iter().all(|name| known.contains(name)) {
        return Err(Refused::bad_query("include"));
    }
    let (prefix, delimiter) =
        (call.query("prefix").unwrap_or_default(), call.query("delimiter").unwrap_or_default());
    let snapshots = include.contains(&"snapshots");
    if snapshots && !delimiter.is_empty() {
        return Err(Refused::bad_query("include"));
    }
    let (now, most) = (world.now(), world.config.list_page);
    let mut entries = BTreeMap::new();
    for (name, blob) in
        world.container(&call.place)?.blobs.iter().filter(|(name, _)| name.starts_with(prefix))
    {
        let folded = if delimiter.is_empty() { None } else { name[prefix.len()..].find(delimiter) };
        if let Some(at) = folded {
            let folder = name[..prefix.len() + at + delimiter.len()].to_owned();
            let part = format!("<BlobPrefix>{}</BlobPrefix>", element("Name", &folder));
            entries.insert((folder, LIVE.to_owned()), part);
            continue;
        }
        if snapshots {
            for (at, version) in &blob.snapshots {
                entries
                    .insert((name.clone(), at.clone()), entry(name, Some(at), version, blob, &include, now));
            }
        }
        entries.insert((name.clone(), LIVE.to_owned()), entry(name, None, &blob.live, blob, &include, now));
    }
    let (page, next) = part(call, entries, most)?;
    let container = call.place.container.as_deref().unwrap_or_default();
    Ok(results(world, call, &format!(" ContainerName=\"{}\"", quoted(container)), "Blobs", &page, next))
}

fn entry(
    name: &str,
    snapshot: Option<&str>,
    version: &Version,
    blob: &Blob,
    include: &[&str],
    now: OffsetDateTime,
) -> String {
    let mut own = String::new();
    own += &element("Creation-Time", clock::http(version.created));
    own += &element("Last-Modified", clock::http(version.stamp.at));
    own += &element("Etag", version.stamp.etag.trim_matches('"'));
    own += &element("Content-Length", version.len());
    own += &element("Content-Type", &version.content_type);
    if let Content::Pages { sequence, .. } = version.content {
        own += &element("x-ms-blob-sequence-number", sequence);
    }
    own += &element("BlobType", version.kind());
    if snapshot.is_none() {
        own += &blob.lease.elements(now);
    }
    if let Some(copy) = version.copy.as_ref().filter(|_| include.contains(&"copy")) {
        own += &copy.elements();
    }
    own += &element("ServerEncrypted", true);
    let snapshot = snapshot.map(|at| element("Snapshot", at)).unwrap_or_default();
    let metadata = if include.contains(&"metadata") {
        let all: String = version.metadata.iter().map(|(name, value)| element(name, value)).collect();
        format!("<Metadata>{all}</Metadata>")
    } else {
        String::new()
    };
    format!("<Blob>{}{snapshot}<Properties>{own}</Properties>{metadata}</Blob>", element("Name", name))
}

pub(crate) fn containers(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let prefix = call.query("prefix").unwrap_or_default();
    let with_metadata = call.query("include").unwrap_or_default().split(',').any(|name| name == "metadata");
    let most = world.config.list_page;
    let mut entries = BTreeMap::new();
    for (name, container) in world.vault(&call.place.account)?.containers.iter() {
        if !name.starts_with(prefix) {
            continue;
        }
        let own = element("Last-Modified", clock::http(container.stamp.at))
            + &element("Etag", container.stamp.etag.trim_matches('"'))
            + "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>";
        let all: String = container.metadata.iter().map(|(name, value)| element(name, value)).collect();
        let metadata = if with_metadata { format!("<Metadata>{all}</Metadata>") } else { String::new() };
        let part = format!(
            "<Container>{}<Properties>{own}</Properties>{metadata}</Container>",
            element("Name", name)
        );
        entries.insert((name.clone(), LIVE.to_owned()), part);
    }
    let (page, next) = part(call, entries, most)?;
    Ok(results(world, call, "", "Containers", &page, next))
}

/// From the marker on, and the marker of what is left.
fn part(
    call: &Call,
    mut entries: BTreeMap<Key, String>,
    most: usize,
) -> Result<(String, Option<Key>), Refused> {
    let most = call.count("maxresults")?.unwrap_or(most).min(most);
    if let Some(marker) = call.query("marker").filter(|marker| !marker.is_empty()) {
        entries = entries.split_off(&unmark(marker).ok_or_else(|| Refused::bad_query("marker"))?);
    }
    let next = entries.keys().nth(most).cloned();
    Ok((entries.into_values().take(most).collect(), next))
}

fn mark((name, snapshot): &Key) -> String {
    BASE64_STANDARD.encode(format!("{snapshot}\n{name}"))
}

fn unmark(marker: &str) -> Option<Key> {
    let text = String::from_utf8(BASE64_STANDARD.decode(marker).ok()?).ok()?;
    text.split_once('\n').map(|(snapshot, name)| (name.to_owned(), snapshot.to_owned()))
}

fn results(
    world: &World,
    call: &Call,
    attributes: &str,
    list: &str,
    page: &str,
    next: Option<Key>,
) -> Answer {
    let echo = |name: &str, parameter: &str| {
        call.query(parameter).map(|value| element(name, value)).unwrap_or_default()
    };
    let head =
        ["Prefix", "Marker", "MaxResults", "Delimiter"].map(|name| echo(name, &name.to_lowercase())).concat();
    Answer::xml(&format!(
        "<EnumerationResults ServiceEndpoint=\"https://{}/{}/\"{attributes}>{head}<{list}>{page}</{list}><NextMarker>{}</NextMarker></EnumerationResults>",
        world.authority,
        quoted(&call.place.account),
        text(&next.as_ref().map(mark).unwrap_or_default()),
    ))
}
