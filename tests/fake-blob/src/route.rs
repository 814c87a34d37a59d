//! Which operation a request asks for, and with which right.

use crate::answer::{Answer, Refused};
use crate::call::Call;
use crate::world::World;
use crate::{admit, blobs, blocks, containers, copies, delegation, leases, list, pages, snapshots};
use hyper::Method;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    AccountInformation,
    ListContainers,
    DelegationKey,
    CreateContainer,
    ContainerProperties,
    DeleteContainer,
    ListBlobs,
    PutBlob,
    PutBlock,
    PutBlockList,
    Get,
    Head,
    Delete,
    SetMetadata,
    SetProperties,
    Snapshot,
    Lease,
    Copy,
    AbortCopy,
    PutPage,
    PutPageFromUrl,
    PageList,
}

impl Op {
    fn of(call: &Call) -> Result<Self, Refused> {
        let place = &call.place;
        let (restype, comp) = (call.query("restype"), call.comp());
        let from_url = call.header("x-ms-copy-source").is_some();
        let op = match (&place.container, &place.blob) {
            (None, _) => match (&call.method, restype, comp) {
                (&Method::GET | &Method::HEAD, Some("account"), Some("properties")) => {
                    Self::AccountInformation
                }
                (&Method::GET, None, Some("list")) => Self::ListContainers,
                (&Method::POST, Some("service"), Some("userdelegationkey")) => Self::DelegationKey,
                _ => return Err(Refused::not_faked("This request to an account")),
            },
            (Some(_), None) => match (&call.method, restype, comp) {
                (&Method::GET | &Method::HEAD, Some("account"), Some("properties")) => {
                    Self::AccountInformation
                }
                (&Method::PUT, Some("container"), None) => Self::CreateContainer,
                (&Method::GET | &Method::HEAD, Some("container"), None) => Self::ContainerProperties,
                (&Method::DELETE, Some("container"), None) => Self::DeleteContainer,
                (&Method::GET, Some("container"), Some("list")) => Self::ListBlobs,
                _ => return Err(Refused::not_faked("This request to a container")),
            },
            (Some(_), Some(_)) => match (&call.method, comp) {
                (&Method::GET | &Method::HEAD, Some("properties")) if restype == Some("account") => {
                    Self::AccountInformation
                }
                (&Method::GET, None) => Self::Get,
                (&Method::HEAD, None | Some("metadata")) => Self::Head,
                (&Method::DELETE, None) => Self::Delete,
                (&Method::GET, Some("pagelist")) => Self::PageList,
                (&Method::PUT, None) if from_url && call.header("x-ms-blob-type").is_none() => Self::Copy,
                (&Method::PUT, None) if !from_url => Self::PutBlob,
                (&Method::PUT, Some("block")) if !from_url => Self::PutBlock,
                (&Method::PUT, Some("blocklist")) => Self::PutBlockList,
                (&Method::PUT, Some("metadata")) => Self::SetMetadata,
                (&Method::PUT, Some("properties")) => Self::SetProperties,
                (&Method::PUT, Some("snapshot")) => Self::Snapshot,
                (&Method::PUT, Some("lease")) => Self::Lease,
                (&Method::PUT, Some("copy")) => Self::AbortCopy,
                (&Method::PUT, Some("page")) if from_url => Self::PutPageFromUrl,
                (&Method::PUT, Some("page")) => Self::PutPage,
                _ => return Err(Refused::not_faked("This request to a blob")),
            },
        };
        Ok(op)
    }

    /// The letters of a signature of which one has to be there; none is let in by a signature where this is empty.
    pub(crate) fn rights(self) -> &'static str {
        match self {
            Self::ListBlobs => "l",
            Self::Get | Self::Head | Self::PageList | Self::AccountInformation => "r",
            Self::PutBlob | Self::PutBlock | Self::PutBlockList | Self::Snapshot | Self::Copy => "wc",
            Self::Delete => "d",
            Self::SetMetadata
            | Self::SetProperties
            | Self::Lease
            | Self::AbortCopy
            | Self::PutPage
            | Self::PutPageFromUrl => "w",
            _ => "",
        }
    }
}

pub(crate) fn carry_out(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let op = Op::of(call)?;
    let who = admit::admit(world, call, op)?;
    let put = call.method == Method::PUT || call.method == Method::POST;
    if put && call.header("content-length").is_none() {
        return Err(Refused::new(
            411,
            "MissingContentLengthHeader",
            "Content-Length HTTP header is required.",
        ));
    }
    if put && call.query("snapshot").is_some() {
        return Err(Refused::new(400, "InvalidOperation", "Invalid operation against a blob snapshot."));
    }
    if world.exports.contains_key(&call.place.account)
        && !matches!(op, Op::Get | Op::Head | Op::PageList | Op::PutPage | Op::PutPageFromUrl)
    {
        // The real service takes a Put Blob here, and the disk is lost.
        return Err(Refused::new(409, "OperationNotAllowed", "Of an exported disk only pages are written."));
    }
    match op {
        Op::AccountInformation => containers::account(world, call),
        Op::ListContainers => list::containers(world, call),
        Op::DelegationKey => delegation::key(world, call, &who),
        Op::CreateContainer => containers::create(world, call),
        Op::ContainerProperties => containers::properties(world, call),
        Op::DeleteContainer => containers::delete(world, call),
        Op::ListBlobs => list::blobs(world, call),
        Op::PutBlob => blobs::put(world, call),
        Op::PutBlock => blocks::put(world, call),
        Op::PutBlockList => blocks::commit(world, call),
        Op::Get => blobs::get(world, call),
        Op::Head => blobs::head(world, call),
        Op::Delete => snapshots::delete(world, call),
        Op::SetMetadata => blobs::set_metadata(world, call),
        Op::SetProperties => blobs::set_properties(world, call),
        Op::Snapshot => snapshots::take(world, call),
        Op::Lease => leases::lease(world, call),
        Op::Copy => copies::start(world, call, &who),
        Op::AbortCopy => copies::abort(world, call),
        Op::PutPage => pages::put(world, call),
        Op::PutPageFromUrl => pages::put_from_url(world, call),
        Op::PageList => pages::list(world, call),
    }
}
