//! What a region has: sizes of machines, quotas, availability sets.

use crate::arm::{Arm, shaped};
use crate::machines::VERSION;
use crate::pending::sealed::Read;
use crate::settings::part;
use crate::{Error, Generation};
use serde::Deserialize;
use serde_json::Value;

const SKUS: &str = "2021-07-01";

/// A size of machines in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// `Standard_D2s_v5`.
    pub name: String,
    /// `standardDSv5Family`: the quota that its processors count in, beside that of the region.
    pub family: Option<String>,
    /// Its virtual processors.
    pub cores: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// The most disks beside that which it starts from.
    pub data_disks: u32,
    /// The most network cards.
    pub nics: u32,
    /// How disks can be started from.
    pub generations: Vec<Generation>,
    /// Whether it takes premium disks.
    pub premium: bool,
    /// Why this subscription cannot have it anywhere in the region, as `NotAvailableForSubscription`.
    pub restricted: Option<String>,
}

/// How much of a quota is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// `cores`, `standardDSv5Family`.
    pub name: String,
    /// As much is used.
    pub current: u64,
    /// As much is allowed.
    pub limit: u64,
}

/// An availability set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailabilitySet {
    /// Its id.
    pub id: String,
    /// Its region.
    pub location: String,
    /// The ids of its machines, which all are in one network.
    pub machines: Vec<String>,
}

impl Arm {
    /// All sizes of machines in a region.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sizes(&self, location: &str) -> Result<Vec<Size>, Error> {
        let mut url = self.wire().url(&format!("{}/providers/Microsoft.Compute/skus", self.root()), SKUS);
        let filter = format!("location eq '{}'", part("location", location)?);
        url.query_pairs_mut().append_pair("$filter", &filter);
        let skus: Vec<Sku> = self.list(url).await?;
        Ok(skus.into_iter().filter_map(|sku| sku.0).collect())
    }

    /// How much of each quota of a region is used.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn usages(&self, location: &str) -> Result<Vec<Usage>, Error> {
        let path = format!(
            "{}/providers/Microsoft.Compute/locations/{}/usages",
            self.root(),
            part("location", location)?
        );
        self.list(self.wire().url(&path, VERSION)).await
    }

    /// The availability set of this name; nothing where none is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn availability_set(&self, group: &str, name: &str) -> Result<Option<AvailabilitySet>, Error> {
        let what = format!("availabilitySets/{}", part("name", name)?);
        self.find(self.within(group, "Microsoft.Compute", &what, VERSION)?).await
    }
}

/// What a subscription can have: a size of machines, or something else.
struct Sku(Option<Size>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SkuShape {
    resource_type: Option<String>,
    name: Option<String>,
    family: Option<String>,
    capabilities: Option<Vec<Capability>>,
    restrictions: Option<Vec<Restriction>>,
}

#[derive(Deserialize)]
struct Capability {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Restriction {
    r#type: Option<String>,
    reason_code: Option<String>,
}

impl Read for Sku {
    fn read(value: &Value) -> Result<Self, String> {
        let sku: SkuShape = shaped(value)?;
        let (Some("virtualMachines"), Some(name)) = (sku.resource_type.as_deref(), sku.name) else {
            return Ok(Self(None));
        };
        let all = sku.capabilities.unwrap_or_default();
        let text = |name: &str| all.iter().find(|one| one.name == name).map(|one| one.value.as_str());
        let number = |name: &str| text(name).and_then(|text| text.parse().ok()).unwrap_or_default();
        let memory: f64 = text("MemoryGB").and_then(|text| text.parse().ok()).unwrap_or_default();
        let generations = text("HyperVGenerations").unwrap_or_default().split(',');
        let generations = generations.map(str::trim).filter(|one| !one.is_empty());
        // One that holds for some zones alone leaves the region.
        let barred = sku.restrictions.into_iter().flatten().find(|one| one.r#type.as_deref() != Some("Zone"));
        Ok(Self(Some(Size {
            name,
            family: sku.family,
            cores: number("vCPUs"),
            memory_bytes: (memory * (1u64 << 30) as f64) as u64,
            data_disks: number("MaxDataDiskCount"),
            nics: number("MaxNetworkInterfaces"),
            generations: generations.map(|one| one.to_owned().into()).collect(),
            premium: text("PremiumIO").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            restricted: barred.map(|one| one.reason_code.unwrap_or_else(|| "Restricted".into())),
        })))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageShape {
    name: UsageName,
    current_value: u64,
    limit: u64,
}

#[derive(Deserialize)]
struct UsageName {
    value: String,
}

impl Read for Usage {
    fn read(value: &Value) -> Result<Self, String> {
        let UsageShape { name, current_value, limit } = shaped(value)?;
        Ok(Self { name: name.value, current: current_value, limit })
    }
}

#[derive(Deserialize)]
struct SetShape {
    id: String,
    location: String,
    properties: Option<SetProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetProperties {
    virtual_machines: Option<Vec<Member>>,
}

#[derive(Deserialize)]
struct Member {
    id: String,
}

impl Read for AvailabilitySet {
    fn read(value: &Value) -> Result<Self, String> {
        let SetShape { id, location, properties } = shaped(value)?;
        let members = properties.and_then(|properties| properties.virtual_machines).into_iter().flatten();
        Ok(Self { id, location, machines: members.map(|member| member.id).collect() })
    }
}
