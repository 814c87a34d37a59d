//! Snapshots of managed disks as they are, and as they are asked for.

use crate::arm::{Tags, shaped};
use crate::disk::size;
use crate::pending::{Outcome, sealed::Read};
use crate::settings::id;
use crate::words::Provisioning;
use azure_mgmt_compute::package_2024_07_01::models;
use serde::Deserialize;
use serde_json::Value;
use site_recovery_https::Unusable;

/// A snapshot of a managed disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// `/subscriptions/…/snapshots/web-1`. Azure does not keep the case of its letters.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
    /// The size of its disk, without a footer.
    pub size_bytes: u64,
    /// Whether it holds what changed since the one before.
    pub incremental: bool,
    /// The id of its disk.
    pub source_resource_id: Option<String>,
    /// The unique id of its disk: of another disk of the same name it is another.
    pub source_unique_id: Option<String>,
    /// The same for all incremental snapshots that differences are told between.
    pub family_id: Option<String>,
    /// How much of it is copied, where that goes on after it was made.
    pub completion_percent: Option<f64>,
    /// How far Azure is with it.
    pub provisioning: Provisioning,
    /// When it was made, as Azure writes it.
    pub created: Option<String>,
}

/// A snapshot that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Its region: that of its disk.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// The id of its disk.
    pub source_id: String,
    /// Whether it holds what changed since the one before. Only between such ones are differences told.
    pub incremental: bool,
}

impl NewSnapshot {
    pub(crate) fn body(&self) -> Result<models::Snapshot, Unusable> {
        let mut made = models::CreationData::new(models::creation_data::CreateOption::Copy);
        made.source_resource_id = Some(id("source_id", &self.source_id)?.to_owned());
        let mut properties = models::SnapshotProperties::new(made);
        properties.incremental = Some(self.incremental);
        let mut resource = models::Resource::new(self.location.clone());
        resource.tags = Some(serde_json::json!(self.tags));
        let mut snapshot = models::Snapshot::new(resource);
        snapshot.properties = Some(properties);
        Ok(snapshot)
    }
}

#[derive(Deserialize)]
struct Shape {
    id: String,
    name: String,
    tags: Option<Tags>,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    disk_size_bytes: Option<u64>,
    #[serde(rename = "diskSizeGB")]
    disk_size_gb: Option<u64>,
    incremental: Option<bool>,
    incremental_snapshot_family_id: Option<String>,
    completion_percent: Option<f64>,
    provisioning_state: Option<Provisioning>,
    time_created: Option<String>,
    creation_data: Option<CreationData>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct CreationData {
    source_resource_id: Option<String>,
    source_unique_id: Option<String>,
}

impl Outcome for Snapshot {}
impl Read for Snapshot {
    fn read(value: &Value) -> Result<Self, String> {
        let Shape { id, name, tags, properties } = shaped(value)?;
        let source = properties.creation_data.unwrap_or_default();
        Ok(Self {
            id,
            name,
            tags: tags.unwrap_or_default(),
            size_bytes: size(properties.disk_size_bytes, properties.disk_size_gb),
            incremental: properties.incremental.unwrap_or_default(),
            source_resource_id: source.source_resource_id,
            source_unique_id: source.source_unique_id,
            family_id: properties.incremental_snapshot_family_id,
            completion_percent: properties.completion_percent,
            provisioning: properties.provisioning_state.unwrap_or_else(|| Provisioning::Other(String::new())),
            created: properties.time_created,
        })
    }
}
