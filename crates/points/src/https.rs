//! HTTPS for the stores of a cloud.

use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use object_store::{ClientOptions, Result};
use rustls::crypto::{CryptoProvider, ring};

/// How a store of a cloud connects: `MicrosoftAzureBuilder::with_http_connector(Https)`, and so for S3. Without it,
/// making the store panics in a program that has chosen no provider of TLS.
///
/// TLS is rustls with the provider that the program has installed. Where it has none, ring becomes that of the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Https;

impl HttpConnector for Https {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        if CryptoProvider::get_default().is_none() {
            // Whoever was faster has chosen.
            let _ = ring::default_provider().install_default();
        }
        ReqwestConnector::default().connect(options)
    }
}
