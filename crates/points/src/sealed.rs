//! The object of a point: its manifest and its map. What the point wrote is its own layer, at the end of the object.
//!
//! Magic, length of the head (4), the head: JSON; the layer, if there is one.

use crate::attached::Attached;
use crate::folder::{Folder, json};
use crate::layer::Layered;
use crate::map::{LayerRef, Map};
use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};
use site_recovery::{Manifest, Result};

const MAGIC: &[u8; 8] = b"SRPOINT\x01";
const HEADER: u64 = 12;

#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) manifest: Manifest,
    pub(crate) layers: Vec<LayerRef>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    manifest: Manifest,
    /// Its own layer: pieces, and the newest session.
    own: Option<(u64, u64)>,
    /// Under it, the newest first.
    layers: Vec<LayerRef>,
}

impl Sealed {
    /// The bytes of a point's object.
    pub(crate) fn encode(
        manifest: &Manifest,
        own: Option<Layered>,
        layers: Vec<LayerRef>,
    ) -> Result<Vec<u8>> {
        let of = own.as_ref().map(|layer| (layer.pieces, layer.newest));
        let head = json("point", &Head { manifest: manifest.clone(), own: of, layers })?;
        let mut bytes = MAGIC.to_vec();
        bytes.put_u32_le(head.len() as u32);
        bytes.extend(head);
        bytes.extend(own.into_iter().flat_map(|layer| layer.bytes));
        Ok(bytes)
    }

    /// # Errors
    /// `Corrupt`, naming the object, where it is gone or not what was written.
    pub(crate) async fn read(folder: &Folder, object: &Attached) -> Result<Self> {
        let bytes = folder.get_attached(object).await?;
        Self::decode(&bytes, object).ok_or_else(|| folder.is_damaged(object, "it is no point"))
    }

    pub(crate) fn map(&self, folder: &Folder) -> Map {
        Map::new(folder.clone(), self.layers.clone())
    }

    pub(crate) fn decode(bytes: &Bytes, object: &Attached) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (len, rest) = rest.split_first_chunk()?;
        let (head, layer) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let Head { manifest, own, layers } = serde_json::from_slice(head).ok()?;
        let at = HEADER + head.len() as u64;
        let own = own.map(|(pieces, newest)| LayerRef {
            object: object.clone(),
            at,
            len: layer.len() as u64,
            pieces,
            points: 1,
            newest,
        });
        let lies = |layer: &LayerRef| layer.at.checked_add(layer.len).is_some();
        if !layers.iter().all(lies) {
            return None;
        }
        Some(Self { manifest, layers: own.into_iter().chain(layers).collect() })
    }
}
