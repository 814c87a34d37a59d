//! Copy Blob: it goes on while it is asked after.

use crate::admit::{self, Who};
use crate::answer::{Answer, Refused};
use crate::blobs::{empty, may_put, tagged};
use crate::call::{Call, Place};
use crate::image::Image;
use crate::world::{Blob, Content, Version, World, uuid};
use crate::xml::element;
use crate::{clock, conditions, signatures};
use time::OffsetDateTime;
use url::Url;

/// What became of the copy that a blob was made by.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    id: String,
    source: String,
    status: Status,
    /// What arrives when it succeeds.
    content: Content,
    total: u64,
    polls: usize,
    fails: bool,
    ended: Option<OffsetDateTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pending,
    Success,
    Aborted,
    Failed,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

impl Copy {
    pub(crate) fn pending(&self) -> bool {
        self.status == Status::Pending
    }

    fn told(&self) -> Vec<(&'static str, &'static str, String)> {
        let done = if self.status == Status::Success { self.total } else { 0 };
        let mut all = vec![
            ("x-ms-copy-id", "CopyId", self.id.clone()),
            ("x-ms-copy-status", "CopyStatus", self.status.word().to_owned()),
            ("x-ms-copy-source", "CopySource", self.source.clone()),
            ("x-ms-copy-progress", "CopyProgress", format!("{done}/{}", self.total)),
        ];
        all.extend(self.ended.map(|at| ("x-ms-copy-completion-time", "CopyCompletionTime", clock::http(at))));
        if self.status == Status::Failed {
            let text = "500 InternalServerError \"A fault that was asked for.\"".to_owned();
            all.push(("x-ms-copy-status-description", "CopyStatusDescription", text));
        }
        all
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.told().into_iter().map(|(header, _, value)| (header.to_owned(), value)).collect()
    }

    pub(crate) fn elements(&self) -> String {
        self.told().into_iter().map(|(_, name, value)| element(name, value)).collect()
    }
}

pub(crate) fn start(world: &mut World, call: &Call, who: &Who) -> Result<Answer, Refused> {
    if call.header("x-ms-requires-sync").is_some_and(|value| value == "true") {
        return Err(Refused::not_faked("A copy that is done before it is answered"));
    }
    let from = source(world, call, Some(who))?;
    conditions::check_source(call, &from.stamp)?;
    let (stamp, now) = (world.stamp(), world.now());
    let polls = world.copy_polls;
    let name = call.place.blob.clone().unwrap_or_default();
    let container = world.container(&call.place)?;
    may_put(call, container.blobs.get_mut(&name), now)?;
    let content = match &from.content {
        Content::Pages { image, sequence } => {
            Content::Pages { image: Image::new(image.size()), sequence: *sequence }
        }
        Content::Block(_) => empty(),
    };
    let mut version = Version::new(content, stamp.clone(), stamp.at.unix_timestamp_nanos() as u64);
    version.metadata = call.metadata().unwrap_or_else(|| from.metadata.clone());
    version.content_type.clone_from(&from.content_type);
    let copy = Copy {
        id: uuid(),
        source: without_signature(call.header("x-ms-copy-source").unwrap_or_default()),
        status: Status::Pending,
        total: from.len(),
        content: from.content,
        polls,
        fails: false,
        ended: None,
    };
    let id = copy.id.clone();
    version.copy = Some(copy);
    let blob = container.blobs.entry(name).and_modify(|blob| blob.live = version.clone());
    let blob = blob.or_insert_with(|| Blob::new(version));
    blob.sunk.clear();
    let fails = world.copy_failures > 0;
    world.copy_failures = world.copy_failures.saturating_sub(1);
    let live = &mut world.blob(&call.place)?.live;
    if let Some(copy) = &mut live.copy {
        copy.fails = fails;
    }
    if polls == 0 {
        end(live, now);
    }
    let status = live.copy.as_ref().map_or("success", |copy| copy.status.word());
    Ok(tagged(Answer::new(202), &stamp).with("x-ms-copy-id", id).with("x-ms-copy-status", status))
}

