//! What whoever signs in may do.

use crate::Error;
use crate::arm::{Arm, shaped};
use crate::pending::sealed::Read;
use crate::settings::id;
use serde::Deserialize;
use serde_json::Value;

const VERSION: &str = "2022-04-01";

/// What one role gives, as patterns: `Microsoft.Compute/*/read`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permission {
    /// What it gives at Resource Manager,
    pub actions: Vec<String>,
    /// but for these.
    pub not_actions: Vec<String>,
    /// What it gives with data, as in blobs,
    pub data_actions: Vec<String>,
    /// but for these.
    pub not_data_actions: Vec<String>,
}

impl Permission {
    /// Whether it gives this at Resource Manager.
    pub fn gives(&self, action: &str) -> bool {
        among(&self.actions, action) && !among(&self.not_actions, action)
    }

    /// Whether it gives this with data.
    pub fn gives_data(&self, action: &str) -> bool {
        among(&self.data_actions, action) && !among(&self.not_data_actions, action)
    }
}

impl Arm {
    /// What whoever signs in may do there: the id of a group or of a resource in one. Each role by itself; one that gives is
    /// enough.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn permissions(&self, there: &str) -> Result<Vec<Permission>, Error> {
        let path = format!("{}/providers/Microsoft.Authorization/permissions", id("there", there)?);
        self.list(self.wire().url(&path, VERSION)).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    actions: Option<Vec<String>>,
    not_actions: Option<Vec<String>>,
    data_actions: Option<Vec<String>>,
    not_data_actions: Option<Vec<String>>,
}

impl Read for Permission {
    fn read(value: &Value) -> Result<Self, String> {
        let Shape { actions, not_actions, data_actions, not_data_actions } = shaped(value)?;
        Ok(Self {
            actions: actions.unwrap_or_default(),
            not_actions: not_actions.unwrap_or_default(),
            data_actions: data_actions.unwrap_or_default(),
            not_data_actions: not_data_actions.unwrap_or_default(),
        })
    }
}

fn among(patterns: &[String], action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action))
}

/// A `*` stands for anything, slashes too.
fn matches(pattern: &str, action: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = action.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_given_by_a_pattern_and_taken_back_by_another() {
        for (pattern, action, given) in [
            ("*", "Microsoft.Compute/disks/read", true),
            ("*/read", "Microsoft.Compute/disks/read", true),
            ("*/read", "Microsoft.Compute/disks/write", false),
            ("Microsoft.Compute/disks/*", "microsoft.compute/DISKS/beginGetAccess/action", true),
            ("Microsoft.Compute/disks/*", "Microsoft.Compute/snapshots/read", false),
            ("Microsoft.Compute/*/read", "Microsoft.Compute/disks/read", true),
            ("Microsoft.Compute/disks/read", "Microsoft.Compute/disks/read", true),
            ("Microsoft.Compute/disks/read", "Microsoft.Compute/disks/read/more", false),
            ("Microsoft.Compute/disks", "Microsoft.Compute/disks/read", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(&pattern.to_lowercase(), &action.to_lowercase()), given, "{pattern} {action}");
        }
        let role = Permission {
            actions: vec!["*".into()],
            not_actions: vec!["Microsoft.Authorization/*/write".into()],
            data_actions: vec!["Microsoft.Storage/*/blobs/read".into()],
            not_data_actions: vec![],
        };
        assert!(role.gives("Microsoft.Compute/disks/write"));
        assert!(!role.gives("Microsoft.Authorization/roleAssignments/write"));
        let blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/";
        assert!(role.gives_data(&format!("{blobs}read")) && !role.gives_data(&format!("{blobs}write")));
    }
}
