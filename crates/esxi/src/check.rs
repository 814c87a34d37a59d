//! What is found of a host alone.

use site_recovery::{Finding, Severity};
use site_recovery_vim::{Host, Licence};

pub(crate) fn findings(hosts: &[Host], licences: &[Licence]) -> Vec<Finding> {
    let mut found = vec![];
    if let Some(vcenter) = hosts.iter().find_map(|host| host.managed_by.as_deref()) {
        let remedy = "open its vCenter as the site";
        found.push(Finding::new("server.managed", Severity::Critical, managed(vcenter), remedy));
    }
    if let Some(licence) = licences.iter().find(|licence| is_free(licence)) {
        let cause = format!(
            "the licence {} looks like that of a free ESXi, which lets nobody change anything by its interface",
            licence.name
        );
        let remedy = "give the host a paid licence, or put it under a vCenter; a site that is opened proves it by a change of nothing";
        found.push(Finding::new("server.licence", Severity::Warning, cause, remedy));
    }
    found
}

pub(crate) fn managed(vcenter: &str) -> String {
    format!(
        "this host is managed by the vCenter at {vcenter}, which does not know of changes past it: open that as the site; \
         where that vCenter is gone for good, disconnect the host from it in the host's own client"
    )
}

/// By its words: nothing else tells without a change.
fn is_free(licence: &Licence) -> bool {
    let (name, edition) = (licence.name.to_ascii_lowercase(), licence.edition.to_ascii_lowercase());
    name.contains("hypervisor") || edition.contains("hypervisor") || edition.starts_with("esxbasic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery_vim::Moref;

    fn host(managed_by: Option<&str>) -> Host {
        Host {
            moref: Moref::new("HostSystem", "ha-host"),
            name: "esx".into(),
            parent: None,
            connection: None,
            maintenance: false,
            version: None,
            uuid: None,
            managed_by: managed_by.map(str::to_owned),
            autostart: None,
            datastores: vec![],
            networks: vec![],
        }
    }

    fn licence(name: &str, edition: &str) -> Licence {
        Licence { name: name.into(), edition: edition.into(), features: Default::default() }
    }

    #[test]
    fn a_host_of_its_own_with_a_licence_has_nothing_to_be_told() {
        let paid = licence("VMware vSphere 8 Enterprise Plus", "esx.enterprisePlus.cpuPackageCoreLimited");
        assert!(findings(&[host(None)], &[paid]).is_empty());
    }

    #[test]
    fn what_it_is_instead_is_told() {
        let codes = |found: Vec<Finding>| found.into_iter().map(|f| (f.code, f.severity)).collect::<Vec<_>>();
        let told = findings(&[host(Some("10.0.0.5"))], &[]);
        assert!(told[0].cause.contains("10.0.0.5"));
        assert_eq!(codes(told), [("server.managed".into(), Severity::Critical)]);
        for free in [licence("VMware vSphere 8 Hypervisor", "x"), licence("x", "esxBasic")] {
            let told = findings(&[], &[free]);
            assert_eq!(codes(told), [("server.licence".into(), Severity::Warning)]);
        }
    }
}
