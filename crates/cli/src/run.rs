//! The daemon: replicates what is due, and does what other commands ask for, until it is told to stop.

use crate::answer::Told;
use crate::args::Global;
use crate::control::{Desk, Lock};
use crate::engine::Engine;
use crate::execute::{self, Out};
use crate::interrupts::Interrupts;
use crate::settings::Metrics;
use crate::{exit, tend, verb};
use metrics_exporter_prometheus::PrometheusBuilder;
use sd_notify::NotifyState;
use site_recovery::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Jobs that others asked for have this long when it stops. What is left goes on at the next start.
const LAST: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// `Busy`, naming the process that holds the vault; those of the settings, the roles and the journal.
pub(crate) async fn run(global: &Global) -> Result<()> {
    let settings = verb::settings(global)?;
    let state = settings.vault.state.clone();
    let Some(_lock) = Lock::take(&state)? else {
        let pid =
            Lock::holder(&state).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
        let message = format!("{pid} holds the vault {}: end that one first", state.display());
        return Err(Error::new(ErrorKind::Busy, message));
    };
    let mut interrupts = Interrupts::heard()?;
    let mut beside = JoinSet::new();
    if let Metrics::At(at) = settings.run.metrics {
        beside.spawn(metrics(at)?);
    }
    let desk = Desk::open(&state)?;
    let engine = Arc::new(Engine::open(settings).await?);
    let (told, mut to_tell) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let out = Out::new(told, stopped);
    notify(&[NotifyState::Ready]);
    tracing::info!(state = %state.display(), machines = engine.vault.items().len(), "running");
    let listening = async {
        loop {
            tokio::select! {
                () = interrupts.next() => {
                    if stop.send_replace(true) {
                        std::process::exit(exit::INTERRUPTED.into());
                    }
                    notify(&[NotifyState::Stopping]);
                    tracing::info!("stopping");
                }
                told = to_tell.recv() => match told {
                    Some(Told::Note(note)) => tracing::info!("{note}"),
                    Some(_) => {}
                    None => std::future::pending().await,
                },
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = desk.until(&engine, work(&engine, &out), &out, LAST) => {}
    }
    Ok(())
}

/// What an interrupted job left is gone on with while everything else replicates.
async fn work(engine: &Engine, out: &Out) {
    let beside = async {
        execute::resume(engine, out).await;
        tend::tend(engine).await;
    };
    tokio::pin!(beside);
    let run = engine.vault.run(out.stopped());
    tokio::select! {
        () = run => {}
        () = &mut beside => {}
    }
}

/// Metrics for Prometheus, of everything from now on.
fn metrics(at: SocketAddr) -> Result<impl Future<Output = ()> + Send + 'static> {
    let failed =
        |e: String| Error::new(ErrorKind::Unavailable, format!("metrics cannot be served at {at}: {e}"));
    let (recorder, serve) =
        PrometheusBuilder::new().with_http_listener(at).build().map_err(|e| failed(e.to_string()))?;
    ::metrics::set_global_recorder(recorder).map_err(|e| failed(e.to_string()))?;
    Ok(async move {
        if serve.await.is_err() {
            tracing::error!(%at, "metrics are served no more");
        }
    })
}

/// Where there is no systemd, nobody is told.
fn notify(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "the service manager is not told");
    }
}
