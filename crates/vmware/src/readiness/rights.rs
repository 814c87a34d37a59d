//! Which privileges are needed, on what, and for which way: the one list that the check, the documentation and the role share.

use super::listed;
use site_recovery::{Finding, Result, Severity};
use site_recovery_vim::{Fault, Moref, Vim};
use std::collections::BTreeMap;

/// On what a privilege is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// The root of the inventory.
    Root,
    /// Each protected machine.
    Machine,
    /// The machine in which the program runs.
    Appliance,
    /// The folder in which the appliance is, and new machines are made: what is needed on these, too.
    Folder,
    /// The resource pool of the appliance's host.
    Pool,
    /// Hosts of protected machines.
    Host,
    /// Datastores of protected machines, and of those that land.
    Datastore,
    /// Networks of machines that land.
    Network,
    /// The cluster in which a machine lands: its own, or for a new one that of the appliance's host; vCenter alone.
    Cluster,
    /// Datastore clusters of these machines' datastores; vCenter alone.
    Pod,
}

/// Which part of the circle needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Machines are discovered, captured, read and fenced.
    Protect,
    /// They come back to where they were.
    Original,
    /// They come back as new ones.
    Alternate,
    /// Disks of machines that run are read by VDDK.
    Vddk,
    /// Or by a lease.
    Lease,
}

/// A privilege that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// By its id: `VirtualMachine.State.CreateSnapshot`.
    pub privilege: &'static str,
    /// On what.
    pub on: On,
    /// For which ways.
    pub ways: &'static [Way],
    /// Whether something goes on without it.
    pub spared: bool,
    /// What it is needed for.
    pub why: &'static str,
}

const fn right(privilege: &'static str, on: On, ways: &'static [Way], why: &'static str) -> Right {
    Right { privilege, on, ways, spared: false, why }
}

use Way::{Alternate, Lease, Original, Protect, Vddk};

const ALL: &[Way] = &[Protect, Original, Alternate];
const BACK: &[Way] = &[Original, Alternate];

/// All of them. `System.Anonymous`, `System.View` and `System.Read` are part of every role.
pub const RIGHTS: &[Right] = &[
    right("System.View", On::Root, ALL, "that a machine is gone is believed only where all can be seen"),
    right("System.Read", On::Machine, ALL, "discovery, power"),
    right("VirtualMachine.Config.AdvancedConfig", On::Machine, ALL, "our marks and the epoch"),
    right("VirtualMachine.Config.ChangeTracking", On::Machine, ALL, "change tracking switched on"),
    right("VirtualMachine.Provisioning.DiskRandomRead", On::Machine, ALL, "changed areas"),
    right("VirtualMachine.State.CreateSnapshot", On::Machine, ALL, "captures, branches"),
    right("VirtualMachine.State.RemoveSnapshot", On::Machine, ALL, "captures released, branches merged"),
    right("VirtualMachine.Interact.PowerOff", On::Machine, ALL, "the fence"),
    right("VirtualMachine.Interact.PowerOn", On::Machine, ALL, "the fence lifted, hand-over"),
    right("VirtualMachine.State.RevertToSnapshot", On::Machine, BACK, "undo and change of point"),
    right("VirtualMachine.Config.AddNewDisk", On::Machine, &[Original], "a disk that is missing"),
    right("VirtualMachine.Config.DiskExtend", On::Machine, &[Original], "a disk that has grown"),
    right("VirtualMachine.Provisioning.GetVmFiles", On::Machine, &[Vddk], "VDDK, as its guide says"),
    right("VApp.Export", On::Machine, &[Lease], "a disk fetched whole"),
    right("VirtualMachine.Config.AddExistingDisk", On::Appliance, ALL, "disks attached to the appliance"),
    right("VirtualMachine.Config.RemoveDisk", On::Appliance, ALL, "disks taken away from it again"),
    right(
        "VirtualMachine.Config.AddRemoveDevice",
        On::Appliance,
        ALL,
        "a controller where the others are full",
    ),
    right("VirtualMachine.Inventory.Create", On::Folder, &[Alternate], "a new machine"),
    right("VirtualMachine.Inventory.Delete", On::Folder, &[Alternate], "what we made, removed again"),
    right("VirtualMachine.Config.AddNewDisk", On::Folder, &[Alternate], "its disks"),
    right("VirtualMachine.Config.AddRemoveDevice", On::Folder, &[Alternate], "its controllers and adapters"),
    right("VirtualMachine.Config.AdvancedConfig", On::Folder, &[Alternate], "our marks on it"),
    right("VirtualMachine.Config.ChangeTracking", On::Folder, &[Alternate], "its change tracking"),
    right("VirtualMachine.Provisioning.DiskRandomRead", On::Folder, &[Alternate], "its changed areas"),
    right("VirtualMachine.State.CreateSnapshot", On::Folder, &[Alternate], "its branches and captures"),
    right("VirtualMachine.State.RemoveSnapshot", On::Folder, &[Alternate], "these merged and released"),
    right("VirtualMachine.State.RevertToSnapshot", On::Folder, &[Alternate], "its undo and change of point"),
    right("VirtualMachine.Interact.PowerOn", On::Folder, &[Alternate], "its start"),
    right("VirtualMachine.Interact.PowerOff", On::Folder, &[Alternate], "its stop and its fence"),
    right(
        "VirtualMachine.Config.Settings",
        On::Folder,
        &[Alternate],
        "its firmware, and that it shows its disks' identifiers",
    ),
    right("Resource.AssignVMToPool", On::Pool, &[Alternate], "a new machine"),
    Right {
        spared: true,
        ..right(
            "Host.Config.AutoStart",
            On::Host,
            ALL,
            "a fenced machine taken out of its host's autostart, where it is in it",
        )
    },
    right("Datastore.AllocateSpace", On::Datastore, ALL, "disks attached to be read, and new disks"),
    right(
        "Datastore.Browse",
        On::Datastore,
        ALL,
        "disks read over HTTPS, and disks of machines that are gone",
    ),
    right(
        "Datastore.FileManagement",
        On::Datastore,
        ALL,
        "the same: the server gives files to those alone who have it",
    ),
    right("Network.Assign", On::Network, &[Alternate], "adapters of a new machine"),
    right(
        "Host.Inventory.EditCluster",
        On::Cluster,
        BACK,
        "the override that keeps DRS from moving a machine that lands",
    ),
    right("StoragePod.Config", On::Pod, BACK, "the override that keeps storage DRS from moving its disks"),
];

