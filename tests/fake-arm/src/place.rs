//! What a path of Resource Manager names. Names are compared without regard to case, as the real one does.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Disk,
    Snapshot,
    Machine,
    AvailabilitySet,
    Nic,
    Network,
    Subnet,
}

impl Kind {
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Disk, "Microsoft.Compute", "disks"),
        (Self::Snapshot, "Microsoft.Compute", "snapshots"),
        (Self::Machine, "Microsoft.Compute", "virtualMachines"),
        (Self::AvailabilitySet, "Microsoft.Compute", "availabilitySets"),
        (Self::Nic, "Microsoft.Network", "networkInterfaces"),
        (Self::Network, "Microsoft.Network", "virtualNetworks"),
    ];

    fn parse(provider: &str, collection: &str) -> Option<Self> {
        let same = |(_, p, c): &&(Self, &str, &str)| same(p, provider) && same(c, collection);
        Self::ALL.iter().find(same).map(|(kind, ..)| *kind)
    }

    pub(crate) fn provider(self) -> &'static str {
        match self {
            Self::Nic | Self::Network | Self::Subnet => "Microsoft.Network",
            _ => "Microsoft.Compute",
        }
    }

    pub(crate) fn collection(self) -> &'static str {
        match self {
            Self::Subnet => "virtualNetworks/subnets",
            _ => {
                Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, _, collection)| collection)
            }
        }
    }

    /// As `Microsoft.Compute/disks`.
    pub(crate) fn full(self) -> String {
        format!("{}/{}", self.provider(), self.collection())
    }
}

/// Where one resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) subscription: String,
    pub(crate) group: String,
    pub(crate) kind: Kind,
    /// Of a subnet: that of its network.
    pub(crate) name: String,
    /// Of a subnet alone.
    pub(crate) child: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscription, group, name, .. } = self;
        let (provider, kind) = (self.kind.provider(), self.kind.collection());
        let kind = kind.strip_suffix("/subnets").unwrap_or(kind);
        write!(f, "/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/{kind}/{name}")?;
        self.child.as_ref().map_or(Ok(()), |child| write!(f, "/subnets/{child}"))
    }
}

impl Place {
    /// What all spellings of it share.
    pub(crate) fn key(&self) -> String {
        self.to_string().to_lowercase()
    }

    /// The last part of its name.
    pub(crate) fn last(&self) -> &str {
        self.child.as_ref().unwrap_or(&self.name)
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Group { subscription: String, group: String },
    Account { subscription: String, id: String },
    Rights { subscription: String },
    Operation { subscription: String, id: String },
    Usages { subscription: String, location: String },
    Sizes { subscription: String, location: String },
    Skus { subscription: String },
    List { subscription: String, group: Option<String>, kind: Kind, network: Option<String> },
    One { place: Place, verb: Option<String> },
}

impl Target {
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(str::to_owned).collect();
        let at = |i: usize| parts.get(i).map_or("", String::as_str);
        if !same(at(0), "subscriptions") || parts.iter().any(String::is_empty) {
            return None;
        }
        let subscription = at(1).to_owned();
        if let [.., providers, provider, what] = parts.as_slice()
            && same(providers, "providers")
            && same(provider, "Microsoft.Authorization")
            && same(what, "permissions")
        {
            return Some(Self::Rights { subscription });
        }
        if same(at(2), "resourceGroups") {
            let group = at(3).to_owned();
            return match parts.len() {
                4 => Some(Self::Group { subscription, group }),
                8 if same(at(5), "Microsoft.Storage") && same(at(6), "storageAccounts") => {
                    Some(Self::Account { subscription, id: path.to_owned() })
                }
                _ if same(at(4), "providers") => Self::within(subscription, Some(group), &parts[5..]),
                _ => None,
            };
        }
        same(at(2), "providers").then(|| Self::within(subscription, None, &parts[3..])).flatten()
    }

