//! The site, on our fakes of Resource Manager and of Blob Storage: `tests/fake-arm`, `tests/fake-blob`.

mod at_once;
mod boot;
mod capture;
mod changes;
mod checks;
mod claim;
mod codes;
mod given;
mod lost;
mod materialise;
mod power;
mod preparation;
mod recovered;
mod recovery;
mod refused;
mod remove;
mod secrets;
mod source;
mod troubles;
mod uploads;
mod world;
