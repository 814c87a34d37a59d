//! x
#![forbid(unsafe_code)]
mod client;
mod fault;
mod frame;
mod message;
mod server;
mod tls;
mod told;
mod wire;
pub use client::{RemoteStore, RemoteStoreBuilder};
pub use server::{Limits, Server, ServerBuilder, Stopped};
pub use tls::{ClientTls, ServerTls};
