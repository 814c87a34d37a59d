//! Makes the server ready to start elsewhere, ahead of the disaster.

use crate::serve::Here;
use crate::settings::Agent;
use site_recovery::{Error, Result, Severity};
use site_recovery_physical::agent::Look;
use site_recovery_physical::preparation::Preparation;
use site_recovery_service as service;
use std::process::ExitCode;

pub(crate) async fn run(settings: &Agent, dry_run: bool, revert: bool) -> Result<ExitCode> {
    let towards = settings.preparation.as_ref().ok_or_else(|| {
        let rule = "a server is prepared for a place";
        Error::invalid("preparation", "absent", rule, "add a table [preparation] with towards = [\"HyperV\"]")
    })?;
    let preparation = Preparation::here(towards.towards.iter().copied())?;
    if revert {
        preparation.revert().await?;
        println!("what was done is taken back");
        return Ok(ExitCode::SUCCESS);
    }
    let server = Here::of(settings).look().await?;
    let findings = match dry_run {
        true => {
            let plan = preparation.plan(&server).await?;
            for file in &plan.files {
                println!("would write {}", file.path);
            }
            if let Some(builder) = &plan.build {
                println!("would build the initramfs by {builder:?}");
            }
            plan.findings
        }
        false => preparation.apply(&server).await?,
    };
    service::tell(&findings);
    let blocks = findings.iter().any(|finding| finding.severity == Severity::Critical);
    Ok(if blocks { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
