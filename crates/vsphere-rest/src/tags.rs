//! Categories, tags, and what they are attached to.

use crate::names::{id, words};
use crate::shape::{Request, or_default};
use crate::{Error, Machine, MachineFilter, MachineId, VCenter};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;
use std::str::FromStr;

const CATEGORY: &str = "cis/tagging/category";
const TAG: &str = "cis/tagging/tag";
const ASSOCIATION: &str = "cis/tagging/tag-association";
const MACHINE: &str = "VirtualMachine";

id! {
    /// A category, as `urn:vmomi:InventoryServiceCategory:…:GLOBAL`.
    CategoryId;
    /// A tag, as `urn:vmomi:InventoryServiceTag:…:GLOBAL`.
    TagId;
}

words! {
    /// How many tags of a category an object may have.
    Cardinality {
        /// One.
        Single = "SINGLE",
        /// Any number.
        Multiple = "MULTIPLE",
    }
}

/// A category and a tag of it by their names, written `dr=gold`. Up to the first `=` it is the category.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagName {
    /// `dr`.
    pub category: String,
    /// `gold`.
    pub tag: String,
}

impl FromStr for TagName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('=') {
            Some((category, tag)) if !category.is_empty() && !tag.is_empty() => {
                Ok(Self { category: category.to_owned(), tag: tag.to_owned() })
            }
            _ => {
                let rule = "it is a category, =, and a tag";
                Err(Error::invalid("tag", format!("{text:?}"), rule, "write it as dr=gold"))
            }
        }
    }
}

impl TryFrom<String> for TagName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TagName> for String {
    fn from(name: TagName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.category, self.tag)
    }
}

/// A category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Its identifier.
    pub id: CategoryId,
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// How many of its tags an object may have.
    pub cardinality: Cardinality,
    /// Kinds of objects that its tags may be attached to, as `VirtualMachine`; all where there are none.
    #[serde(default, deserialize_with = "or_default")]
    pub associable_types: Vec<String>,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Its identifier, the same after it got another name.
    pub id: TagId,
    /// Its category.
    pub category_id: CategoryId,
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
}

/// An object of any kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// `VirtualMachine`, `HostSystem`, `Folder`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `vm-65`.
    pub id: String,
}

impl From<&MachineId> for ObjectId {
    fn from(id: &MachineId) -> Self {
        Self { kind: MACHINE.to_owned(), id: id.as_str().to_owned() }
    }
}

impl ObjectId {
    /// The machine that it is, if it is one.
    pub fn machine(&self) -> Option<MachineId> {
        (self.kind == MACHINE).then(|| MachineId::new(&self.id))
    }
}

/// What a tag is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedObjects {
    /// The tag.
    #[serde(rename = "tag_id")]
    pub tag: TagId,
    /// What it is attached to, of what the user may read.
    #[serde(default, rename = "object_ids", deserialize_with = "or_default")]
    pub objects: Vec<ObjectId>,
}

/// What is attached to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectTags {
    /// The object.
    #[serde(rename = "object_id")]
    pub object: ObjectId,
    /// Its tags, of those that the user may read.
    #[serde(default, rename = "tag_ids", deserialize_with = "or_default")]
    pub tags: Vec<TagId>,
}

