//! Runs of plans over the in-memory world, by the world's state.

mod actions;
mod audit;
mod authority;
mod boots;
mod callers;
mod checks;
mod circle;
mod crash;
mod failures;
mod maps;
mod world;
