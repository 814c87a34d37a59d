//! What was read lately of objects that never change.

use crate::attached::Attached;
use crate::catalogue::{Kept, PageRef};
use crate::extent_map::Held;
use crate::layer::LayerIndex;
use crate::pack::PackIndex;
use quick_cache::Weighter;
use site_recovery::Run;
use std::sync::Arc;

/// Bytes of all of it, about.
const BYTES: u64 = 32 << 20;

/// What an object is, or a part of it that begins at this byte.
type Key = (Attached, u64);

#[derive(Debug, Clone)]
pub(crate) enum Cached {
    Block(Arc<Vec<(Run, Held)>>),
    Index(Arc<LayerIndex>),
    Leaf(Arc<Vec<Kept>>),
    Node(Arc<Vec<PageRef>>),
    Pack(Arc<PackIndex>),
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Cached> for Weight {
    fn weight(&self, _: &Key, cached: &Cached) -> u64 {
        let bytes = match cached {
            Cached::Block(pieces) => pieces.len() * size_of::<(Run, Held)>(),
            Cached::Index(index) => index.blocks.len() * 48,
            Cached::Leaf(points) => points.len() * 1024,
            Cached::Node(pages) => pages.len() * 200,
            Cached::Pack(index) => index.bytes(),
        };
        bytes as u64 + 256
    }
}

#[derive(Debug)]
pub(crate) struct Cache(quick_cache::sync::Cache<Key, Cached, Weight>);

impl Cache {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(quick_cache::sync::Cache::with_weighter(4096, BYTES, Weight)))
    }

    pub(crate) fn get(&self, object: &Attached, at: u64) -> Option<Cached> {
        self.0.get(&(object.clone(), at))
    }

    pub(crate) fn put(&self, object: &Attached, at: u64, cached: Cached) {
        self.0.insert((object.clone(), at), cached);
    }
}
