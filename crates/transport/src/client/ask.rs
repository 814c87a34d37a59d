//! One request to the far side, and what is answered.

use super::flight::gone;
use crate::fault::{Fault, Result};
use crate::frame::Kind;
use crate::message::{Call, Openable};
use bytes::Bytes;
use site_recovery::{Block, Error};

/// One request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) parts: Vec<Bytes>,
    pub(super) bulk: Bulk,
    /// Where the body of the answer goes; into memory of its own where there is nothing.
    pub(super) into: Option<Room>,
    /// What is open with the answer, to be opened again on the next connection.
    pub(super) opens: Option<(u64, Openable)>,
}

/// What makes a request long.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bulk {
    Records,
    /// A set of changes, in this argument.
    Changes(&'static str),
    Other,
}

/// Part of a block.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) block: Block,
    pub(super) at: usize,
    pub(super) len: usize,
}

#[derive(Debug)]
pub(super) enum Answer {
    /// One, or more of a list.
    Parts(Vec<Vec<u8>>),
    Room(Room),
}

impl Answer {
    pub(super) fn parts(self) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Parts(parts) => Ok(parts),
            Self::Room(_) => Err(gone()),
        }
    }

    /// Of an answer that is no list.
    pub(super) fn whole(self) -> Result<Vec<u8>> {
        let parts = <[Vec<u8>; 1]>::try_from(self.parts()?);
        let [body] = parts.map_err(|_| Fault::protocol("parts of an answer that is no list").told())?;
        Ok(body)
    }
}

impl Ask {
    pub(super) fn call(call: &Call) -> Self {
        let body = serde_json::to_vec(call).expect("plain data serialises");
        let bulk = match call {
            Call::Begin { .. } => Bulk::Changes("plan"),
            Call::Prepare { .. } => Bulk::Changes("seed"),
            _ => Bulk::Other,
        };
        Self { bulk, ..Self::of(Kind::Call, vec![body.into()]) }
    }

    pub(super) fn of(kind: Kind, parts: Vec<Bytes>) -> Self {
        let bulk = if kind == Kind::Write { Bulk::Records } else { Bulk::Other };
        Self { kind, parts, bulk, into: None, opens: None }
    }

    pub(super) fn too_long(&self, most: u32) -> Error {
        let (field, remedy) = match self.bulk {
            Bulk::Records => {
                ("records", "send smaller batches, or raise the server's Limits::connection_bytes")
            }
            Bulk::Changes(field) => {
                (field, "raise the server's Limits::connection_bytes, or join runs of the set of changes")
            }
            Bulk::Other => ("request", "raise the server's Limits::connection_bytes"),
        };
        let rule = format!("the server takes at most {most} bytes at a time");
        Error::invalid(field, format!("{} bytes", self.len()), &rule, remedy)
    }

    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|p| p.len() as u64).sum()
    }
}
