//! The site, on our fakes of Resource Manager and of Blob Storage: `tests/fake-arm`, `tests/fake-blob`.

mod boot;
mod capture;
mod changes;
mod check;
mod claim;
mod given;
mod materialise;
mod power;
mod preparation;
mod recovery;
mod remove;
mod source;
mod world;
