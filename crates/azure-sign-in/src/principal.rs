//! A service principal whose secret may change while the program runs.

use crate::sign_in::unusable;
use crate::{SecretRef, Unusable};
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::ClientOptions;
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use site_recovery_https::Password;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;

pub(crate) struct Principal {
    tenant: String,
    client: String,
    password: Password,
    options: ClientOptions,
    /// By the secret that it was made with.
    by: Mutex<(site_recovery_https::Secret, Arc<ClientSecretCredential>)>,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant, client) = (&self.tenant, &self.client);
        f.debug_struct("Principal").field("tenant", tenant).field("client", client).finish_non_exhaustive()
    }
}

impl Principal {
    pub(crate) fn new(
        tenant: &str,
        client: &str,
        secret: &SecretRef,
        options: ClientOptions,
    ) -> Result<Self, Unusable> {
        let password = Password::of(secret)?;
        let secret = password.read()?;
        let made = made(tenant, client, &secret, &options).map_err(|e| unusable("service_principal", &e))?;
        let (tenant, client) = (tenant.to_owned(), client.to_owned());
        Ok(Self { tenant, client, password, options, by: Mutex::new((secret, made)) })
    }
}

fn made(
    tenant: &str,
    client: &str,
    secret: &site_recovery_https::Secret,
    options: &ClientOptions,
) -> azure_core::Result<Arc<ClientSecretCredential>> {
    let options = ClientSecretCredentialOptions { client_options: options.clone() };
    let secret = Secret::new(secret.expose().to_owned());
    ClientSecretCredential::new(tenant, client.to_owned(), secret, Some(options))
}

#[async_trait]
impl TokenCredential for Principal {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let secret =
            self.password.read().map_err(|e| Error::with_message(ErrorKind::Credential, e.to_string()))?;
        let credential = {
            let mut by = self.by.lock().await;
            if by.0.expose() != secret.expose() {
                let credential = made(&self.tenant, &self.client, &secret, &self.options)?;
                *by = (secret, credential);
            }
            by.1.clone()
        };
        credential.get_token(scopes, options).await
    }
}
