//! How this master target is, for whoever asks.

use crate::settings::Settings;
use async_trait::async_trait;
use site_recovery::{Finding, Severity};
use site_recovery_master_target::volume::{Uses, beside, judge};
use site_recovery_transport::{VitalSigns, Vitals};
use std::path::{Path, PathBuf};

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
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let site = self.site.clone();
        // A volume that does not answer holds up a thread of its own, and not those who ask for something else.
        let (volume, uses) = (self.retention.clone(), self.uses.clone());
        let looked = tokio::task::spawn_blocking(move || look(&volume, &uses)).await;
        let (findings, figures) = looked.unwrap_or_else(|_| {
            let cause = "the look at the retention volume broke off";
            (vec![Finding::new("retention.volume", Severity::Critical, cause, "see to the volume")], None)
        });
        let figures = figures.map(|free| ("retention_free_bytes".to_owned(), free)).into_iter().collect();
        VitalSigns { version, site, findings, figures, ..VitalSigns::default() }
    }
}

/// How the volume is, and bytes that are free. Blocks.
fn look(retention: &Path, uses: &Uses) -> (Vec<Finding>, Option<f64>) {
    let volume = judge(retention, uses);
    let mut findings = vec![];
    if let Some(why) = &volume.ineligible {
        let cause = format!("retention volume {}: {why}", volume.name);
        findings.push(Finding::new("retention.volume", Severity::Critical, cause, "see to the volume"));
    } else if let Some(other) = beside(retention, uses).first() {
        let cause =
            format!("retention volume {} shares its file system with {}", volume.name, other.display());
        let remedy = "give the log a volume of its own: one takes the room of the other";
        findings.push(Finding::new("retention.shared", Severity::Warning, cause, remedy));
    }
    // A quarter, as of the cache of Azure's process server.
    if volume.size > 0 && volume.free < volume.size / 4 {
        let share = volume.free * 100 / volume.size;
        let cause = format!("{share} % of the retention volume {} are free", volume.name);
        let remedy = "give it more room, or drop points: without room nothing lands";
        findings.push(Finding::new("retention.room", Severity::Warning, cause, remedy));
    }
    (findings, Some(volume.free as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_volume_that_is_shared_is_told_and_one_that_is_used_is_critical() {
        let dir = tempfile::tempdir().unwrap();
        let retention = dir.path().join("retention");
        std::fs::create_dir(&retention).unwrap();
        let told = async |landing: PathBuf| {
            let uses = Uses { landing: vec![landing], caches: vec![] };
            let signs = Vital { site: None, retention: retention.clone(), uses }.vital_signs().await;
            assert!(signs.figures["retention_free_bytes"] > 0.0);
            let all = signs.findings.into_iter().filter(|finding| finding.code != "retention.room");
            all.map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
        };
        let told_as = |code: &str, severity| vec![(code.to_owned(), severity)];
        assert_eq!(told("/proc".into()).await, []);
        assert_eq!(told(dir.path().join("disks")).await, told_as("retention.shared", Severity::Warning));
        assert_eq!(told(retention.join("disks")).await, told_as("retention.volume", Severity::Critical));
    }
}
