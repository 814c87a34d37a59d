//! Recovery points in page blobs: on Azurite over HTTPS, and on the fake of Blob Storage where something has to go wrong.

#[path = "../../../azure-blob/tests/azurite/server.rs"]
mod server;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod broken_seal;
mod closed;
mod ground;
mod growth;
mod kept;
mod left;
mod lost;
mod machines;
mod scrub;
mod strangers;
mod suites;
mod timelines;
mod unnoted;
mod vault;
