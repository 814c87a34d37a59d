//! A client of one HTTPS server as settings name it: what the clients of vCenter, of hosts and of management controllers share.
//!
//! - [`Settings`]: the server's address, whom to [trust](Trust) as it, who asks, where the password [stands](SecretRef), and
//!   [limits](Limits).
//! - [`Https`]: requests to that server. [`Lost`] tells apart why no answer came, or not whole.
//! - [`certificate`]: the one that a server showed.
//! - [`address`], [`builder`], [`to`], [`whole`], [`is_stranger`] and [`because`]: the same in parts, for a client with settings of its own.
//!
//! Nothing is sent before the server has shown that it is the one that is trusted, and nothing switches that off. An answer that
//! leads elsewhere is not followed, and no proxy is asked: the password would go there.
//!
//! # Errors
//! [`Unusable`] names a setting, or what it refers to, with a rule and a remedy; [`Lost`] tells of the connection. Neither holds a
//! secret.
#![forbid(unsafe_code)]

mod client;
mod lost;
mod secret;
mod settings;
mod trust;
mod unusable;

pub use client::{Https, builder, certificate, to, whole};
pub use lost::{Lost, because, is_stranger};
pub use secret::{Password, Secret, SecretRef};
pub use settings::{Limits, Settings, address};
pub use trust::Trust;
pub use unusable::Unusable;
