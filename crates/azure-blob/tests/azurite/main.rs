//! Against Azurite, over HTTPS. What it gets wrong is not asserted here: differences of snapshots, the largest write, the moment
//! at which a copy is done.

#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod on_azurite;
mod server;
