//! Block blobs that are put in pieces.

use crate::answer::{Answer, Refused};
use crate::blobs;
use crate::call::Call;
use crate::world::{Content, World};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use roxmltree::Document;

pub(crate) fn put(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let id = call.query("blockid").ok_or_else(|| Refused::bad_query("blockid"))?.to_owned();
    if BASE64_STANDARD.decode(&id).is_err() {
        return Err(Refused::bad_query("blockid"));
    }
    let now = world.now();
    let name = call.place.blob.clone().unwrap_or_default();
    let container = world.container(&call.place)?;
    if let Some(blob) = container.blobs.get(&name) {
        blob.lease.lets(call, now)?;
    }
    container.blocks.insert((name, id), call.body.clone());
    Ok(Answer::new(201).with("x-ms-request-server-encrypted", true))
}

pub(crate) fn commit(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let bad = || Refused::new(400, "InvalidXmlDocument", "XML specified is not syntactically valid.");
    let text = str::from_utf8(&call.body).map_err(|_| bad())?;
    let document = Document::parse(text.trim_start_matches('\u{feff}')).map_err(|_| bad())?;
    let name = call.place.blob.clone().unwrap_or_default();
    let container = world.container(&call.place)?;
    let mut bytes = vec![];
    for node in document.root_element().children().filter(roxmltree::Node::is_element) {
        if node.has_tag_name("Committed") {
            return Err(Refused::not_faked("A block of an earlier commit"));
        }
        let id = node.text().unwrap_or_default().trim().to_owned();
        let block = container.blocks.get(&(name.clone(), id));
        let none = || Refused::new(400, "InvalidBlockList", "The specified block list is invalid.");
        bytes.extend_from_slice(block.ok_or_else(none)?);
    }
    let answer = blobs::install(world, call, Content::Block(bytes.into()), 201)?;
    world.container(&call.place)?.blocks.retain(|(blob, _), _| *blob != name);
    Ok(answer)
}
