//! What an answer says: one body, or a list in parts that are made when their turn comes.

use crate::fault::Result;
use bytes::Bytes;
use serde::Serialize;
use site_recovery::{Error, ErrorKind};

/// A part of a list ends with the item that goes beyond this.
const PART: usize = 256 * 1024;

/// The parts of an answer, at least one.
pub(super) type Body = Box<dyn Iterator<Item = Result<Bytes>> + Send>;

pub(super) fn whole(answer: &impl Serialize) -> Result<Body> {
    Ok(bytes(serde_json::to_vec(answer).map_err(untold)?.into()))
}

pub(super) fn bytes(answer: Bytes) -> Body {
    Box::new(std::iter::once(Ok(answer)))
}

/// Each part is a JSON list of its own.
pub(super) fn list<T: Serialize + Send + 'static>(items: Vec<T>) -> Body {
    let (mut rest, mut is_first) = (items.into_iter(), true);
    Box::new(std::iter::from_fn(move || {
        let begun = std::mem::take(&mut is_first) || rest.len() > 0;
        begun.then(|| part(&mut rest).map(Bytes::from).map_err(untold))
    }))
}

fn part<T: Serialize>(rest: &mut std::vec::IntoIter<T>) -> serde_json::Result<Vec<u8>> {
    let mut part = vec![b'['];
    for item in rest {
        if part.len() > 1 {
            part.push(b',');
        }
        serde_json::to_writer(&mut part, &item)?;
        if part.len() > PART {
            break;
        }
    }
    part.push(b']');
    Ok(part)
}

fn untold(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the answer cannot be told").caused_by(error)
}

/// The call is done, and nobody will hear how. So it is not `Refused`.
pub(super) fn too_long(len: usize, longest: u32) -> Error {
    let said =
        format!("the answer has {len} bytes or more, this client takes {longest}; let it take longer ones");
    let error = Error::new(ErrorKind::Unavailable, said).with("limit", "RemoteBuilder::longest_answer");
    error.status(site_recovery::ErrorStatus::Permanent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(items: Vec<String>) -> Vec<Bytes> {
        list(items).map(|part| part.expect("plain data")).collect()
    }

    #[test]
    fn a_list_is_told_in_bounded_parts_and_whole() {
        assert_eq!(parts(vec![]), [Bytes::from("[]")]);
        let items: Vec<String> = (0..50_000).map(|n| format!("item number {n}")).collect();
        let parts = parts(items.clone());
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() < PART + 64), "{}", parts.len());
        let again = parts.iter().flat_map(|part| serde_json::from_slice::<Vec<String>>(part).expect("JSON"));
        assert!(again.eq(items));
    }
}
