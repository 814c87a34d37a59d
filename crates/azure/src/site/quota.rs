//! What a region has left for a subscription.

use super::Site;
use super::import::DISK_KIND;
use super::once::Once;
use site_recovery::{Finding, Machine, Result, Settings, Severity};
use site_recovery_azure_arm::Size;
use std::collections::BTreeMap;

/// The quotas of disks, by their kind. What Azure counts under no name that is documented is not looked at.
const DISKS: [(&str, &str); 3] = [
    ("Standard_LRS", "StandardDiskCount"),
    ("StandardSSD_LRS", "StandardSSDDiskCount"),
    ("Premium_LRS", "PremiumDiskCount"),
];
/// That of incremental snapshots, which are kept on standard disks whatever disk they are of.
const SNAPSHOTS: &str = "StandardSnapshotCount";

impl Site {
    /// What a machine of this size, its disks, and the snapshots that arm its way back would take of each quota that Azure tells.
    pub(super) async fn check_quota(
        &self,
        machine: &Machine,
        settings: &Settings,
        size: &Size,
        once: &Once,
    ) -> Result<Vec<Finding>> {
        let mut wanted = vec![
            ("cores", "processors".to_owned(), u64::from(size.cores), &size.name),
            ("virtualMachines", "machines".to_owned(), 1, &size.name),
        ];
        if let Some(family) = &size.family {
            wanted.push((family, format!("processors of {family}"), u64::from(size.cores), &size.name));
        }
        let name = machine.instance.machine.to_string();
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for disk in machine.included() {
            let kind = settings.disks.get(&disk.id).and_then(|disk| disk.kind.as_deref());
            *kinds.entry(kind.unwrap_or(DISK_KIND)).or_default() += 1;
        }
        for (kind, quota) in DISKS {
            if let Some(more) = kinds.get(kind) {
                wanted.push((quota, format!("{kind} disks"), *more, &name));
            }
        }
        wanted.push((SNAPSHOTS, "snapshots".to_owned(), machine.included().count() as u64, &name));
        let usages = once.usages(self).await?;
        let mut found = vec![];
        for (quota, what, more, of) in wanted {
            if let Some(usage) = usages.iter().find(|usage| usage.name.eq_ignore_ascii_case(quota))
                && usage.current + more > usage.limit
            {
                let (used, limit, region) = (usage.current, usage.limit, &self.location);
                let cause = format!("{used} of {limit} {what} of {region} are used, and {of} has {more}");
                let remedy = "ask Azure for a larger quota";
                found.push(Finding::new("azure.quota", Severity::Critical, cause, remedy));
            }
        }
        Ok(found)
    }
}
