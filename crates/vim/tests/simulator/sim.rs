//! The simulator as vCenter and as a host, by VIM.

use serde_json::json;
use site_recovery::SystemClock;
use site_recovery_vim::{Machine, Vim};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use crate::process::{Mode, Sim};

pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const BOTH: [Mode; 2] = [Mode::VCenter, Mode::Esxi];

impl Sim {
    pub(crate) async fn connect(&self) -> Vim {
        Vim::connect(&self.settings, Arc::new(SystemClock)).await.unwrap()
    }

    /// The path of the datacenter, as files are named by.
    pub(crate) fn datacenter(&self) -> &'static str {
        if self.mode == Mode::VCenter { "DC0" } else { "ha-datacenter" }
    }

    /// The local file of a path on a datastore.
    pub(crate) fn local(&self, path: &site_recovery_vim::DatastorePath) -> PathBuf {
        self.datastores[path.datastore()].join(path.path())
    }

    pub(crate) async fn write(&self, machine: &str, offset: u64, len: usize) {
        // Base64 of zeros would be no change; of ones it is.
        let data = "/".repeat(len.div_ceil(3) * 4);
        self.tell("guest-write", json!({ "machine": machine, "key": 0, "offset": offset, "data": data }))
            .await;
    }
}

/// The first machine, whole.
pub(crate) async fn first(vim: &Vim) -> Machine {
    let mut all = vim.machines(&vim.content().root_folder).await.unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    vim.machine(&all[0].moref).await.unwrap()
}
