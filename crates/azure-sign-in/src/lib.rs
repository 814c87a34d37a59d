//! Which cloud of Azure is spoken to, and who asks.
//!
//! - [`Cloud`]: the addresses of the public cloud, of the US government's, of China's, or of one of your own.
//! - [`SignIn`]: who asks, as settings name it; [`SignIn::credential`] makes tokens of it, by Microsoft's own `azure_identity`.
//! - [`http`]: what requests go over, for `azure_core` 1.x. With the feature `legacy`, [`legacy_http`] and [`legacy_credential`]
//!   are the same for the older `azure_core` 0.21, which carries the clients of Resource Manager.
//!
//! All of it is TLS by `rustls` and `ring` to servers that are [trusted](Trust); no proxy is asked, no answer that leads elsewhere
//! is followed, nothing is unpacked. The one exception is what a machine of Azure asks about its own identity: that stands at an
//! address of its own link, which has no certificate.
//!
//! Secrets are given [by reference](SecretRef), read again when they are needed, and shown to nobody.
#![forbid(unsafe_code)]

mod cloud;
mod http;
#[cfg(feature = "legacy")]
mod legacy;
mod principal;
mod sign_in;

pub use cloud::Cloud;
pub use http::http;
#[cfg(feature = "legacy")]
pub use legacy::{legacy_credential, legacy_http};
pub use sign_in::SignIn;
pub use site_recovery_https::{Limits, Lost, Secret, SecretRef, Trust, Unusable};
