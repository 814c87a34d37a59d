//! What is found of the server itself.

use site_recovery::{Finding, Severity};
use site_recovery_vim::{About, Product};

/// The oldest version whose interface is known here.
const OLDEST: (u32, u32) = (6, 5);

/// Points are as old as the server's clock says.
const SKEW_MS: u64 = 30_000;

/// A server of another kind than the adapter is for, and which adapter is for it.
pub(crate) fn kind(about: &About, wanted: &Product) -> Option<Finding> {
    if about.product == *wanted {
        return None;
    }
    let (what, remedy) = match wanted {
        Product::VCenter => ("vCenter", "open it as a site of one host (site_recovery_esxi)"),
        _ => ("host alone", "open it as a site of vCenter (site_recovery_vsphere)"),
    };
    Some(Finding::new("server.kind", Severity::Critical, format!("{} is no {what}", name(about)), remedy))
}

/// `skew_ms` is how far its clock is ahead of ours.
pub(super) fn findings(about: &About, skew_ms: i64) -> Vec<Finding> {
    let mut found = vec![];
    if version(&about.api_version).is_some_and(|version| version < OLDEST) {
        found.push(Finding::new(
            "server.version",
            Severity::Critical,
            format!(
                "{} speaks version {} of the interface; 6.5 is the oldest known",
                name(about),
                about.api_version
            ),
            "upgrade it",
        ));
    }
    if skew_ms.unsigned_abs() > SKEW_MS {
        let (seconds, way) = (skew_ms.unsigned_abs() / 1000, if skew_ms > 0 { "ahead" } else { "behind" });
        found.push(Finding::new(
            "server.clock",
            Severity::Warning,
            format!(
                "the clock of {} is {seconds} s {way}; the instants of captures are told by it",
                name(about)
            ),
            "let both ask the same time server",
        ));
    }
    found
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn name(about: &About) -> &str {
    if about.full_name.is_empty() { "the server" } else { &about.full_name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::codes;

    fn about(api_version: &str) -> About {
        About {
            full_name: "VMware vCenter Server".into(),
            product: Product::VCenter,
            version: String::new(),
            build: String::new(),
            api_version: api_version.into(),
            instance_uuid: None,
        }
    }

    #[test]
    fn a_server_of_another_kind_is_named_with_the_adapter_that_is_for_it() {
        assert_eq!(kind(&about("8.0"), &Product::VCenter), None);
        let told = kind(&about("8.0"), &Product::Host).expect("it is another");
        assert!(told.blocks() && told.remedy.contains("site_recovery_vsphere"), "{told:?}");
        let odd = About { product: Product::Other("gateway".into()), ..about("8.0") };
        for wanted in [Product::VCenter, Product::Host] {
            assert!(kind(&odd, &wanted).is_some_and(|told| told.code == "server.kind"));
        }
    }

    #[test]
    fn servers_older_than_6_5_are_named() {
        for (version, found) in [
            ("5.5", true),
            ("6.0.0.0", true),
            ("6.5", false),
            ("6.7.3", false),
            ("10.0", false),
            ("dev", false),
        ] {
            let told = findings(&about(version), 0);
            assert_eq!(codes(&told), if found { vec!["server.version"] } else { vec![] }, "{version}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_side() {
        let told = |skew| findings(&about("8.0"), skew).pop().map(|f| f.cause);
        assert_eq!(told(29_000), None);
        assert!(told(90_500).is_some_and(|cause| cause.contains("90 s ahead")));
        assert!(told(-90_500).is_some_and(|cause| cause.contains("90 s behind")));
        assert!(told(i64::MIN).is_some_and(|cause| cause.contains("behind")));
    }
}
