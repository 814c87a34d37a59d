//! Recovery points in page blobs, on Azurite over HTTPS.

#[path = "../../../azure-blob/tests/azurite/server.rs"]
mod server;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod kept;
mod suites;
