//! The site, on our fakes of Resource Manager and of Blob Storage: `tests/fake-arm`, `tests/fake-blob`.

mod checks;
mod lost;
mod recovered;
mod recovery;
mod refused;
mod secrets;
mod source;
mod troubles;
mod world;
