//! What a daemon looks at by itself: the process server's health, the age of points, readiness while it counts.

use crate::engine::Engine;
use site_recovery::{Clock, HealthLevel, SystemClock, Timestamp};
use std::time::Duration;

/// As the process server wants to be asked.
const EVERY: Duration = Duration::from_secs(60);
/// Readiness counts for twelve hours.
const READINESS_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Goes on for ever.
pub(crate) async fn tend(engine: &Engine) {
    let mut checked = Timestamp(0);
    loop {
        look(engine).await;
        let now = SystemClock.now();
        if now.since(checked) >= READINESS_EVERY {
            checked = now;
            for item in engine.vault.items() {
                if let Err(error) = item.check_readiness().await {
                    tracing::warn!(machine = %item.id(), %error, "readiness cannot be checked");
                }
            }
        }
        SystemClock.sleep(EVERY).await;
    }
}

async fn look(engine: &Engine) {
    match engine.process_server.health().await {
        Ok(findings) => {
            for finding in findings {
                tracing::warn!(code = finding.code, remedy = finding.remedy, "{}", finding.cause);
            }
        }
        Err(error) => tracing::warn!(%error, "the process server cannot be looked at"),
    }
    for item in engine.vault.items() {
        let Ok(summary) = item.summary() else { continue };
        let label = [("machine", item.id().to_string())];
        let level = match summary.health.level {
            HealthLevel::NotApplicable | HealthLevel::Normal => 0.0,
            HealthLevel::Warning => 1.0,
            HealthLevel::Critical => 2.0,
        };
        metrics::gauge!("site_recovery_health", &label).set(level);
        if let Some(rpo) = summary.health.rpo {
            metrics::gauge!("site_recovery_rpo_seconds", &label).set(rpo.as_secs_f64());
        }
    }
}
