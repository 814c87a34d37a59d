//! The command line of every service.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// What is to be done, by which settings.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
pub struct Options {
    /// The file of settings.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Options {
    /// Those of this process. Ends it where they are none, and where help or the version is asked for.
    pub fn given() -> Self {
        Self::parse()
    }
}

/// What a service can be told to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serves until it is told to stop by SIGTERM or SIGINT.
    Run,
    /// Joins the vault by a token, once. The token is read from a file, or from standard input: never from an argument.
    Join {
        /// The file that holds the token; `-` is standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        token_file: PathBuf,
    },
    /// Reads the settings, looks at everything that they name, tells what it finds, and changes nothing.
    Check,
}
