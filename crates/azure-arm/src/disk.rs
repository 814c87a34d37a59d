//! Managed disks as they are, and as they are asked for.

use crate::arm::{Tags, shaped};
use crate::pending::{Outcome, sealed::Read};
use crate::said::scrubbed;
use crate::settings::id;
use crate::words::{Generation, OsType, Provisioning, words};
use azure_mgmt_compute::package_2024_07_01::models;
use models::creation_data::CreateOption;
use models::disk_properties;
use serde::Deserialize;
use serde_json::Value;
use site_recovery_https::Unusable;
use std::fmt;

words! {
    /// What a disk is used for just now.
    DiskState {
        /// By nothing.
        Unattached = "Unattached",
        /// By a machine that runs, or is stopped with its host kept.
        Attached = "Attached",
        /// By a machine that is deallocated.
        Reserved = "Reserved",
        /// By whoever has its signed address.
        ActiveSas = "ActiveSAS",
        /// It waits for what it is to hold.
        ReadyToUpload = "ReadyToUpload",
        /// What it is to hold is being written.
        ActiveUpload = "ActiveUpload",
        /// By a machine that sleeps.
        Frozen = "Frozen",
        /// By a machine, while its signed address is known.
        ActiveSasFrozen = "ActiveSASFrozen",
    }
}

/// A managed disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// `/subscriptions/…/disks/web-1`. Azure does not keep the case of its letters.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its region.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// Its size, without a footer.
    pub size_bytes: u64,
    /// What it was made with, with the footer, where it was uploaded.
    pub upload_bytes: Option<u64>,
    /// `Premium_LRS`.
    pub sku: String,
    /// The system on it, where a machine starts from it.
    pub os_type: Option<OsType>,
    /// How a machine starts from it.
    pub generation: Option<Generation>,
    /// Its zones; none where it is bound to none.
    pub zones: Vec<String>,
    /// What uses it.
    pub state: DiskState,
    /// How far Azure is with it.
    pub provisioning: Provisioning,
    /// Another one for each disk, even of the same name.
    pub unique_id: Option<String>,
    /// The machine that has it.
    pub managed_by: Option<String>,
    /// When it was last attached or detached, or its machine started or deallocated, as Azure writes it.
    pub last_ownership_update: Option<String>,
}

/// What a new disk is made of.
#[derive(Clone, PartialEq, Eq)]
pub enum Origin {
    /// A page blob with a fixed VHD in it.
    Import {
        /// Its address, without a signature.
        source_uri: String,
        /// The id of its account.
        storage_account_id: String,
    },
    /// What is written by [`grant`](crate::Disks::grant) with [`Access::Write`].
    Upload {
        /// Its size with the footer: 512 bytes more than the disk has.
        bytes: u64,
    },
    /// A disk or a snapshot.
    Copy {
        /// Its id.
        source_id: String,
    },
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import { source_uri, storage_account_id } => f
                .debug_struct("Import")
                .field("source_uri", &scrubbed(source_uri))
                .field("storage_account_id", storage_account_id)
                .finish(),
            Self::Upload { bytes } => f.debug_struct("Upload").field("bytes", bytes).finish(),
            Self::Copy { source_id } => f.debug_struct("Copy").field("source_id", source_id).finish(),
        }
    }
}

/// A disk that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// Its region.
    pub location: String,
    /// Its zone, where it is to be bound to one.
    pub zone: Option<String>,
    /// `Premium_LRS`.
    pub sku: String,
    /// Its tags.
    pub tags: Tags,
    /// The system on it, where a machine is to start from it.
    pub os_type: Option<OsType>,
    /// How a machine is to start from it.
    pub generation: Option<Generation>,
    /// What it is made of.
    pub from: Origin,
}

/// What a signed address allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing, into a disk that waits for its upload.
    Write,
}

impl Access {
    pub(crate) fn body(self, seconds: u32) -> Result<models::GrantAccessData, Unusable> {
        let access = match self {
            Self::Read => models::grant_access_data::Access::Read,
            Self::Write => models::grant_access_data::Access::Write,
        };
        let span = i32::try_from(seconds).ok().filter(|span| *span > 0);
        let span =
            span.ok_or_else(|| Unusable::new("seconds", seconds, "it is a span", "ask for some hours"))?;
        Ok(models::GrantAccessData::new(access, span))
    }
}

