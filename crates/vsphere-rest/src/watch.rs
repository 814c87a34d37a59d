//! What has changed about a tag since somebody looked last.

use crate::tags::there;
use crate::{Error, MachineId, ObjectId, Tag, TagName, VCenter};
use std::collections::BTreeSet;

/// Follows which machines have a tag. It does nothing between two looks, and keeps one set of identifiers.
#[derive(Debug)]
pub struct TagWatch {
    vcenter: VCenter,
    name: TagName,
    /// As it was found last.
    tag: Option<Tag>,
    seen: BTreeSet<MachineId>,
}

/// What is otherwise than at the look before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagChanges {
    /// Machines that have it now, and had not, in the order of their identifiers.
    pub added: Vec<MachineId>,
    /// Machines that had it, and have not any more: it was taken off, the machine was removed, or the user may not read it any
    /// more. The API does not tell these apart.
    pub removed: Vec<MachineId>,
}

impl TagChanges {
    /// Whether all is as it was.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl TagWatch {
    /// The first look finds all machines added.
    pub fn new(vcenter: VCenter, name: TagName) -> Self {
        Self { vcenter, name, tag: None, seen: BTreeSet::new() }
    }

    /// With what an earlier watch had seen, as after a restart.
    pub fn resume(vcenter: VCenter, name: TagName, seen: impl IntoIterator<Item = MachineId>) -> Self {
        Self { vcenter, name, tag: None, seen: seen.into_iter().collect() }
    }

    /// Which tag.
    pub fn name(&self) -> &TagName {
        &self.name
    }

    /// What had it at the last look.
    pub fn seen(&self) -> &BTreeSet<MachineId> {
        &self.seen
    }

    /// Looks once: three requests while the tag is what it was, more to find it. What changed and changed back between two
    /// looks is not seen.
    ///
    /// Cancel safe: a look that is dropped, or fails, has seen nothing, and the next one tells of all.
    ///
    /// # Errors
    /// [`NoTag`](Error::NoTag) where the tag is gone or has another name: whoever follows it has to learn of that as
    /// something other than all its machines going. Those of any read.
    pub async fn look(&mut self) -> Result<TagChanges, Error> {
        let Some(tag) = self.find().await? else {
            return Err(Error::NoTag { name: self.name.to_string() });
        };
        let objects = self.vcenter.attached_objects(&tag.id).await?;
        self.tag = Some(tag);
        let now: BTreeSet<_> = objects.iter().filter_map(ObjectId::machine).collect();
        let changes = TagChanges {
            added: now.difference(&self.seen).cloned().collect(),
            removed: self.seen.difference(&now).cloned().collect(),
        };
        self.seen = now;
        Ok(changes)
    }

    /// The tag that was found before, while it and its category still have their names.
    async fn find(&self) -> Result<Option<Tag>, Error> {
        if let Some(known) = &self.tag
            && let Some(tag) = there(self.vcenter.tag(&known.id).await)?
            && tag.name == self.name.tag
            && let Some(category) = there(self.vcenter.category(&tag.category_id).await)?
            && category.name == self.name.category
        {
            return Ok(Some(tag));
        }
        self.vcenter.find_tag(&self.name).await
    }
}
