//! Network adapters.

use crate::Moref;
use crate::collect::is;
use crate::xml::{Xml, child, text, typed};
use roxmltree::Node;

/// A network adapter of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Of this device in this machine.
    pub key: i32,
    /// What the guest sees.
    pub kind: NicKind,
    /// `00:50:56:…`.
    pub mac: Option<String>,
    /// Who chose the address: `assigned` (vCenter), `generated` (the host), `manual`.
    pub address_type: Option<String>,
    /// Where it is plugged in, where that is known.
    pub network: Option<Network>,
    /// Whether it is plugged in just now.
    pub connected: bool,
    /// Whether it is when the machine is switched on.
    pub starts_connected: bool,
}

/// What the guest sees of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NicKind {
    /// VMXNET3.
    Vmxnet3,
    /// Intel 82574L.
    E1000e,
    /// Intel 82545EM.
    E1000,
    /// Another, by its type.
    Other(String),
}

/// A network that an adapter is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// Of a host's own switch.
    Standard {
        /// `VM Network`.
        name: String,
        /// Which object that is.
        moref: Option<Moref>,
    },
    /// A port group of a distributed switch.
    Distributed {
        /// Of the switch.
        switch_uuid: String,
        /// Of the port group.
        portgroup: String,
    },
    /// Of NSX or another.
    Opaque {
        /// Its id.
        id: String,
        /// Whose it is.
        kind: String,
    },
}

impl NicKind {
    fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "VirtualVmxnet3" => Self::Vmxnet3,
            "VirtualE1000e" => Self::E1000e,
            "VirtualE1000" => Self::E1000,
            "VirtualVmxnet"
            | "VirtualVmxnet2"
            | "VirtualVmxnet3Vrdma"
            | "VirtualPCNet32"
            | "VirtualSriovEthernetCard"
            | "VirtualEthernetCard" => Self::Other(kind.to_owned()),
            _ => return None,
        })
    }

    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Vmxnet3 => "VirtualVmxnet3",
            Self::E1000e => "VirtualE1000e",
            Self::E1000 => "VirtualE1000",
            Self::Other(kind) => kind,
        }
    }
}

impl Nic {
    pub(super) fn of(node: Node<'_, '_>, key: i32, kind: &str) -> Option<Self> {
        let kind = NicKind::of(kind)?;
        Some(Self {
            key,
            kind,
            mac: text(node, "macAddress").map(str::to_owned),
            address_type: text(node, "addressType").map(str::to_owned),
            network: child(node, "backing").and_then(Network::of),
            connected: is(node, "connectable.connected"),
            starts_connected: is(node, "connectable.startConnected"),
        })
    }
}

impl Network {
    fn of(node: Node<'_, '_>) -> Option<Self> {
        let words = |path| text(node, path).map(str::to_owned);
        Some(match typed(node)? {
            "VirtualEthernetCardNetworkBackingInfo" => {
                Self::Standard { name: words("deviceName")?, moref: Moref::at(node, "network") }
            }
            "VirtualEthernetCardDistributedVirtualPortBackingInfo" => Self::Distributed {
                switch_uuid: words("port.switchUuid")?,
                portgroup: words("port.portgroupKey")?,
            },
            "VirtualEthernetCardOpaqueNetworkBackingInfo" => {
                Self::Opaque { id: words("opaqueNetworkId")?, kind: words("opaqueNetworkType")? }
            }
            _ => return None,
        })
    }

    pub(super) fn write(&self, xml: &mut Xml) {
        match self {
            Self::Standard { name, moref } => {
                xml.typed("backing", "VirtualEthernetCardNetworkBackingInfo", |x| {
                    x.text("deviceName", name).maybe_moref("network", moref.as_ref());
                });
            }
            Self::Distributed { switch_uuid, portgroup } => {
                xml.typed("backing", "VirtualEthernetCardDistributedVirtualPortBackingInfo", |x| {
                    x.inside("port", |x| {
                        x.text("switchUuid", switch_uuid).text("portgroupKey", portgroup);
                    });
                });
            }
            Self::Opaque { id, kind } => {
                xml.typed("backing", "VirtualEthernetCardOpaqueNetworkBackingInfo", |x| {
                    x.text("opaqueNetworkId", id).text("opaqueNetworkType", kind);
                });
            }
        }
    }
}
