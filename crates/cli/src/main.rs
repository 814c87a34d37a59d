//! `site-recovery`: the operator's command. Thin over the library: it reads settings, opens what they name, asks the engine,
//! and shows what came of it.
//!
//! ```text
//!  args ──> settings ──> work ──> control: who holds the vault? ──> execute ──> answer ──> show
//! ```
//!
//! docs/cli.md describes verbs, settings, exit codes and JSON.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod control;
#[cfg(feature = "local")]
mod demo;
mod engine;
mod execute;
mod exit;
mod init;
mod interrupts;
mod open;
mod prompt;
mod reports;
mod run;
mod screen;
mod settings;
mod show;
mod tend;
mod validation;
mod verb;
mod work;

use answer::{Answer, Failed};
use args::{Cli, Global, Verb};
use clap::{CommandFactory, Parser};
use site_recovery::{Error, ErrorKind, Result};
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    log(if matches!(verb, Verb::Run) { "info" } else { "error" });
    let code = match verb {
        Verb::Init(told) => ended(&global, init::init(&told.directory).map(|said| said + "\n")),
        Verb::Completion { shell } => {
            let mut text = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "site-recovery", &mut text);
            say(&text)
        }
        Verb::Man => ended(&global, manual()),
        Verb::Schema => say(settings::schema().as_bytes()),
        Verb::Asked(asked) => on_runtime(&global, verb::verb(&global, asked)),
        Verb::Run => on_runtime(&global, async { ended(&global, run::run(&global).await.map(|()| String::new())) }),
        Verb::Demo(told) => demonstrate(&global, told.keep),
    };
    ExitCode::from(code)
}

#[cfg(feature = "local")]
fn demonstrate(global: &Global, keep: bool) -> u8 {
    on_runtime(global, async { ended(global, demo::demo(keep).await.map(|()| String::new())) })
}

#[cfg(not(feature = "local"))]
fn demonstrate(global: &Global, _: bool) -> u8 {
    let message = "the demonstration needs the feature local, which was not built in";
    ended(global, Err(Error::new(ErrorKind::Unsupported, message)))
}

/// A thread that still waits for a person does not hold up the end.
fn on_runtime(global: &Global, work: impl Future<Output = u8>) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            let message = "no threads can be started";
            ended(global, Err(Error::new(ErrorKind::Unavailable, message).caused_by(error)))
        }
    }
}

fn ended(global: &Global, end: Result<String>) -> u8 {
    match end {
        Ok(text) => say(text.as_bytes()),
        Err(error) => told(global, &Err(error.into())),
    }
}

/// Shows an end: an answer on standard output, a failure on standard error, and both as JSON on standard output where that is
/// wanted.
fn told(global: &Global, end: &std::result::Result<Answer, Failed>) -> u8 {
    let code = exit::of(end);
    let json = match end {
        Ok(answer) if global.json => serde_json::to_string(answer),
        Err(failed) if global.json => serde_json::to_string(&Failure { code, failed }),
        Ok(answer) => {
            say(show::text(answer).as_bytes());
            return code;
        }
        Err(failed) => {
            let _ = std::io::stderr().write_all(show::failed(failed).as_bytes());
            return code;
        }
    };
    let text = json.map(|json| json + "\n").unwrap_or_default();
    say(text.as_bytes());
    code
}

/// A failure as JSON: with the code that the process ends with.
#[derive(serde::Serialize)]
struct Failure<'a> {
    code: u8,
    failed: &'a Failed,
}

/// Whoever reads it may leave early.
fn say(text: &[u8]) -> u8 {
    let mut out = std::io::stdout();
    let _ = out.write_all(text).and_then(|()| out.flush());
    exit::DONE
}

fn manual() -> Result<String> {
    let mut text = vec![];
    let unwritten = |e: std::io::Error| Error::new(ErrorKind::Unavailable, "the page cannot be written").caused_by(e);
    clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(unwritten)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Events go to standard error, from `level` up unless `SITE_RECOVERY_LOG` says otherwise.
fn log(level: &str) {
    let filter = EnvFilter::try_from_env("SITE_RECOVERY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
