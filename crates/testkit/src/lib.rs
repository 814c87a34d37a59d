//! For adapter authors and embedders: conformance suites, an in-memory world, faults, crashes, a manual clock.
#![forbid(unsafe_code)]

pub mod clock;
pub mod crash;
pub mod engine;
pub mod faults;
pub mod fuzz;
pub mod journal;
pub mod suite;
pub mod world;
