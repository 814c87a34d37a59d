//! The site, on our fakes of Resource Manager and of Blob Storage: `tests/fake-arm`, `tests/fake-blob`.

mod capture;
mod changes;
mod given;
mod materialise;
mod preparation;
mod recovery;
mod remove;
mod source;
mod world;
