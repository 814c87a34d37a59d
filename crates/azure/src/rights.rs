//! The least that whoever signs in may do. `docs/azure.md` has the roles that give it.

use On::{Account, Blobs, Group, Network, Subscription};

/// On what a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    /// The resource group of the site.
    Group,
    /// Each virtual network that machines are in, which may be in another group.
    Network,
    /// The whole subscription.
    Subscription,
    /// The storage account, at Resource Manager.
    Account,
    /// The blobs of the account or of the container: a right with data.
    Blobs,
}

impl On {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Group => "group",
            Network => "network",
            Subscription => "subscription",
            Account => "account",
            Blobs => "blobs",
        }
    }
}

/// An operation of Azure that has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// As roles name it: `Microsoft.Compute/disks/read`.
    pub action: &'static str,
    /// On what.
    pub on: On,
    /// What it is needed for.
    pub why: &'static str,
}

const fn right(action: &'static str, on: On, why: &'static str) -> Right {
    Right { action, on, why }
}

/// All of them.
pub const RIGHTS: &[Right] = &[
    right("Microsoft.Authorization/permissions/read", Group, "readiness: what may be done"),
    right("Microsoft.Resources/subscriptions/resourceGroups/read", Group, "that it is there"),
    right("Microsoft.Compute/virtualMachines/read", Group, "discovery"),
    right("Microsoft.Compute/virtualMachines/instanceView/read", Group, "power"),
    right("Microsoft.Compute/virtualMachines/write", Group, "a machine of its disks"),
    right("Microsoft.Compute/virtualMachines/start/action", Group, "the fence lifted, hand-over"),
    right("Microsoft.Compute/virtualMachines/powerOff/action", Group, "the fence"),
    right("Microsoft.Compute/virtualMachines/deallocate/action", Group, "the fence"),
    right("Microsoft.Compute/virtualMachines/delete", Group, "machines set aside, what we made removed"),
    right("Microsoft.Compute/disks/read", Group, "discovery, power"),
    right("Microsoft.Compute/disks/write", Group, "disks of a point, attached to a machine"),
    right("Microsoft.Compute/disks/delete", Group, "what we made removed"),
    right(
        "Microsoft.Compute/disks/beginGetAccess/action",
        Group,
        "disks uploaded, where Azure cannot import",
    ),
    right("Microsoft.Compute/disks/endGetAccess/action", Group, "the upload ended"),
    right("Microsoft.Compute/snapshots/read", Group, "captures"),
    right("Microsoft.Compute/snapshots/write", Group, "captures"),
    right("Microsoft.Compute/snapshots/delete", Group, "captures released"),
    right("Microsoft.Compute/snapshots/beginGetAccess/action", Group, "captures read, changes told"),
    right("Microsoft.Compute/snapshots/endGetAccess/action", Group, "reading ended"),
    right("Microsoft.Compute/availabilitySets/read", Group, "machines placed in a set"),
    right("Microsoft.Network/networkInterfaces/read", Group, "discovery"),
    right("Microsoft.Network/networkInterfaces/write", Group, "network cards of a machine"),
    right("Microsoft.Network/networkInterfaces/join/action", Group, "network cards of a machine"),
    right("Microsoft.Network/networkInterfaces/delete", Group, "what we made removed"),
    right("Microsoft.Network/virtualNetworks/read", Network, "networks and their subnets"),
    right("Microsoft.Network/virtualNetworks/checkIpAddressAvailability/read", Network, "free addresses"),
    right("Microsoft.Network/virtualNetworks/subnets/join/action", Network, "network cards of a machine"),
    right("Microsoft.Compute/skus/read", Subscription, "sizes of machines"),
    right("Microsoft.Compute/locations/usages/read", Subscription, "quota"),
    right("Microsoft.Compute/locations/operations/read", Subscription, "how far Azure is with machines"),
    right("Microsoft.Compute/locations/diskOperations/read", Subscription, "how far Azure is with disks"),
    right("Microsoft.Network/locations/operations/read", Subscription, "how far Azure is with network cards"),
    right("Microsoft.Network/locations/operationResults/read", Subscription, "the same"),
    right("Microsoft.Storage/storageAccounts/read", Account, "readiness; disks imported from it; its region"),
    right(
        "Microsoft.Storage/storageAccounts/blobServices/containers/write",
        Account,
        "the container, where it is missing",
    ),
    right(
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
        Blobs,
        "points read, copied, listed",
    ),
    right(
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action",
        Blobs,
        "what is new: documents, images, snapshots",
    ),
    right(
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
        Blobs,
        "pages and documents, snapshots, copies",
    ),
    right(
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
        Blobs,
        "points and documents dropped",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn page() -> String {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/azure.md");
        let page = std::fs::read_to_string(page).expect("the page is there");
        let section = page.split("## The least that it may").nth(1).expect("the section is there");
        section.split("\n## ").next().expect("it has an end").to_owned()
    }

    #[test]
    fn no_right_is_listed_twice() {
        let all: BTreeSet<_> = RIGHTS.iter().map(|right| (right.action, right.on)).collect();
        assert_eq!(all.len(), RIGHTS.len());
    }

    /// The page's table and roles are this list.
    #[test]
    fn the_documentation_has_this_list_and_no_other() {
        let section = page();
        let cells = |row: &str| -> Vec<String> {
            row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        };
        let told: Vec<_> =
            section.lines().filter(|line| line.starts_with("| `Microsoft.")).map(cells).collect();
        let listed: Vec<Vec<String>> =
            RIGHTS.iter().map(|r| vec![r.action.into(), r.on.word().into(), r.why.into()]).collect();
        assert_eq!(told, listed, "the table of docs/azure.md");

        let roles = section.split("```json").skip(1).map(|rest| rest.split("```").next().expect("an end"));
        let roles: Vec<Value> = roles.map(|role| serde_json::from_str(role).expect("JSON")).collect();
        let given = |role: &Value, field: &str| -> Vec<String> {
            let all = role[field].as_array().expect("a list");
            all.iter().map(|action| action.as_str().expect("text").to_owned()).collect()
        };
        let wanted = |on: &[On]| -> Vec<String> {
            let all = RIGHTS.iter().filter(|right| on.contains(&right.on));
            all.map(|right| right.action.to_owned()).collect()
        };
        let [group, subscription, vault] = &roles[..] else { panic!("{} roles", roles.len()) };
        assert_eq!(given(group, "Actions"), wanted(&[Group, Network]));
        assert_eq!(given(subscription, "Actions"), wanted(&[Subscription]));
        assert_eq!(given(vault, "Actions"), wanted(&[Account]));
        assert_eq!(given(vault, "DataActions"), wanted(&[Blobs]));
        for role in [group, subscription] {
            assert!(given(role, "DataActions").is_empty());
        }
        assert!(roles.iter().all(|role| given(role, "NotActions").is_empty()));
    }
}
