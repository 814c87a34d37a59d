//! How this master target is, for whoever asks.

use crate::settings::Settings;
use async_trait::async_trait;
use site_recovery::{Finding, Severity};
use site_recovery_master_target::volume::{Uses, judge};
use site_recovery_transport::{VitalSigns, Vitals};
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Vital {
    site: Option<String>,
    retention: PathBuf,
    uses: Uses,
}

impl Vital {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (site, retention) = (settings.service.site.clone(), settings.master_target.retention.clone());
        Self { site, retention, uses: settings.uses() }
    }
}

#[async_trait]
impl Vitals for Vital {
    async fn vital_signs(&self) -> VitalSigns {
        let volume = judge(&self.retention, &self.uses);
        let mut findings = vec![];
        if let Some(why) = &volume.ineligible {
            let cause = format!("retention volume {}: {why}", volume.name);
            findings.push(Finding::new("retention.volume", Severity::Critical, cause, "see to the volume"));
        }
        // A quarter, as of the cache of Azure's process server.
        if volume.size > 0 && volume.free < volume.size / 4 {
            let share = volume.free * 100 / volume.size;
            let cause = format!("{share} % of the retention volume {} are free", volume.name);
            let remedy = "give it more room, or drop points: without room nothing lands";
            findings.push(Finding::new("retention.room", Severity::Warning, cause, remedy));
        }
        let figures = [("retention_free_bytes".to_owned(), volume.free as f64)].into();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        VitalSigns { version, site: self.site.clone(), findings, figures, ..VitalSigns::default() }
    }
}