impl VCenter {
    /// All categories.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn categories(&self) -> Result<Vec<CategoryId>, Error> {
        self.list(Request::get("list categories", CATEGORY)).await
    }

    /// One category.
    ///
    /// # Errors
    /// Those of any read; [`kind`](Error::kind) is `NotFound` where it is not there.
    pub async fn category(&self, id: &CategoryId) -> Result<Category, Error> {
        self.read(Request::get("read category", CATEGORY).of(id.as_str())).await
    }

    /// The tags of a category.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn tags(&self, category: &CategoryId) -> Result<Vec<TagId>, Error> {
        let request = Request::post("list tags", TAG).action("list-tags-for-category");
        // Older servers want the category where otherwise a tag stands.
        let request = match self.dialect() {
            crate::Dialect::Api => request.body(json!({ "category_id": category })),
            crate::Dialect::Rest => request.of(category.as_str()),
        };
        self.list(request).await
    }

    /// One tag.
    ///
    /// # Errors
    /// Those of any read; [`kind`](Error::kind) is `NotFound` where it is not there.
    pub async fn tag(&self, id: &TagId) -> Result<Tag, Error> {
        self.read(Request::get("read tag", TAG).of(id.as_str())).await
    }

    /// The category of this name. The API finds none by name: it costs one request for each that is there.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn find_category(&self, name: &str) -> Result<Option<Category>, Error> {
        for id in self.categories().await? {
            if let Some(found) = there(self.category(&id).await)?.filter(|found| found.name == name) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The tag of this name, of the category of its name. It costs a request for each category, and one for each of its tags.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn find_tag(&self, name: &TagName) -> Result<Option<Tag>, Error> {
        let Some(category) = self.find_category(&name.category).await? else { return Ok(None) };
        for id in self.tags(&category.id).await? {
            if let Some(found) = there(self.tag(&id).await)?.filter(|found| found.name == name.tag) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Makes a category, for objects of these kinds (`VirtualMachine`), or of all where there are none.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::Refusal::AlreadyExists); [`Unknown`](Error::Unknown); those of the connection.
    pub async fn create_category(
        &self,
        name: &str,
        cardinality: &Cardinality,
        kinds: &[&str],
    ) -> Result<CategoryId, Error> {
        let spec = json!({
            "name": name, "description": "", "cardinality": cardinality, "associable_types": kinds,
        });
        self.make(Request::post("create category", CATEGORY).body(spec)).await
    }

    /// Makes a tag.
    ///
    /// # Errors
    /// As [`VCenter::create_category`].
    pub async fn create_tag(&self, category: &CategoryId, name: &str) -> Result<TagId, Error> {
        let spec = json!({ "category_id": category, "name": name, "description": "" });
        self.make(Request::post("create tag", TAG).body(spec)).await
    }

    /// Removes a category with its tags.
    ///
    /// # Errors
    /// As [`VCenter::attach`].
    pub async fn delete_category(&self, id: &CategoryId) -> Result<(), Error> {
        self.change(Request::new("delete category", Method::DELETE, CATEGORY).of(id.as_str())).await
    }

    /// Removes a tag, also from what it is attached to.
    ///
    /// # Errors
    /// As [`VCenter::attach`].
    pub async fn delete_tag(&self, id: &TagId) -> Result<(), Error> {
        self.change(Request::new("delete tag", Method::DELETE, TAG).of(id.as_str())).await
    }

    /// Attaches a tag. One that is attached stays so.
    ///
    /// # Errors
    /// [`kind`](Error::kind) `NotFound` for a tag that is not there; [`Unknown`](Error::Unknown); those of the connection.
    pub async fn attach(&self, tag: &TagId, to: &ObjectId) -> Result<(), Error> {
        let request = Request::post("attach tag", ASSOCIATION).of(tag.as_str()).action("attach");
        self.change(request.body(json!({ "object_id": to }))).await
    }

    /// Takes a tag off. One that is not attached stays so.
    ///
    /// # Errors
    /// As [`VCenter::attach`].
    pub async fn detach(&self, tag: &TagId, from: &ObjectId) -> Result<(), Error> {
        let request = Request::post("detach tag", ASSOCIATION).of(tag.as_str()).action("detach");
        self.change(request.body(json!({ "object_id": from }))).await
    }

    /// What a tag is attached to.
    ///
    /// # Errors
    /// [`kind`](Error::kind) `NotFound` for a tag that is not there; those of any read.
    pub async fn attached_objects(&self, tag: &TagId) -> Result<Vec<ObjectId>, Error> {
        let request = Request::post("list attached objects", ASSOCIATION).of(tag.as_str());
        self.list(request.action("list-attached-objects").body(json!({}))).await
    }

    /// What each of these tags is attached to; a tag that is not there may be missing. So many in one request as
    /// [`Limits::page`](crate::Limits::page) says, and at most 500.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn attached_objects_on(&self, tags: &[TagId]) -> Result<Vec<TaggedObjects>, Error> {
        let mut all = vec![];
        for some in tags.chunks(self.batch()) {
            let request = Request::post("list attached objects", ASSOCIATION);
            let request = request.action("list-attached-objects-on-tags").body(json!({ "tag_ids": some }));
            all.append(&mut self.list(request).await?);
        }
        Ok(all)
    }

    /// The tags of each of these objects; one without may be missing. So many in one request as
    /// [`Limits::page`](crate::Limits::page) says, and at most 500.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn attached_tags_on(&self, objects: &[ObjectId]) -> Result<Vec<ObjectTags>, Error> {
        let mut all = vec![];
        for some in objects.chunks(self.batch()) {
            let request = Request::post("list attached tags", ASSOCIATION);
            let request = request.action("list-attached-tags-on-objects").body(json!({ "object_ids": some }));
            all.append(&mut self.list(request).await?);
        }
        Ok(all)
    }

    /// The machines with this tag, by name and identifier. Folders and hosts with it count for nothing.
    ///
    /// # Errors
    /// [`NoTag`](Error::NoTag); those of any read.
    pub async fn machines_by_tag(&self, name: &TagName) -> Result<Vec<Machine>, Error> {
        let tag = self.find_tag(name).await?.ok_or_else(|| Error::NoTag { name: name.to_string() })?;
        let objects = self.attached_objects(&tag.id).await?;
        let machines: Vec<_> = objects.iter().filter_map(ObjectId::machine).collect();
        let mut all = vec![];
        for some in machines.chunks(self.batch()) {
            let filter = MachineFilter { machines: some.to_vec(), ..MachineFilter::default() };
            all.append(&mut self.machines(&filter).await?);
        }
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(all)
    }
}

/// Nothing for what is gone since it was listed.
pub(crate) fn there<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error) if error.kind() == site_recovery::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
