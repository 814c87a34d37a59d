//! The site, on our fakes of Resource Manager and of Blob Storage: `tests/fake-arm`, `tests/fake-blob`.

mod boot;
mod check;
mod claim;
mod given;
mod power;
mod recovery;
mod source;
mod world;