impl On {
    /// As the documentation says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Machine => "machine",
            Self::Appliance => "appliance",
            Self::Folder => "folder",
            Self::Pool => "pool",
            Self::Host => "host",
            Self::Datastore => "datastore",
            Self::Network => "network",
            Self::Cluster => "cluster",
            Self::Pod => "datastore cluster",
        }
    }
}

impl Way {
    /// As the documentation says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Original => "original",
            Self::Alternate => "alternate",
            Self::Vddk => "VDDK",
            Self::Lease => "lease",
        }
    }
}

/// An object that is needed, and what people call it.
pub(super) type Object = (On, Moref, String);

/// A right that is lacking, and the names of the objects where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) right: &'static Right,
    pub(super) at: Vec<String>,
}

/// What the user lacks, by one call for each kind of object; or why nobody can tell.
pub(super) async fn ask(
    vim: &Vim,
    objects: &[Object],
    asked: &[Way],
) -> Result<(Vec<Lacking>, Vec<Finding>)> {
    let mut kinds: BTreeMap<On, Vec<(&Moref, &str)>> = BTreeMap::new();
    for (on, moref, name) in objects {
        kinds.entry(*on).or_default().push((moref, name));
    }
    let (mut lacking, mut unchecked) = (vec![], vec![]);
    for (on, at) in kinds {
        let needed: Vec<&Right> =
            RIGHTS.iter().filter(|r| r.on == on && r.ways.iter().any(|w| asked.contains(w))).collect();
        let privileges: Vec<&str> = needed.iter().map(|right| right.privilege).collect();
        let morefs: Vec<Moref> = at.iter().map(|(moref, _)| (*moref).clone()).collect();
        if privileges.is_empty() {
            continue;
        }
        match vim.lacking_on(&morefs, &privileges).await {
            Ok(found) => {
                for right in needed {
                    let lacks = |(moref, _): &&(&Moref, &str)| {
                        found.get(*moref).is_none_or(|lacking| lacking.contains(&right.privilege))
                    };
                    let names: Vec<String> =
                        at.iter().filter(lacks).map(|(_, name)| (*name).to_owned()).collect();
                    if !names.is_empty() {
                        lacking.push(Lacking { right, at: names });
                    }
                }
            }
            Err(error) if error.fault().is_some_and(|fault| *fault != Fault::NotAuthenticated) => {
                let cause = format!("what the user may on {}s is not told: {error}", on.word());
                unchecked.push(Finding::new(
                    "rights.unchecked",
                    Severity::Warning,
                    cause,
                    "compare its role with docs/vmware.md",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((lacking, unchecked))
}

/// One for each kind of object and way, with all that is lacking there.
pub(super) fn findings(lacking: &[Lacking]) -> Vec<Finding> {
    let mut groups: BTreeMap<(bool, On), Vec<&Lacking>> = BTreeMap::new();
    for lack in lacking {
        let back = lack.right.ways.iter().all(|way| BACK.contains(way));
        groups.entry((back, lack.right.on)).or_default().push(lack);
    }
    let one = |((back, on), lacking): ((bool, On), Vec<&Lacking>)| {
        let code = if back { "rights.failback" } else { "rights.protect" };
        let spared = lacking.iter().all(|lack| lack.right.spared);
        let each = lacking.iter().map(|lack| {
            let at = listed(lack.at.iter().map(String::as_str));
            format!("{} on {} {at} ({})", lack.right.privilege, on.word(), lack.right.why)
        });
        let cause = format!("the user lacks {}", each.collect::<Vec<_>>().join("; "));
        let severity = if spared { Severity::Warning } else { Severity::Critical };
        Finding::new(
            code,
            severity,
            cause,
            "give its role these privileges there: docs/vmware.md has a role that has them",
        )
    };
    groups.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::codes;
    use std::collections::BTreeSet;

    fn lacking(privilege: &str, on: On) -> Lacking {
        let right =
            RIGHTS.iter().find(|r| r.privilege == privilege && r.on == on).expect("it is in the list");
        Lacking { right, at: vec!["web".into()] }
    }

    #[test]
    fn what_lacks_is_told_by_way_and_object_and_blocks_unless_something_goes_on() {
        let snapshot = lacking("VirtualMachine.State.CreateSnapshot", On::Machine);
        let power = lacking("VirtualMachine.Interact.PowerOn", On::Machine);
        let create = lacking("VirtualMachine.Inventory.Create", On::Folder);
        let autostart = lacking("Host.Config.AutoStart", On::Host);
        let told = findings(&[create, snapshot, autostart.clone(), power]);
        assert_eq!(codes(&told), ["rights.protect", "rights.protect", "rights.failback"]);
        assert!(told[0].cause.contains(
            "State.CreateSnapshot on machine web (captures, branches); VirtualMachine.Interact.PowerOn"
        ));
        assert_eq!(told.iter().map(Finding::blocks).collect::<Vec<_>>(), [true, false, true]);
        assert!(!findings(&[autostart])[0].blocks());
        assert!(findings(&[]).is_empty());
    }

    #[test]
    fn no_right_is_listed_twice_and_each_has_a_way() {
        let all: BTreeSet<_> = RIGHTS.iter().map(|r| (r.privilege, r.on)).collect();
        assert_eq!(all.len(), RIGHTS.len());
        assert!(RIGHTS.iter().all(|r| !r.ways.is_empty() && !r.why.is_empty() && r.privilege.contains('.')));
    }

    /// The page's table and role are this list.
    #[test]
    fn the_documentation_has_this_list_and_no_other() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vmware.md");
        let page = std::fs::read_to_string(page).expect("the page is there");
        let section = page.split("## The least that the user may").nth(1).expect("the section is there");
        let section = section.split("\n## ").next().expect("it has an end");
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let told: Vec<Vec<String>> = rows
            .map(|row| {
                row.trim_matches('|')
                    .split('|')
                    .map(|cell| cell.trim().trim_matches('`').to_owned())
                    .collect()
            })
            .collect();
        let listed: Vec<Vec<String>> = RIGHTS
            .iter()
            .map(|r| {
                let ways: Vec<&str> = r.ways.iter().map(|way| way.word()).collect();
                vec![r.privilege.into(), r.on.word().into(), ways.join(", "), r.why.into()]
            })
            .collect();
        assert_eq!(told, listed, "the table of docs/vmware.md");
        let role = section.split("govc role.create site-recovery").nth(1).expect("the role is there");
        let role = role.split("```").next().expect("it has an end");
        let role: Vec<&str> = role.split_whitespace().filter(|word| *word != "\\").collect();
        let wanted: BTreeSet<&str> =
            RIGHTS.iter().map(|r| r.privilege).filter(|p| !p.starts_with("System.")).collect();
        assert_eq!(role, wanted.into_iter().collect::<Vec<_>>(), "the role of docs/vmware.md");
    }
}
