//! What the fake does, by requests of a plain client.
#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

mod disks;
mod faults;
mod machines;
mod networks;
mod protocol;
mod snapshots;
mod wire;
