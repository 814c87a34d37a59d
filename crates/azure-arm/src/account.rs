//! Storage accounts, as Resource Manager knows them.

use crate::Error;
use crate::arm::{Arm, shaped};
use crate::pending::sealed::Read;
use crate::settings::id;
use serde::Deserialize;
use serde_json::Value;

const VERSION: &str = "2023-01-01";

/// A storage account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageAccount {
    /// Its id.
    pub id: String,
    /// Its region.
    pub location: String,
    /// `StorageV2` for general-purpose v2.
    pub kind: String,
    /// `Standard_LRS`.
    pub sku: String,
    /// Whether it has a hierarchical namespace, and so no page blobs.
    pub hierarchical: bool,
}

impl Arm {
    /// The storage account of this id; nothing where none is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn storage_account(&self, account: &str) -> Result<Option<StorageAccount>, Error> {
        self.find(self.wire().url(id("account", account)?, VERSION)).await
    }
}

#[derive(Deserialize)]
struct Shape {
    id: String,
    location: String,
    kind: Option<String>,
    sku: Option<Sku>,
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Sku {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    is_hns_enabled: Option<bool>,
}

impl Read for StorageAccount {
    fn read(value: &Value) -> Result<Self, String> {
        let Shape { id, location, kind, sku, properties } = shaped(value)?;
        Ok(Self {
            id,
            location,
            kind: kind.unwrap_or_default(),
            sku: sku.map(|sku| sku.name).unwrap_or_default(),
            hierarchical: properties.and_then(|properties| properties.is_hns_enabled).unwrap_or_default(),
        })
    }
}
