//! A process server as a service: many agents, one spool, stores near and far.

mod directory;
mod settings;
mod side;
mod vital;

use directory::Directory;
use settings::Settings;
use side::Sided;
use site_recovery::{Error, ErrorKind, Result, SystemClock};
use site_recovery_points::Points;
use site_recovery_process_server::sizing::{self, Work};
use site_recovery_service::{
    Command, Options, Peers, Service, certificate, join, read, refused, tell, to_standard_error,
};
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

/// Reads everything that the settings name, and changes nothing.
async fn check(settings: &Settings) -> Result<ExitCode> {
    settings.service.check()?;
    settings.process_server.throttle.validate()?;
    settings.keys()?;
    let work = Work { machines: 1, changes_a_day: 0 };
    let mut findings = sizing::findings(vital::host(settings), work);
    findings.push(certificate(&settings.service).await);
    println!("{} would listen on {}", settings.process_server.name, settings.service.listen);
    tell(&findings);
    Ok(ExitCode::SUCCESS)
}

async fn serve(settings: &Settings) -> Result<()> {
    let clock = Arc::new(SystemClock);
    let keys = settings.keys()?;
    let service = Service::open(&settings.service, settings.stated()).await?;
    let own = settings.builder(keys.clone()).clock(Arc::clone(&clock) as _).build().await?;
    let own = Arc::new(own);
    let mut server = service.server(&Peers::of(["engine:*"])?);
    let mut near = vec![];
    for store in &settings.stores {
        let (name, directory) = (store.name.clone(), store.directory.clone());
        let (keys, clock) = (keys.clone(), Arc::clone(&clock));
        let opened =
            move || Points::directory(name, directory, clock).map(|points| Arc::new(points.with_keys(keys)));
        let gone = |e| Error::new(ErrorKind::Unavailable, "a store was not opened").caused_by(e);
        let points = tokio::task::spawn_blocking(opened).await.map_err(gone)??;
        server = server.store(Arc::clone(&points) as _);
        near.push(points as Arc<dyn site_recovery::RecoveryPointStore>);
    }
    let directory = Directory::new(service.credentials().clone(), near);
    let sided = Sided::new(Arc::clone(&own), directory.clone(), settings);
    let vitals = service.vitals(Arc::new(Vital::new(own, settings)));
    let server = server.process_server(Arc::new(sided)).names(Arc::new(directory)).vitals(vitals);
    service.serve(server).await
}
