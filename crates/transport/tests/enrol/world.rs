//! An authority behind its port, and services that joined.

use crate::support::loopback;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_transport::enrol::*;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authority: Authority,
    pub(crate) server: EnrolmentServer,
}

impl World {
    /// By a clock that is moved by hand.
    pub(crate) async fn by(clock: &ManualClock) -> Self {
        Self::with(Arc::new(clock.clone()), EnrolmentLimits::default()).await
    }

    pub(crate) async fn now() -> Self {
        Self::with(Arc::new(SystemClock), EnrolmentLimits::default()).await
    }

    pub(crate) async fn with(clock: Arc<dyn Clock>, limits: EnrolmentLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path().join("authority"), Arc::clone(&clock)).unwrap();
        let server = EnrolmentServer::listen(authority.clone(), loopback(), limits).await.unwrap();
        Self { dir, clock, authority, server }
    }

    pub(crate) fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> CredentialsBuilder {
        Credentials::at(self.place(name)).clock(Arc::clone(&self.clock))
    }

    pub(crate) async fn token(&self, service: &Service) -> JoinToken {
        self.authority.mint(Invitation::new(service.clone(), self.address())).await.unwrap()
    }

    pub(crate) async fn joined(&self, service: &Service) -> Credentials {
        let token = self.token(service).await;
        self.at(service.name()).join(&token).await.unwrap()
    }
}

pub(crate) fn agent(name: &str) -> Service {
    Service::new(ServiceKind::Agent, name).unwrap()
}

pub(crate) fn store(name: &str) -> Service {
    Service::new(ServiceKind::PointStore, name).unwrap()
}

/// Until this holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::timeout(Duration::from_millis(10), std::future::pending::<()>()).await.unwrap_err();
    }
    panic!("never: {what}");
}

/// Passes bytes on to `target`, and cuts the connection before it passes any back once `cut` says so.
pub(crate) async fn proxy(
    target: SocketAddr,
    cut: impl Fn() -> bool + Send + Sync + 'static,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(target).await.unwrap();
            let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
                (near.into_split(), far.into_split());
            let there = tokio::io::copy(&mut from_near, &mut to_far);
            let back = async {
                let mut bytes = vec![0; 64 * 1024];
                loop {
                    let n = from_far.read(&mut bytes).await.unwrap_or(0);
                    if n == 0 || cut() {
                        return;
                    }
                    to_near.write_all(&bytes[..n]).await.unwrap();
                }
            };
            tokio::select! {
                _ = there => {}
                () = back => {}
            }
        }
    };
    #[allow(clippy::disallowed_methods, reason = "a test's own peer")]
    (address, tokio::spawn(task))
}