    fn within(subscription: String, group: Option<String>, rest: &[String]) -> Option<Self> {
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        if let ([_, "locations", location, what, more @ ..], None) = (rest.as_slice(), &group) {
            let location = (*location).to_owned();
            return match more {
                [] if same(what, "usages") => Some(Self::Usages { subscription, location }),
                [] if same(what, "vmSizes") => Some(Self::Sizes { subscription, location }),
                [id] if what.ends_with("perations") || same(what, "operationResults") => {
                    Some(Self::Operation { subscription, id: (*id).to_owned() })
                }
                _ => None,
            };
        }
        if let ([provider, "skus"], None) = (rest.as_slice(), &group) {
            return same(provider, "Microsoft.Compute").then_some(Self::Skus { subscription });
        }
        let kind = Kind::parse(rest.first()?, rest.get(1)?)?;
        let Some(name) = rest.get(2) else {
            return Some(Self::List { subscription, group, kind, network: None });
        };
        let group = group?;
        let place = Place { subscription, group, kind, name: (*name).to_owned(), child: None };
        match (kind, &rest[3..]) {
            (_, []) => Some(Self::One { place, verb: None }),
            (Kind::Network, ["subnets"]) => {
                let Place { subscription, group, name, .. } = place;
                let (group, network) = (Some(group), Some(name));
                Some(Self::List { subscription, group, kind: Kind::Subnet, network })
            }
            (Kind::Network, ["subnets", child]) => {
                let place = Place { kind: Kind::Subnet, child: Some((*child).to_owned()), ..place };
                Some(Self::One { place, verb: None })
            }
            (_, [verb]) => Some(Self::One { place, verb: Some((*verb).to_owned()) }),
            _ => None,
        }
    }

    /// The place that an id names.
    pub(crate) fn place(id: &str) -> Option<Place> {
        match Self::parse(id)? {
            Self::One { place, verb: None } => Some(place),
            _ => None,
        }
    }

    pub(crate) fn subscription(&self) -> &str {
        match self {
            Self::Group { subscription, .. }
            | Self::Account { subscription, .. }
            | Self::Rights { subscription }
            | Self::Operation { subscription, .. }
            | Self::Usages { subscription, .. }
            | Self::Sizes { subscription, .. }
            | Self::Skus { subscription }
            | Self::List { subscription, .. } => subscription,
            Self::One { place, .. } => &place.subscription,
        }
    }

    /// Versions that the part in question answers to; none for those that are not checked.
    pub(crate) fn versions(&self) -> &'static [&'static str] {
        match self {
            Self::List { kind, .. } | Self::One { place: Place { kind, .. }, .. } => match kind {
                Kind::Disk | Kind::Snapshot => &["2024-03-02"],
                Kind::Machine | Kind::AvailabilitySet => &["2024-07-01"],
                _ => &[],
            },
            Self::Skus { .. } => &["2021-07-01"],
            Self::Usages { .. } | Self::Sizes { .. } => &["2024-07-01"],
            Self::Rights { .. } => &["2022-04-01"],
            Self::Group { .. } | Self::Account { .. } | Self::Operation { .. } => &[],
        }
    }
}

pub(crate) fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_whatever_its_spelling() {
        let id = "/subscriptions/s/resourceGroups/RG/providers/Microsoft.Compute/disks/d";
        let place = Target::place(id).unwrap();
        assert_eq!(place.to_string(), id);
        let other = Target::place(&id.to_uppercase()).unwrap();
        assert_eq!((other.kind, other.key()), (Kind::Disk, place.key()));
    }

    #[test]
    fn subnets_verbs_and_lists_are_told_apart() {
        let net = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v";
        let subnet = Target::place(&format!("{net}/subnets/a")).unwrap();
        assert_eq!((subnet.kind, subnet.last()), (Kind::Subnet, "a"));
        assert_eq!(subnet.to_string(), format!("{net}/subnets/a"));
        let check = Target::parse(&format!("{net}/CheckIPAddressAvailability")).unwrap();
        assert!(matches!(check, Target::One { verb: Some(_), .. }));
        let all = Target::parse("/subscriptions/s/providers/Microsoft.Compute/disks").unwrap();
        assert!(matches!(all, Target::List { group: None, kind: Kind::Disk, .. }));
        assert_eq!(Target::parse("/subscriptions/s/providers/Microsoft.Web/sites"), None);
    }
}
