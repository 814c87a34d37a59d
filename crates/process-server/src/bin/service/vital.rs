//! How this process server is, for whoever asks.

use crate::settings::Settings;
use async_trait::async_trait;
use site_recovery::{Finding, Severity};
use site_recovery_process_server::ProcessServer;
use site_recovery_process_server::sizing::{self, Size};
use site_recovery_transport::{VitalSigns, Vitals};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Vital {
    own: Arc<ProcessServer>,
    site: Option<String>,
    host: Size,
}

impl Vital {
    pub(crate) fn new(own: Arc<ProcessServer>, settings: &Settings) -> Self {
        Self { own, site: settings.service.site.clone(), host: host(settings) }
    }
}

#[async_trait]
impl Vitals for Vital {
    async fn vital_signs(&self) -> VitalSigns {
        let mut findings = self.own.health().await.unwrap_or_else(|error| {
            let cause = error.to_string();
            vec![Finding::new("process_server.health", Severity::Critical, cause, "see to the spool")]
        });
        findings.extend(sizing::findings(self.host, self.own.work()));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        VitalSigns { version, site: self.site.clone(), findings, ..VitalSigns::default() }
    }
}

/// The host that this process server is on.
pub(crate) fn host(settings: &Settings) -> Size {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let memory = memory.map_or(u64::MAX / 2, |kib| kib * 1024);
    let volume =
        || settings.process_server.spool.as_deref().and_then(|spool| rustix::fs::statvfs(spool).ok());
    let spool = settings.process_server.spool_bytes.or_else(|| volume().map(|v| v.f_blocks * v.f_frsize));
    Size { processors, memory, spool: spool.unwrap_or(0) }
}
