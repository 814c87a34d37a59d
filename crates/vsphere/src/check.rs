//! What is found of a vCenter alone: whether it could move the appliance, with disks of others at it.

use crate::stay::{cluster_of, pods_of};
use site_recovery::{Finding, Result, Severity};
use site_recovery_vim::{Moref, Override, Vim};

/// What could move the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mover {
    /// DRS of a cluster: to another host.
    Drs(String),
    /// Storage DRS of a pod: to another datastore.
    StorageDrs(String),
}

pub(crate) async fn findings(vim: &Vim, appliance: Option<&Moref>) -> Result<Vec<Finding>> {
    let mut found = vec![];
    if !vim.is_vcenter() {
        let cause = format!("{} is no vCenter", vim.about().full_name);
        let remedy = "open it as a site of one host (site_recovery_esxi)";
        found.push(Finding::new("server.kind", Severity::Critical, cause, remedy));
        return Ok(found);
    }
    if let Some(appliance) = appliance {
        found.extend(movers(vim, appliance).await?.iter().map(told));
    }
    Ok(found)
}

async fn movers(vim: &Vim, appliance: &Moref) -> Result<Vec<Mover>> {
    let mut movers = vec![];
    if let Some(cluster) = cluster_of(vim, appliance).await?
        && vim.drs_override(&cluster.moref, appliance).await? != Override::Stays
        && vim.drs_moves(&cluster.moref).await?
    {
        movers.push(Mover::Drs(cluster.name));
    }
    for pod in pods_of(vim, appliance).await? {
        if vim.storage_drs_override(&pod, appliance).await? != Override::Stays
            && vim.storage_drs_moves(&pod).await?
        {
            movers.push(Mover::StorageDrs(pod.id));
        }
    }
    Ok(movers)
}

fn told(mover: &Mover) -> Finding {
    match mover {
        Mover::Drs(cluster) => Finding::new(
            "appliance.drs",
            Severity::Warning,
            format!(
                "DRS of {cluster} may move the appliance to another host, away from datastores that machines land on"
            ),
            "give it an override in the cluster: DRS disabled",
        ),
        Mover::StorageDrs(pod) => Finding::new(
            "appliance.storage-drs",
            Severity::Warning,
            format!(
                "storage DRS of {pod} may move disks that are attached to the appliance: Storage vMotion spoils what lands"
            ),
            "give it an override in the datastore cluster: storage DRS disabled; and leave it out of Storage vMotion by hand",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mover_has_its_own_code_and_blocks_nothing() {
        let told = [Mover::Drs("c".into()), Mover::StorageDrs("p".into())].map(|mover| told(&mover));
        assert_eq!(told.each_ref().map(|f| f.code.as_str()), ["appliance.drs", "appliance.storage-drs"]);
        assert!(told.iter().all(|f| f.severity == Severity::Warning));
    }
}
