//! The mobility agent of a Linux server: serves it to its vault as a source, or, started from a rescue system, its bare disks
//! as a landing site.

mod check;
mod guard;
mod hand;
mod preparation;
mod serve;
mod settings;
mod vital;

use clap::{Parser, Subcommand};
use guard::Wanted;
use settings::Agent;
use site_recovery::Result;
use site_recovery_service as service;
use std::path::PathBuf;
use std::process::ExitCode;

/// The mobility agent of a Linux server.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Options {
    /// The file of settings.
    #[arg(long, value_name = "FILE", default_value = "/etc/site-recovery/agent.toml")]
    config: PathBuf,
    /// Serves bare disks as a landing site, from a rescue system: the disks that `[receive]` names are written.
    #[arg(long)]
    receive: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Service(service::Command),
    /// Makes the server ready to start at another place: drivers in its initramfs, its address by DHCP there.
    Prepare {
        /// Tells what would be done, and does nothing.
        #[arg(long, conflicts_with = "revert")]
        dry_run: bool,
        /// Takes back what was done.
        #[arg(long)]
        revert: bool,
    },
    /// Asks whether this server may take part in the network, until it may. Run before any network is set up.
    Guard {
        /// Answers for this start, by name: the server takes part whatever anybody says. With a reason.
        #[arg(long, value_name = "OPERATOR", requires = "reason")]
        lift: Option<String>,
        /// Why.
        #[arg(long, requires = "lift")]
        reason: Option<String>,
        /// Asks once, and fails where it may not.
        #[arg(long, conflicts_with = "lift")]
        once: bool,
        /// Asks everybody now, and tells what each one answers: for a server that is well. Changes nothing.
        #[arg(long, conflicts_with_all = ["lift", "once"])]
        check: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    service::to_standard_error();
    let options = Options::parse();
    match run(options).await {
        Ok(code) => code,
        Err(error) => service::refused(&error),
    }
}

async fn run(options: Options) -> Result<ExitCode> {
    let settings = || {
        let settings: Agent = service::read(&options.config)?;
        settings.check().map(|()| settings)
    };
    match options.command {
        Command::Prepare { dry_run, revert } => preparation::run(&settings()?, dry_run, revert).await,
        Command::Guard { lift, reason, once, check } => {
            let wanted = match lift.zip(reason) {
                Some((operator, reason)) => Wanted::Lift { operator, reason },
                None if check => Wanted::Check,
                None if once => Wanted::Once,
                None => Wanted::UntilItMay,
            };
            // It reads the settings by itself, as often as it tries.
            guard::run(&options.config, wanted).await
        }
        Command::Service(service::Command::Check) => check::run(&settings()?, options.receive).await,
        Command::Service(service::Command::Join { token_file }) => {
            let settings = settings()?;
            let stated = settings.stated(options.receive)?;
            let joined = service::join(&settings.service, stated, &token_file).await?;
            println!("joined as {} until {}", joined.service(), joined.until());
            Ok(ExitCode::SUCCESS)
        }
        Command::Service(service::Command::Run) => {
            if options.receive {
                serve::bare_disks(&settings()?).await?;
            } else {
                serve::source(&settings()?).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