impl NewDisk {
    pub(crate) fn body(&self) -> Result<models::Disk, Unusable> {
        let mut made = match &self.from {
            Origin::Import { .. } => models::CreationData::new(CreateOption::Import),
            Origin::Upload { .. } => models::CreationData::new(CreateOption::Upload),
            Origin::Copy { .. } => models::CreationData::new(CreateOption::Copy),
        };
        match &self.from {
            Origin::Import { source_uri, storage_account_id } => {
                if source_uri.contains(['?', '#', '@']) || !source_uri.starts_with("https://") {
                    let (rule, remedy) =
                        ("it is a blob's https address with nothing after its path", "leave the query out");
                    return Err(Unusable::new("source_uri", "another address", rule, remedy));
                }
                made.source_uri = Some(source_uri.clone());
                made.storage_account_id = Some(id("storage_account_id", storage_account_id)?.to_owned());
            }
            Origin::Upload { bytes } => {
                let fits = i64::try_from(*bytes).ok().filter(|size| *size > 0);
                let fits = fits
                    .ok_or_else(|| Unusable::new("bytes", bytes, "it is a disk's size", "give its size"))?;
                made.upload_size_bytes = Some(fits);
            }
            Origin::Copy { source_id } => {
                made.source_resource_id = Some(id("source_id", source_id)?.to_owned())
            }
        }
        let mut properties = models::DiskProperties::new(made);
        properties.os_type = self.os_type.as_ref().map(os_type).transpose()?;
        properties.hyper_v_generation = self.generation.as_ref().map(|generation| match generation {
            Generation::V1 => disk_properties::HyperVGeneration::V1,
            Generation::V2 => disk_properties::HyperVGeneration::V2,
            Generation::Other(word) => disk_properties::HyperVGeneration::UnknownValue(word.clone()),
        });
        let mut resource = models::Resource::new(self.location.clone());
        resource.tags = Some(serde_json::json!(self.tags));
        let mut disk = models::Disk::new(resource);
        disk.sku = Some(models::DiskSku {
            name: Some(models::disk_sku::Name::UnknownValue(self.sku.clone())),
            ..models::DiskSku::default()
        });
        disk.zones = self.zone.iter().cloned().collect();
        disk.properties = Some(properties);
        Ok(disk)
    }
}

fn os_type(word: &OsType) -> Result<disk_properties::OsType, Unusable> {
    match word {
        OsType::Linux => Ok(disk_properties::OsType::Linux),
        OsType::Windows => Ok(disk_properties::OsType::Windows),
        OsType::Other(other) => Err(Unusable::new(
            "os_type",
            format!("{other:?}"),
            "Azure knows Linux and Windows",
            "choose one of them",
        )),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    id: String,
    name: String,
    location: String,
    tags: Option<Tags>,
    sku: Option<Sku>,
    zones: Option<Vec<String>>,
    managed_by: Option<String>,
    properties: Properties,
}

#[derive(Deserialize)]
struct Sku {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct CreationData {
    upload_size_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    creation_data: Option<CreationData>,
    disk_size_bytes: Option<u64>,
    #[serde(rename = "diskSizeGB")]
    disk_size_gb: Option<u64>,
    os_type: Option<OsType>,
    hyper_v_generation: Option<Generation>,
    disk_state: Option<DiskState>,
    provisioning_state: Option<Provisioning>,
    unique_id: Option<String>,
    #[serde(rename = "LastOwnershipUpdateTime", alias = "lastOwnershipUpdateTime")]
    last_ownership_update: Option<String>,
}

impl Outcome for Disk {}
impl Read for Disk {
    fn read(value: &Value) -> Result<Self, String> {
        let Shape { id, name, location, tags, sku, zones, managed_by, properties } = shaped(value)?;
        Ok(Self {
            id,
            name,
            location,
            tags: tags.unwrap_or_default(),
            size_bytes: size(properties.disk_size_bytes, properties.disk_size_gb),
            upload_bytes: properties.creation_data.and_then(|made| made.upload_size_bytes),
            sku: sku.and_then(|sku| sku.name).unwrap_or_default(),
            os_type: properties.os_type,
            generation: properties.hyper_v_generation,
            zones: zones.unwrap_or_default(),
            state: properties.disk_state.unwrap_or_else(|| DiskState::Other(String::new())),
            provisioning: properties.provisioning_state.unwrap_or_else(|| Provisioning::Other(String::new())),
            unique_id: properties.unique_id,
            managed_by: managed_by.filter(|id| !id.is_empty()),
            last_ownership_update: properties.last_ownership_update,
        })
    }
}

/// A size, which some answers have in GiB alone. Zero while Azure does not know it yet.
pub(crate) fn size(bytes: Option<u64>, gib: Option<u64>) -> u64 {
    bytes.or(gib.map(|gib| gib.saturating_mul(1 << 30))).unwrap_or_default()
}
