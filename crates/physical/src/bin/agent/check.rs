//! The dry run: what the settings name is looked at, and nothing is changed.

use crate::guard::shows_its_own;
use crate::serve::{Here, alone, landing, open};
use crate::settings::Agent;
use site_recovery::{ErrorKind, Finding, Result, Severity};
use site_recovery_physical::agent::Look;
use site_recovery_physical::inventory;
use site_recovery_physical::preparation::Preparation;
use site_recovery_service as service;
use std::process::ExitCode;

pub(crate) async fn run(settings: &Agent, receives: bool) -> Result<ExitCode> {
    settings.service.check()?;
    shows_its_own(settings)?;
    let mut findings = vec![service::certificate(&settings.service).await];
    if receives {
        let landing = landing(settings)?;
        println!("{landing:?} would be written when something lands here");
    } else {
        let server = Here::of(settings).look().await?;
        println!("{}: {} disks, {} bytes of memory", server.name, server.disks.len(), server.memory);
        for disk in &server.disks {
            println!("  {} {} {} bytes {:?}", disk.id, disk.device.display(), disk.size, disk.role);
        }
        for left_out in &server.left_out {
            println!("  {} is left out: {}", left_out.device.display(), left_out.why);
        }
        findings.extend(inventory::check(&server));
        findings.extend(scratch(settings)?);
        // Opened where it ran before: the first opening makes its directory.
        if settings.agent()?.state.exists() {
            match alone(settings) {
                Ok(_alone) => findings.extend(open(settings)?.check().await?),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    println!("the agent runs; it tells how captures stand");
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(preparation) = &settings.preparation {
            findings.extend(Preparation::here(preparation.towards.iter().copied())?.check(&server).await?);
        }
    }
    service::tell(&findings);
    let blocks = findings.iter().any(|finding| finding.severity == Severity::Critical);
    Ok(if blocks { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What stands in the way of scratch space, before the first capture writes to it.
fn scratch(settings: &Agent) -> Result<Option<Finding>> {
    let Some(mapped) = &settings.capture.device_mapper else { return Ok(None) };
    let device = mapped.scratch.display();
    match mapped.means(&settings.agent()?)?.look() {
        Ok(true) => println!("  {device} is labelled as scratch space"),
        Ok(false) => println!("  {device} would be labelled as scratch space by the first capture"),
        Err(error) => {
            let remedy =
                "no capture is taken by device-mapper, and nothing is written there, until it is another one";
            return Ok(Some(Finding::new("capture.scratch", Severity::Critical, error.to_string(), remedy)));
        }
    }
    Ok(None)
}
