//! The agent, the process server and the master target as processes on hosts of their own, each in a network of one machine:
//! a Linux server without a hypervisor is protected, fails over and comes back, and what happens on the way.
//!
//! The vault is in the test's own process. Hosts are network namespaces; *switching a server off* kills every process of its
//! host and unplugs it: a stand-in for a power control, named [`Switch`](switch::Switch).
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "a test may panic, and shares its scene")]

#[path = "../hosts/mod.rs"]
mod hosts;

mod circle;
mod faults;
mod program;
mod scene;
mod switch;
mod world;
