//! Against VMware's own simulator with our extensions (`tests/vsphere-sim`). Below `/rest`, sessions and tags are VMware's
//! code; all else there and everything below `/api` is a fake after VMware's documentation. So these tests show that two
//! readings of it agree, and not how a real vCenter answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod inventory;
mod power;
#[path = "../../../vim/tests/simulator/process.rs"]
mod process;
mod sim;
mod tags;
