//! What keeps a machine where it is, host and datastore: overrides of DRS and of storage DRS.

use site_recovery::Result;
use site_recovery_vim::{Compute, Moref, Override, Vim};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// What has no override yet.
pub(crate) async fn loose(vim: &Vim, machine: &Moref) -> Result<Vec<String>> {
    let mut loose = vec![];
    if let Some(cluster) = cluster_of(vim, machine).await?
        && vim.drs_override(&cluster.moref, machine).await? == Override::None
    {
        loose.push(format!("drs:{}", cluster.moref.id));
    }
    for pod in pods_of(vim, machine).await? {
        if vim.storage_drs_override(&pod, machine).await? == Override::None {
            loose.push(format!("storage-drs:{}", pod.id));
        }
    }
    Ok(loose)
}

/// Sets overrides by what [`loose`] called them.
pub(crate) async fn set(vim: &Vim, machine: &Moref, pins: &[String], wanted: Override) -> Result<()> {
    for pin in pins {
        match pin.split_once(':') {
            Some(("drs", id)) => drs(vim, &Moref::new("ClusterComputeResource", id), machine, wanted).await?,
            Some(("storage-drs", id)) => {
                storage_drs(vim, &Moref::new("StoragePod", id), machine, wanted).await?;
            }
            _ => tracing::warn!(pin, "nobody knows what keeps the machine where it is"),
        }
    }
    Ok(())
}

async fn drs(vim: &Vim, cluster: &Moref, machine: &Moref, wanted: Override) -> Result<()> {
    if let Some(task) = vim.set_drs_override(cluster, machine, wanted).await? {
        task.wait(LIMIT).await?;
    }
    Ok(())
}

async fn storage_drs(vim: &Vim, pod: &Moref, machine: &Moref, wanted: Override) -> Result<()> {
    if let Some(task) = vim.set_storage_drs_override(pod, machine, wanted).await? {
        task.wait(LIMIT).await?;
    }
    Ok(())
}

pub(crate) async fn cluster_of(vim: &Vim, machine: &Moref) -> Result<Option<Compute>> {
    let host = vim.machine(machine).await?.host;
    let Some(host) = host else { return Ok(None) };
    let all = vim.computes().await?.into_iter();
    Ok(all.filter(|c| c.is_cluster()).find(|c| c.hosts.contains(&host)))
}

/// The pods of storage DRS that have a disk of the machine.
pub(crate) async fn pods_of(vim: &Vim, machine: &Moref) -> Result<Vec<Moref>> {
    let details = vim.machine(machine).await?.details;
    let used = details.map(|details| details.datastores).unwrap_or_default();
    let stores = vim.datastores().await?.into_iter().filter(|store| used.contains(&store.moref));
    let mut pods: Vec<Moref> = stores.filter_map(|s| s.parent).filter(|p| p.kind == "StoragePod").collect();
    pods.sort();
    pods.dedup();
    Ok(pods)
}
