//! What is found of a vCenter alone: whether it could move the appliance, with disks of others at it.

use crate::stay::{cluster_of, pods_of};
use site_recovery::{Finding, Result, Severity};
use site_recovery_vim::{Moref, Override, Vim};

/// What could move the appliance, by what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mover {
    /// DRS of a cluster: to another host.
    Drs(String),
    /// Storage DRS of a pod: to another datastore.
    StorageDrs(String),
}

pub(crate) async fn findings(vim: &Vim, appliance: &Moref) -> Result<Vec<Finding>> {
    let stands = vim.machine(appliance).await?;
    let mut movers = vec![];
    if let Some(cluster) = cluster_of(vim, &stands).await?
        && vim.drs_override(&cluster.moref, appliance).await? != Override::Stays
        && vim.drs_moves(&cluster.moref).await?
    {
        movers.push(Mover::Drs(cluster.name));
    }
    for pod in pods_of(vim, &stands).await? {
        if vim.storage_drs_override(&pod.moref, appliance).await? != Override::Stays
            && vim.storage_drs_moves(&pod.moref).await?
        {
            movers.push(Mover::StorageDrs(pod.name));
        }
    }
    Ok(movers.iter().map(told).collect())
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
