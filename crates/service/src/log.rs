//! What a service tells its operator as it happens.

use tracing_subscriber::EnvFilter;

/// Events go to standard error, one line each, from `info` up unless `SITE_RECOVERY_LOG` says otherwise.
pub fn to_standard_error() {
    let filter = EnvFilter::try_from_env("SITE_RECOVERY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Whoever set one before keeps it.
    let _ = subscriber.with_ansi(false).try_init();
}
