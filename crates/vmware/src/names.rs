//! How what we make is called at the server, so that it is found again, by us and by people.

use site_recovery::OpKey;

const CAPTURE: &str = "sr-capture-";
const BRANCH: &str = "sr-branch-";
const KEPT: &str = "sr-kept-";
const TRACKING: &str = "sr-tracking";

/// At most 74 characters: a snapshot's name has room for 80.
pub(crate) fn capture(key: &OpKey) -> String {
    format!("{CAPTURE}{}", key.to_name())
}

pub(crate) fn branch(key: &OpKey) -> String {
    format!("{BRANCH}{}", key.to_name())
}

pub(crate) fn kept(key: &OpKey) -> String {
    format!("{KEPT}{}", key.to_name())
}

/// The snapshot that comes and goes so that tracking begins.
pub(crate) fn tracking() -> &'static str {
    TRACKING
}

pub(crate) fn is_capture(name: &str) -> bool {
    name.starts_with(CAPTURE)
}

/// Whether a snapshot is one that we made.
pub(crate) fn is_ours(name: &str) -> bool {
    [CAPTURE, BRANCH, KEPT, TRACKING].iter().any(|ours| name.starts_with(ours))
}

/// The machine and the arm of an instance's name: `<uuid>/sr-kept-…` is what stood above a branch.
pub(crate) fn parts(name: &str) -> (&str, Option<&str>) {
    match name.split_once('/') {
        Some((uuid, arm)) => (uuid, Some(arm)),
        None => (name, None),
    }
}
