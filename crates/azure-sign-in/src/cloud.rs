//! Which cloud.

use serde::{Deserialize, Serialize};
use url::Url;

/// The addresses of one cloud of Azure. In settings `"public"`, `"us_government"`, `"china"`, or `{ "own": { .. } }` with all fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Said", into = "Said")]
pub struct Cloud {
    /// Where Resource Manager answers.
    pub resource_manager: Url,
    /// What follows `<account>.` in the name of a blob service: `blob.core.windows.net`.
    pub blob_suffix: String,
    /// Where tokens are given out: `https://login.microsoftonline.com`.
    pub authority: String,
    /// What a token for Resource Manager is asked for.
    pub management_scope: String,
    /// What a token for storage is asked for.
    pub storage_scope: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Public,
    UsGovernment,
    China,
    Own(Own),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    resource_manager: Url,
    blob_suffix: String,
    authority: String,
    management_scope: String,
    storage_scope: String,
}

impl Cloud {
    /// The one that everybody uses.
    pub fn public() -> Self {
        Self::of(
            "https://management.azure.com/",
            "blob.core.windows.net",
            "https://login.microsoftonline.com",
        )
    }

    /// Of the government of the United States.
    pub fn us_government() -> Self {
        let manager = "https://management.usgovcloudapi.net/";
        Self::of(manager, "blob.core.usgovcloudapi.net", "https://login.microsoftonline.us")
    }

    /// In China.
    pub fn china() -> Self {
        let manager = "https://management.chinacloudapi.cn/";
        Self::of(manager, "blob.core.chinacloudapi.cn", "https://login.chinacloudapi.cn")
    }

    fn of(manager: &str, blob_suffix: &str, authority: &str) -> Self {
        Self {
            resource_manager: Url::parse(manager).expect("an address"),
            blob_suffix: blob_suffix.into(),
            authority: authority.into(),
            management_scope: format!("{manager}.default"),
            // The same in all clouds.
            storage_scope: "https://storage.azure.com/.default".into(),
        }
    }
}

impl From<Said> for Cloud {
    fn from(said: Said) -> Self {
        match said {
            Said::Public => Self::public(),
            Said::UsGovernment => Self::us_government(),
            Said::China => Self::china(),
            Said::Own(Own { resource_manager, blob_suffix, authority, management_scope, storage_scope }) => {
                Self { resource_manager, blob_suffix, authority, management_scope, storage_scope }
            }
        }
    }
}

impl From<Cloud> for Said {
    fn from(cloud: Cloud) -> Self {
        let known = [
            (Cloud::public(), Said::Public),
            (Cloud::us_government(), Said::UsGovernment),
            (Cloud::china(), Said::China),
        ];
        if let Some((_, said)) = known.into_iter().find(|(known, _)| *known == cloud) {
            return said;
        }
        let Cloud { resource_manager, blob_suffix, authority, management_scope, storage_scope } = cloud;
        Said::Own(Own { resource_manager, blob_suffix, authority, management_scope, storage_scope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_named_or_spelt_out() {
        for (name, cloud) in [
            ("public", Cloud::public()),
            ("us_government", Cloud::us_government()),
            ("china", Cloud::china()),
        ] {
            let text = serde_json::to_string(&cloud).expect("text");
            assert_eq!(text, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Cloud>(&text).expect("a cloud"), cloud);
        }
        assert_eq!(Cloud::public().management_scope, "https://management.azure.com/.default");
        let mut own = Cloud::public();
        own.blob_suffix = "blob.stack.example".into();
        let text = serde_json::to_string(&own).expect("text");
        assert!(text.starts_with("{\"own\":"), "{text}");
        assert_eq!(serde_json::from_str::<Cloud>(&text).expect("a cloud"), own);
        let more = text.replace("\"authority\"", "\"more\":1,\"authority\"");
        assert!(serde_json::from_str::<Cloud>(&more).expect_err("unknown").to_string().contains("more"));
    }
}
