//! Who asks.

use crate::http::Transport;
use crate::principal::Principal;
use crate::{Cloud, Limits, SecretRef, Trust, Unusable};
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport as Over};
use azure_identity::{
    AzureCliCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// How often a token is asked for again, beside the first time.
const AGAIN: u32 = 3;

/// Who asks, and how that is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SignIn {
    /// The identity that Azure gave the machine that this program runs on. No secret is kept anywhere.
    ManagedIdentity {
        /// Which, where the machine has several or none of its own.
        #[serde(default)]
        client_id: Option<String>,
    },
    /// The identity of a workload in Kubernetes, by a token that is put into a file. What is left out stands in the variables that
    /// its webhook sets.
    WorkloadIdentity {
        /// The directory.
        #[serde(default)]
        tenant: Option<String>,
        /// The application.
        #[serde(default)]
        client: Option<String>,
        /// The file.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
    /// An application with a secret.
    ServicePrincipal {
        /// The directory.
        tenant: String,
        /// The application.
        client: String,
        /// Where its secret stands.
        secret: SecretRef,
    },
    /// Whoever is logged in to the `az` of this machine. For people, not for services.
    Cli,
}

impl SignIn {
    /// Gives out tokens, kept until they are about to end. Asks for none yet.
    ///
    /// # Errors
    /// For settings that break a rule, or a secret that cannot be read.
    pub fn credential(&self, cloud: &Cloud, trust: &Trust) -> Result<Arc<dyn TokenCredential>, Unusable> {
        let options = |over: Transport| {
            let mut own = CustomConfiguration::default();
            own.authority_host = cloud.authority.clone();
            let retry = ExponentialRetryOptions { max_retries: AGAIN, ..Default::default() };
            ClientOptions {
                transport: Some(Over::new(Arc::new(over))),
                retry: RetryOptions::exponential(retry),
                cloud: Some(Arc::new(own.into())),
                ..Default::default()
            }
        };
        let far = || Ok::<_, Unusable>(options(Transport::new(trust, Limits::default())?));
        Ok(match self {
            Self::ManagedIdentity { client_id } => {
                let client_options = options(Transport::with_near(trust, Limits::default())?);
                let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options)).map_err(|e| unusable("managed_identity", &e))?
            }
            Self::WorkloadIdentity { tenant, client, token_file } => {
                let mut options = WorkloadIdentityCredentialOptions {
                    tenant_id: tenant.clone(),
                    client_id: client.clone(),
                    token_file_path: token_file.clone(),
                    ..Default::default()
                };
                options.credential_options.client_options = far()?;
                let made = WorkloadIdentityCredential::new(Some(options));
                made.map_err(|e| unusable("workload_identity", &e))?
            }
            Self::ServicePrincipal { tenant, client, secret } => {
                Arc::new(Principal::new(tenant, client, secret, far()?)?)
            }
            Self::Cli => AzureCliCredential::new(None).map_err(|e| unusable("cli", &e))?,
        })
    }
}

pub(crate) fn unusable(field: &'static str, error: &azure_core::Error) -> Unusable {
    let rule = "it names somebody that Azure's sign-in can know";
    Unusable::new(
        field,
        format!("not usable, {error}"),
        rule,
        "look at the settings, and at the variables that begin with AZURE_",
    )
}
