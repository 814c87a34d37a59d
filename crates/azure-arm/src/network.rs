//! Networks and network cards, by this crate's own calls of Microsoft.Network.

use crate::arm::{Arm, Tags, shaped};
use crate::pending::{End, Outcome, Pending, sealed::Read};
use crate::settings::{id, part};
use crate::wire::call;
use crate::{Error, Provisioning};
use bytes::Bytes;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::IpAddr;

const VERSION: &str = "2023-11-01";

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// `/subscriptions/…/networkInterfaces/web`. Azure does not keep the case of its letters.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its region.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// Its first address, once it has one.
    pub address: Option<IpAddr>,
    /// The id of the subnet of that address.
    pub subnet_id: Option<String>,
    /// The id of the machine that has it.
    pub machine: Option<String>,
    /// How far Azure is with it.
    pub provisioning: Provisioning,
}

/// A network card that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNic {
    /// Its region: that of its network.
    pub location: String,
    /// The id of its subnet.
    pub subnet_id: String,
    /// Its address; where it is none Azure chooses one.
    pub address: Option<IpAddr>,
    /// Its tags.
    pub tags: Tags,
    /// Whether it goes by the host's own card, which not all sizes and guests can.
    pub accelerated: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its region.
    pub location: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

/// A part of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its addresses, as `10.0.0.0/24`.
    pub prefixes: Vec<String>,
}

/// The network cards of a group: [`Arm::nics`].
#[derive(Debug, Clone)]
pub struct Nics {
    arm: Arm,
    group: String,
}

impl Nics {
    pub(crate) fn new(arm: &Arm, group: String) -> Self {
        Self { arm: arm.clone(), group }
    }

    fn url(&self, name: &str) -> Result<Url, Error> {
        let what = format!("networkInterfaces/{}", part("name", name)?);
        self.arm.within(&self.group, "Microsoft.Network", &what, VERSION)
    }

    /// The one of this name; nothing where none is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, name: &str) -> Result<Option<Nic>, Error> {
        self.arm.find(self.url(name)?).await
    }

    /// All of the group.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list(&self) -> Result<Vec<Nic>, Error> {
        self.arm.list(self.arm.within(&self.group, "Microsoft.Network", "networkInterfaces", VERSION)?).await
    }

    /// Asks for one of this name. One that is there already Azure compares, and may change.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn put(&self, name: &str, new: &NewNic) -> Result<Pending<Nic>, Error> {
        let (wire, url) = (self.arm.wire(), self.url(name)?);
        let mut address = json!({
            "primary": true,
            "privateIPAddressVersion": if matches!(new.address, Some(IpAddr::V6(_))) { "IPv6" } else { "IPv4" },
            "privateIPAllocationMethod": if new.address.is_some() { "Static" } else { "Dynamic" },
            "subnet": { "id": id("subnet_id", &new.subnet_id)? },
        });
        if let Some(wanted) = new.address {
            address["privateIPAddress"] = json!(wanted);
        }
        let body = json!({
            "location": new.location,
            "tags": new.tags,
            "properties": {
                "enableAcceleratedNetworking": new.accelerated,
                "ipConfigurations": [{ "name": "primary", "properties": address }],
            },
        });
        let reply = wire.exchange(Method::PUT, url.clone(), body.to_string().into()).await?;
        Pending::of(wire, call(&Method::PUT, &url), &reply, End::As(url))
    }

    /// Deletes it. One that is not there is deleted already.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn delete(&self, name: &str) -> Result<Pending<()>, Error> {
        let (wire, url) = (self.arm.wire(), self.url(name)?);
        let call = call(&Method::DELETE, &url);
        match wire.exchange(Method::DELETE, url.clone(), Bytes::new()).await {
            Err(Error::Absent { .. }) => Ok(Pending::over(wire, call)),
            reply => Pending::of(wire, call, &reply?, End::Gone(url)),
        }
    }
}

impl Arm {
    /// The subnet of this id; nothing where none is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn subnet(&self, subnet: &str) -> Result<Option<Subnet>, Error> {
        self.find(self.wire().url(id("subnet", subnet)?, VERSION)).await
    }

    /// The network of this id; nothing where none is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn network(&self, network: &str) -> Result<Option<Network>, Error> {
        self.find(self.wire().url(id("network", network)?, VERSION)).await
    }

    /// Whether a network card of this network could get this address now. One that is in none of its subnets cannot.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn address_is_free(&self, network: &str, address: IpAddr) -> Result<bool, Error> {
        let path = format!("{}/CheckIPAddressAvailability", id("network", network)?);
        let mut url = self.wire().url(&path, VERSION);
        url.query_pairs_mut().append_pair("ipAddress", &address.to_string());
        let call = call(&Method::GET, &url);
        let value = self.wire().read(url).await?.json(&call)?;
        value["available"].as_bool().ok_or_else(|| Error::unreadable(call, "it does not say"))
    }
}

#[derive(Deserialize)]
struct NicShape {
    id: String,
    name: String,
    location: String,
    tags: Option<Tags>,
    properties: NicProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NicProperties {
    provisioning_state: Option<Provisioning>,
    ip_configurations: Option<Vec<IpConfiguration>>,
    virtual_machine: Option<Named>,
}

#[derive(Deserialize)]
struct IpConfiguration {
    properties: Option<IpProperties>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct IpProperties {
    primary: Option<bool>,
    #[serde(rename = "privateIPAddress")]
    address: Option<String>,
    subnet: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Outcome for Nic {}
impl Read for Nic {
    fn read(value: &Value) -> Result<Self, String> {
        let NicShape { id, name, location, tags, properties } = shaped(value)?;
        let mut addresses: Vec<IpProperties> =
            properties.ip_configurations.into_iter().flatten().filter_map(|one| one.properties).collect();
        addresses.sort_by_key(|one| one.primary != Some(true));
        let first = addresses.into_iter().next().unwrap_or_default();
        let address =
            first.address.map(|text| text.parse().map_err(|_| "its address is none")).transpose()?;
        Ok(Self {
            id,
            name,
            location,
            tags: tags.unwrap_or_default(),
            address,
            subnet_id: first.subnet.map(|subnet| subnet.id),
            machine: properties.virtual_machine.map(|machine| machine.id),
            provisioning: properties.provisioning_state.unwrap_or_else(|| Provisioning::Other(String::new())),
        })
    }
}

#[derive(Deserialize)]
struct NetworkShape {
    id: String,
    location: String,
    properties: NetworkProperties,
}

#[derive(Deserialize)]
struct NetworkProperties {
    subnets: Option<Vec<SubnetShape>>,
}

#[derive(Deserialize)]
struct SubnetShape {
    id: String,
    name: String,
    properties: SubnetProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubnetProperties {
    address_prefix: Option<String>,
    address_prefixes: Option<Vec<String>>,
}

impl From<SubnetShape> for Subnet {
    fn from(SubnetShape { id, name, properties }: SubnetShape) -> Self {
        let several = properties.address_prefixes.filter(|several| !several.is_empty());
        let prefixes = several.unwrap_or_else(|| properties.address_prefix.into_iter().collect());
        Self { id, name, prefixes }
    }
}

impl Read for Subnet {
    fn read(value: &Value) -> Result<Self, String> {
        shaped::<SubnetShape>(value).map(Self::from)
    }
}

impl Read for Network {
    fn read(value: &Value) -> Result<Self, String> {
        let NetworkShape { id, location, properties } = shaped(value)?;
        let subnets = properties.subnets.into_iter().flatten().map(Subnet::from).collect();
        Ok(Self { id, location, subnets })
    }
}
