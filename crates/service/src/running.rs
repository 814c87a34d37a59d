//! A service that has joined, from its start to its end.

use crate::certificate::Certified;
use crate::peers::Peers;
use crate::settings::Settings;
use site_recovery::{Error, ErrorKind, Result, Spawner, TokioSpawner};
use site_recovery_transport::enrol::{Credentials, Keeping, Renewal, Stated};
use site_recovery_transport::{Server, ServerBuilder, Vitals};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What is in flight has this long when a service is stopped.
const LAST: Duration = Duration::from_secs(30);

/// A service that has joined: its credentials, kept fresh as long as it lives.
#[derive(Debug)]
pub struct Service {
    credentials: Credentials,
    settings: Settings,
    spawner: Arc<dyn Spawner>,
    _renewal: Renewal,
}

impl Service {
    /// Opens the credentials and keeps them fresh from now on.
    ///
    /// # Errors
    /// `Invalid`, naming the setting; those of
    /// [`CredentialsBuilder::open`](site_recovery_transport::enrol::CredentialsBuilder::open).
    pub async fn open(settings: &Settings, stated: Stated) -> Result<Self> {
        settings.check()?;
        let credentials = Credentials::at(settings.credentials()).states(stated).open().await?;
        let spawner: Arc<dyn Spawner> = Arc::new(TokioSpawner::current()?);
        let renewal = credentials.keep(Keeping::default(), &*spawner)?;
        Ok(Self { credentials, settings: settings.clone(), spawner, _renewal: renewal })
    }

    /// Its credentials.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What starts its tasks.
    pub fn spawner(&self) -> &Arc<dyn Spawner> {
        &self.spawner
    }

    /// A server of no roles yet, for those whom the settings let in, or else `unless_said`.
    pub fn server(&self, unless_said: &Peers) -> ServerBuilder {
        let peers = self.settings.allow.as_ref().unwrap_or(unless_said);
        peers.let_in(Server::builder(self.credentials.server_tls()))
    }

    /// What the service says of itself, and how its certificate stands: finding `service.certificate`, figure `certificate_seconds`.
    pub fn vitals(&self, own: Arc<dyn Vitals>) -> Arc<dyn Vitals> {
        Arc::new(Certified { own, credentials: self.credentials.clone() })
    }

    /// Serves until SIGTERM or SIGINT; then what is in flight is answered, for half a minute at most. Tells systemd when it
    /// is ready and when it stops.
    ///
    /// # Errors
    /// Those of [`ServerBuilder::listen`].
    pub async fn serve(self, server: ServerBuilder) -> Result<()> {
        let stop = told_to_stop()?;
        let server = server.listen(self.settings.listen).await?;
        let service = self.credentials.service();
        tracing::info!(%service, address = %server.address(), "serving");
        tell(&[sd_notify::NotifyState::Ready]);
        stop.await;
        tell(&[sd_notify::NotifyState::Stopping]);
        tracing::info!(%service, "stopping");
        let stopped = server.stop(LAST).await;
        if stopped.cut > 0 {
            tracing::warn!(connections = stopped.cut, "cut in the middle of something");
        }
        Ok(())
    }
}

/// Where there is no systemd, nobody is told.
fn tell(what: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "the service manager is not told");
    }
}

/// Heard from now on, and not only when it is waited for.
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let deaf = |e: std::io::Error| Error::new(ErrorKind::Unavailable, "signals cannot be heard").caused_by(e);
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
