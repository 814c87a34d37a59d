//! What keeps a machine where it is, host and datastore: overrides of DRS and of storage DRS.

use site_recovery::Result;
use site_recovery_vim::{Compute, Folder, Machine, Moref, Override, Vim};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// What has no override yet.
pub(crate) async fn loose(vim: &Vim, machine: &Moref) -> Result<Vec<String>> {
    let stands = vim.machine(machine).await?;
    let mut loose = vec![];
    if let Some(cluster) = cluster_of(vim, &stands).await?
        && vim.drs_override(&cluster.moref, machine).await? == Override::None
    {
        loose.push(format!("drs:{}", cluster.moref.id));
    }
    for pod in pods_of(vim, &stands).await? {
        if vim.storage_drs_override(&pod.moref, machine).await? == Override::None {
            loose.push(format!("storage-drs:{}", pod.moref.id));
        }
    }
    Ok(loose)
}

/// Sets overrides by what [`loose`] called them.
pub(crate) async fn set(vim: &Vim, machine: &Moref, pins: &[String], wanted: Override) -> Result<()> {
    for pin in pins {
        let task = match pin.split_once(':') {
            Some(("drs", id)) => {
                let cluster = Moref::new("ClusterComputeResource", id);
                vim.set_drs_override(&cluster, machine, wanted).await?
            }
            Some(("storage-drs", id)) => {
                let pod = Moref::new("StoragePod", id);
                vim.set_storage_drs_override(&pod, machine, wanted).await?
            }
            _ => {
                tracing::warn!(pin, "nobody knows what keeps the machine where it is");
                None
            }
        };
        if let Some(task) = task {
            task.wait(LIMIT).await?;
        }
    }
    Ok(())
}

pub(crate) async fn cluster_of(vim: &Vim, machine: &Machine) -> Result<Option<Compute>> {
    let Some(host) = &machine.host else { return Ok(None) };
    let all = vim.computes().await?.into_iter();
    Ok(all.filter(Compute::is_cluster).find(|cluster| cluster.hosts.contains(host)))
}

/// The pods of storage DRS that have a disk of the machine.
pub(crate) async fn pods_of(vim: &Vim, machine: &Machine) -> Result<Vec<Folder>> {
    let used = machine.details.as_ref().map(|details| &details.datastores[..]).unwrap_or_default();
    let stores = vim.datastores().await?.into_iter().filter(|store| used.contains(&store.moref));
    let parents: Vec<Moref> = stores.filter_map(|store| store.parent).collect();
    if parents.iter().all(|parent| parent.kind != "StoragePod") {
        return Ok(vec![]);
    }
    let folders = vim.folders().await?.into_iter();
    Ok(folders.filter(|f| f.moref.kind == "StoragePod" && parents.contains(&f.moref)).collect())
}
