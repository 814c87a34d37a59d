//! The simulator as vCenter, by REST.

use serde_json::json;
use site_recovery::SystemClock;
use std::sync::Arc;
use vmware_vsphere_rest::{Dialect, Machine, MachineFilter, VCenter};

pub(crate) use crate::process::{Mode, Sim};

pub(crate) const BOTH: [Dialect; 2] = [Dialect::Api, Dialect::Rest];

impl Sim {
    pub(crate) async fn try_connect(&self) -> Result<VCenter, vmware_vsphere_rest::Error> {
        VCenter::connect(&self.settings, Arc::new(SystemClock)).await
    }

    /// In this dialect: where it is the older one, there is no session below `/api`.
    pub(crate) async fn connect(&self, dialect: Dialect) -> VCenter {
        if dialect == Dialect::Rest {
            let gone = json!({ "path": "/api", "kind": "status", "status": 404, "count": 0 });
            self.tell("http-fault", gone).await;
        }
        let vcenter = self.try_connect().await.unwrap();
        assert_eq!(vcenter.dialect(), dialect);
        vcenter
    }
}

/// All machines, by name.
pub(crate) async fn machines(vcenter: &VCenter) -> Vec<Machine> {
    let mut all = vcenter.machines(&MachineFilter::default()).await.unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
