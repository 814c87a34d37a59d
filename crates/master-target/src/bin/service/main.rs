//! A master target as a service: its retention volume, and disks that machines land on.

mod landing;
mod settings;
mod vital;

use settings::Settings;
use site_recovery::{Error, ErrorKind, Result, SystemClock};
use site_recovery_master_target::MasterTarget;
use site_recovery_master_target::volume::{is_in_memory, judge, volumes};
use site_recovery_service::{
    Command, Options, Peers, Service, certificate, join, read, refused, tell, to_standard_error,
};
use site_recovery_transport::enrol::ServiceKind;
use site_recovery_transport::{Client, Machines};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use vital::Vital;

#[tokio::main]
async fn main() -> ExitCode {
    to_standard_error();
    match run(Options::given()).await {
        Ok(code) => code,
        Err(error) => refused(&error),
    }
}

async fn run(options: Options) -> Result<ExitCode> {
    let settings: Settings = read(&options.config)?;
    match options.command {
        Command::Join { token_file } => {
            let joined = join(&settings.service, settings.stated(), &token_file).await?;
            println!("joined as {} until {}", joined.service(), joined.until());
        }
        Command::Check => return check(&settings).await,
        Command::Run => serve(&settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells which volumes could hold the log, and whether the one that is named can.
async fn check(settings: &Settings) -> Result<ExitCode> {
    settings.service.check()?;
    for volume in volumes(settings.uses()).await? {
        let why = volume.ineligible.unwrap_or_else(|| "can hold the retention log".to_owned());
        println!("{}: {} of {} bytes free: {why}", volume.name, volume.free, volume.size);
    }
    tell(&[certificate(&settings.service).await]);
    fit(settings)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a volume that cannot hold the log.
fn fit(settings: &Settings) -> Result<()> {
    let volume = &settings.master_target.retention;
    let in_memory = is_in_memory(volume).then(|| "it is in memory, and gone with the next start".to_owned());
    match judge(volume, &settings.uses()).ineligible.or(in_memory) {
        None => Ok(()),
        Some(why) => {
            let value = format!("{}: {why}", volume.display());
            let rule = "the retention log has a volume of its own";
            let remedy = "name another; `check` tells which can hold it";
            Err(Error::invalid("master_target.retention", value, rule, remedy))
        }
    }
}

async fn serve(settings: &Settings) -> Result<()> {
    fit(settings)?;
    let clock = Arc::new(SystemClock);
    let service = Service::open(&settings.service, settings.stated()).await?;
    let landing = landing::open(settings, service.credentials()).await?;
    let (name, retention) = (settings.master_target.name.clone(), settings.master_target.retention.clone());
    let opened = MasterTarget::open(name, landing, retention, clock).await;
    let own = Arc::new(opened.map_err(|e| match e.kind() {
        ErrorKind::Invalid => e.with("settings", "master_target.retention"),
        _ => e,
    })?);
    let vitals = service.vitals(Arc::new(Vital::new(settings)));
    let server = service.server(&Peers::of(["engine:*", "process-server:*"])?);
    // A server that starts asks how it stands. Its agent names no machine, and is told of its own alone.
    let agents = (Client::kind(ServiceKind::Agent), Machines::Only(BTreeSet::new()));
    let server = server.witness(Arc::clone(&own) as _).allow(agents.0, agents.1);
    let server = server.master_target(own).vitals(vitals);
    service.serve(server).await
}
