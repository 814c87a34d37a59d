//! How an agent is, what it may take of its server, and what it takes.

use crate::settings::Limits;
use async_trait::async_trait;
use site_recovery::{Finding, Severity};
use site_recovery_physical::agent::Agent;
use site_recovery_transport::{VitalSigns, Vitals};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Vital {
    pub(crate) agent: Arc<Agent>,
    pub(crate) site: Option<String>,
    pub(crate) limits: Limits,
}

#[async_trait]
impl Vitals for Vital {
    async fn vital_signs(&self) -> VitalSigns {
        let findings = match self.agent.check().await {
            Ok(findings) => findings,
            Err(error) => {
                let (cause, remedy) = (error.to_string(), "see to the server");
                vec![Finding::new("agent.look", Severity::Critical, cause, remedy)]
            }
        };
        let Limits { scan_bytes_per_second, scan_cpu_percent, nice, memory_bytes } = &self.limits;
        let figures = [
            ("scanned_bytes", Some(self.agent.scanned() as f64)),
            ("cpu_seconds", Some(cpu_seconds())),
            ("memory_bytes", memory_bytes_now()),
            ("limit_scan_bytes_per_second", scan_bytes_per_second.map(|bytes| bytes as f64)),
            ("limit_scan_cpu_percent", scan_cpu_percent.map(f64::from)),
            ("limit_nice", Some(f64::from(*nice))),
            ("limit_memory_bytes", Some(*memory_bytes as f64)),
        ];
        let known = |(name, value): (&str, Option<f64>)| Some((name.to_owned(), value?));
        VitalSigns {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            site: self.site.clone(),
            findings,
            figures: figures.into_iter().filter_map(known).collect::<BTreeMap<_, _>>(),
            ..VitalSigns::default()
        }
    }
}

/// Of the whole process, since it began.
fn cpu_seconds() -> f64 {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    taken.tv_sec as f64 + taken.tv_nsec as f64 / 1e9
}

/// What the process has in memory that no file stands behind.
fn memory_bytes_now() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}
