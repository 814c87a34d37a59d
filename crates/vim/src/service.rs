//! What a server is, and where its singletons are: vCenter and a host name them differently.

use crate::xml::{child, text};
use crate::{Error, Moref};
use roxmltree::Node;
use serde::{Deserialize, Serialize};

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `VMware vCenter Server 8.0.3 build-24022515`.
    pub full_name: String,
    /// vCenter, or one host.
    pub product: Product,
    /// `8.0.3`.
    pub version: String,
    /// `24022515`.
    pub build: String,
    /// Of the API: `8.0.3.0`.
    pub api_version: String,
    /// Of this vCenter; a host has none.
    pub instance_uuid: Option<String>,
}

/// What kind of server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Product {
    /// `VirtualCenter`
    VCenter,
    /// `HostAgent`: ESXi itself. No clusters, no DRS, no moves, one datacenter.
    Host,
    /// Another, by its name.
    Other(String),
}

/// The singletons, as the server names them. A host lacks some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceContent {
    /// Which server this is.
    pub about: About,
    /// Everything is below it.
    pub root_folder: Moref,
    /// Reads properties.
    pub property_collector: Moref,
    /// Opens sessions.
    pub session_manager: Moref,
    /// Makes views.
    pub view_manager: Moref,
    /// Knows privileges.
    pub authorization_manager: Option<Moref>,
    /// Knows licences.
    pub license_manager: Option<Moref>,
    /// Finds machines by their identifiers.
    pub search_index: Option<Moref>,
    /// Remembers what happened.
    pub event_manager: Option<Moref>,
    /// Makes folders and deletes files on datastores.
    pub file_manager: Option<Moref>,
    /// Makes and deletes virtual disks.
    pub virtual_disk_manager: Option<Moref>,
    /// Knows storage DRS; vCenter alone.
    pub storage_resource_manager: Option<Moref>,
}

impl ServiceContent {
    pub(crate) fn of(node: Node<'_, '_>) -> Result<Self, Error> {
        let lacks = |name: &str| Error::garbage(format!("its service has no {name}"));
        let needed = |name: &str| Moref::at(node, name).ok_or_else(|| lacks(name));
        let about = child(node, "about").ok_or_else(|| lacks("about"))?;
        Ok(Self {
            about: About::of(about),
            root_folder: needed("rootFolder")?,
            property_collector: needed("propertyCollector")?,
            session_manager: needed("sessionManager")?,
            view_manager: needed("viewManager")?,
            authorization_manager: Moref::at(node, "authorizationManager"),
            license_manager: Moref::at(node, "licenseManager"),
            search_index: Moref::at(node, "searchIndex"),
            event_manager: Moref::at(node, "eventManager"),
            file_manager: Moref::at(node, "fileManager"),
            virtual_disk_manager: Moref::at(node, "virtualDiskManager"),
            storage_resource_manager: Moref::at(node, "storageResourceManager"),
        })
    }
}

impl About {
    fn of(node: Node<'_, '_>) -> Self {
        let words = |name| text(node, name).unwrap_or_default().to_owned();
        let product = match text(node, "apiType").unwrap_or_default() {
            "VirtualCenter" => Product::VCenter,
            "HostAgent" => Product::Host,
            other => Product::Other(other.to_owned()),
        };
        Self {
            full_name: words("fullName"),
            product,
            version: words("version"),
            build: words("build"),
            api_version: words("apiVersion"),
            instance_uuid: text(node, "instanceUuid").map(str::to_owned),
        }
    }
}
