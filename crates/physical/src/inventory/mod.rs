//! What a Linux server is made of.

mod server;

pub use server::{Adapter, FileSystem, Server, ServerDisk};
