//! What the services have in common, so that each program is its roles and nothing else: settings in one file, joining by a
//! token, credentials that renew, one server for both planes, an end in order.
//!
//! ```text
//!  settings (TOML) -> Service::open -> credentials, kept fresh      the program's own part
//!                     Service::serve(roles) -> server, READY=1      <- roles
//!                     SIGTERM, SIGINT       -> what is in flight is answered, then the end
//! ```
//!
//! - [`Settings`] are read by [`read`]: a table `[service]` beside the program's own. Unknown keys are refused, and errors
//!   name file and line.
//! - [`Command`] is the command line of each: `run`, `join`, `check`.
//! - [`Service`] is a program that has joined.
//!
//! Secrets are never arguments: a join token comes from a file or from standard input.
#![forbid(unsafe_code)]

mod certificate;
mod command;
mod join;
mod log;
mod peers;
mod running;
mod settings;
mod told;

pub use certificate::certificate;
pub use command::{Command, Options};
pub use join::join;
pub use log::to_standard_error;
pub use peers::Peers;
pub use running::Service;
pub use settings::{Settings, read};
pub use told::{refused, tell};
