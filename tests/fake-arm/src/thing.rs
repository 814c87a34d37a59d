//! One resource: what clients see of it, and what they do not.

use crate::place::{Kind, Place};
use fake_blob::Image;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) struct Thing {
    pub(crate) place: Place,
    /// As a GET shows it.
    pub(crate) body: Value,
    /// The operation that changes it now.
    pub(crate) busy: Option<String>,
    /// Of disks and snapshots, without a footer; of an upload that is not ended, with it.
    pub(crate) image: Image,
    /// Whether an upload is not ended.
    pub(crate) upload: bool,
    pub(crate) grant: Option<Grant>,
    pub(crate) power: Power,
    /// Of a machine: where its guest leaves a wish to shut down unanswered.
    pub(crate) deaf: Option<Deaf>,
    /// Looks at a snapshot that is not complete yet.
    pub(crate) incomplete: u32,
}

/// Access by a signature.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) write: bool,
    pub(crate) until: u64,
    /// By which the exporter knows it.
    pub(crate) name: String,
    pub(crate) sas: Secret,
}

/// A signed URL, which no debug print tells.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A guest that does not answer, and whether it was asked to shut down since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Deaf {
    pub(crate) was_asked: bool,
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Power {
    /// It runs: its guest writes.
    Running,
    /// Off, and still on its host.
    Stopped,
    /// Off, and without a host.
    #[default]
    Deallocated,
}

impl Power {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Deallocated => "deallocated",
        }
    }
}

impl Thing {
    pub(crate) fn new(place: Place, location: &str, properties: Value) -> Self {
        let body = json!({
            "id": place.to_string(), "name": place.last(), "type": place.kind.full(),
            "location": location, "properties": properties,
        });
        Self {
            place,
            body,
            busy: None,
            image: Image::new(0),
            upload: false,
            grant: None,
            power: Power::default(),
            deaf: None,
            incomplete: 0,
        }
    }

    pub(crate) fn location(&self) -> &str {
        self.body["location"].as_str().unwrap_or_default()
    }

    pub(crate) fn property(&self, name: &str) -> &str {
        self.body["properties"][name].as_str().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.body["properties"][name] = value.into();
    }

    pub(crate) fn state(&mut self, state: &str) {
        self.set("provisioningState", state);
    }

    /// Whether a disk or a snapshot ever came to be: one whose creation failed is made anew by the next PUT.
    pub(crate) fn was_made(&self) -> bool {
        self.image.size() > 0
    }

    pub(crate) fn unique(&self) -> &str {
        self.property("uniqueId")
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.body["managedBy"].as_str()
    }

    /// Takes the members outside `properties` that a body sets.
    pub(crate) fn take(&mut self, body: &Value, members: &[&str]) {
        for name in members {
            if let Some(value) = body.get(*name) {
                self.body[*name] = value.clone();
            }
        }
    }

    /// Ids of the disks that a machine has, the system's first.
    pub(crate) fn disks(&self) -> Vec<String> {
        let storage = &self.body["properties"]["storageProfile"];
        let data = storage["dataDisks"].as_array().into_iter().flatten();
        let all = std::iter::once(&storage["osDisk"]).chain(data);
        all.filter_map(|disk| disk["managedDisk"]["id"].as_str()).map(str::to_owned).collect()
    }

    /// Ids of the interfaces that a machine has.
    pub(crate) fn nics(&self) -> Vec<String> {
        let nics = self.body["properties"]["networkProfile"]["networkInterfaces"].as_array();
        nics.into_iter().flatten().filter_map(|nic| nic["id"].as_str()).map(str::to_owned).collect()
    }

    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.place.kind == kind
    }
}
