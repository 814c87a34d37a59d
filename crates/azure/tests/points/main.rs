//! Recovery points in page blobs, on Azurite over HTTPS; what goes wrong, on our fake, `tests/fake-blob`.

#[path = "../../../azure-blob/tests/azurite/server.rs"]
mod server;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod lost;
mod strangers;
mod suites;
mod vault;