/// A poll: the copy comes nearer to its end.
pub(crate) fn go_on(world: &mut World, call: &Call) {
    if call.query("snapshot").is_some() {
        return;
    }
    let (stamp, now) = (world.stamp(), world.now());
    let Ok(blob) = world.blob(&call.place) else { return };
    let Some(copy) = blob.live.copy.as_mut().filter(|copy| copy.pending()) else { return };
    if copy.polls > 0 {
        copy.polls -= 1;
        return;
    }
    end(&mut blob.live, now);
    blob.live.stamp = stamp;
}

fn end(version: &mut Version, now: OffsetDateTime) {
    let Some(copy) = &mut version.copy else { return };
    copy.ended = Some(now);
    if copy.fails {
        copy.status = Status::Failed;
        version.content = nothing(&version.content);
    } else {
        copy.status = Status::Success;
        version.content = std::mem::replace(&mut copy.content, empty());
    }
}

fn nothing(of: &Content) -> Content {
    match of {
        Content::Pages { sequence, .. } => Content::Pages { image: Image::new(0), sequence: *sequence },
        Content::Block(_) => empty(),
    }
}

pub(crate) fn abort(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    if call.required("x-ms-copy-action")? != "abort" {
        return Err(Refused::bad_header("x-ms-copy-action"));
    }
    let id = call.query("copyid").ok_or_else(|| Refused::bad_query("copyid"))?;
    let now = world.now();
    let blob = world.blob(&call.place)?;
    blob.lease.lets(call, now)?;
    let none =
        || Refused::new(409, "NoPendingCopyOperation", "There is currently no pending copy operation.");
    let copy = blob.live.copy.as_mut().filter(|copy| copy.pending()).ok_or_else(none)?;
    if copy.id != id {
        return Err(Refused::new(
            409,
            "CopyIdMismatch",
            "The specified copy ID did not match the copy ID for the pending copy operation.",
        ));
    }
    copy.status = Status::Aborted;
    copy.ended = Some(now);
    copy.content = empty();
    blob.live.content = nothing(&blob.live.content);
    Ok(Answer::new(204))
}

/// What `x-ms-copy-source` names. Without a signature, the source is let to whom may ask for the destination, if both are
/// of one account and `who` is told.
pub(crate) fn source(world: &mut World, call: &Call, who: Option<&Who>) -> Result<Version, Refused> {
    let unverified = |refused: Refused| {
        Refused::new(
            refused.status,
            "CannotVerifyCopySource",
            &format!("The source is refused: {}.", refused.code),
        )
    };
    let url = call.required("x-ms-copy-source")?;
    let url = Url::parse(url).map_err(|_| Refused::bad_header("x-ms-copy-source"))?;
    if url.scheme() != "https" || url.authority() != world.authority {
        return Err(Refused::new(404, "CannotVerifyCopySource", "The fake copies from itself alone."));
    }
    let place = Place::of(&url);
    if place.query("sig").is_some() {
        signatures::check(world, &place, "r").map_err(unverified)?;
    } else if let Some(header) = call.header("x-ms-copy-source-authorization") {
        let token = header.strip_prefix("Bearer ");
        let token = token.ok_or_else(|| Refused::bad_header("x-ms-copy-source-authorization"))?;
        admit::bearer(world, token).map_err(unverified)?;
    } else if !matches!(who, Some(Who::Bearer(_) | Who::Key)) || place.account != call.place.account {
        return Err(Refused::new(401, "CannotVerifyCopySource", "The source needs a signature or a token."));
    }
    let version = world.version(&place).map_err(unverified)?;
    version.settled()?;
    Ok(version.clone())
}

fn without_signature(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return String::new() };
    let snapshot = Place::of(&url).query("snapshot").map(str::to_owned);
    url.set_query(None);
    if let Some(at) = snapshot {
        url.query_pairs_mut().append_pair("snapshot", &at);
    }
    url.into()
}
