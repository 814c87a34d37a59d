//! The control plane under peers that break the rules, and connections that break.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and drives tasks itself"
)]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod evidence;
mod odd_source;
mod peers;
mod standing;

/// What the service protocol is made of.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "written by a compiler")]
mod wire {
    tonic::include_proto!("site_recovery.control.v1");
}
