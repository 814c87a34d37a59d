//! What stands in the way at a subscription, and for each machine of its group. Nothing is changed.

use super::once::Once;
use super::{Azure, Site};
use crate::rights::{On, RIGHTS};
use crate::{Settings, Subscription};
use site_recovery::{ErrorKind, Finding, Machine, Result, RoleName, Severity};
use site_recovery_azure_arm::{Error as ArmError, Permission};
use site_recovery_azure_blob::Error as BlobError;

impl Subscription {
    /// Looks at all of it, and at each machine of the group, and tells what stands in the way of the whole circle, the worst first.
    /// Changes nothing: not the container, which may be missing, and nothing in the group. `site` is the name that the site has, or
    /// will have: what is known of machines stands under it.
    ///
    /// # Errors
    /// `Denied` where nobody signs in; `Unavailable`. What is wrong with what is there is a finding.
    pub async fn check(&self, site: RoleName) -> Result<Vec<Finding>> {
        let look = Look { on: self, settings: self.settings() };
        let mut found = vec![];
        let group = look.group(&mut found).await?;
        let account = look.account(&mut found).await?;
        let container = look.container(&mut found).await?;
        look.networks(&mut found).await?;
        let sizes = look.sizes(&mut found).await?;
        if group {
            look.rights(&mut found).await?;
            if let (Some(container), Some(account), true) = (container, account, sizes) {
                let site = self.builder(site).made(self.place(), self.settings().group.clone(), &account);
                site.machines(container, &mut found).await?;
            }
        }
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(found)
    }
}

struct Look<'a> {
    on: &'a Subscription,
    settings: &'a Settings,
}

fn critical(code: &str, cause: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(code, Severity::Critical, cause, remedy)
}

fn info(code: &str, cause: impl Into<String>) -> Finding {
    Finding::new(code, Severity::Info, cause, "nothing")
}

const ROLES: &str = "give whoever signs in the roles of docs/azure.md there";

/// What Azure answers, or what it does not let us see. Whoever has not signed in at all sees nothing.
fn seen<T>(answer: std::result::Result<T, ArmError>, code: &str) -> Result<std::result::Result<T, Finding>> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) if error.code() == "AuthorizationFailed" => {
            Ok(Err(critical(code, format!("it may not be seen: {error}"), ROLES)))
        }
        Err(error) => Err(error.into()),
    }
}

impl Look<'_> {
    async fn group(&self, found: &mut Vec<Finding>) -> Result<bool> {
        let name = &self.settings.group;
        match seen(self.on.arm.group(name).await, "group.unseen")? {
            Ok(Some(group)) => found.push(info("group", format!("{} is in {}", group.name, group.location))),
            Ok(None) => {
                let cause = format!("there is no resource group {name} in {}", self.settings.subscription);
                found.push(critical("group.none", cause, "make it, or name another"));
                return Ok(false);
            }
            Err(finding) => {
                found.push(finding);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Its region, where it is there.
    async fn account(&self, found: &mut Vec<Finding>) -> Result<Option<String>> {
        let Settings { account: id, region, .. } = self.settings;
        let account = match seen(self.on.arm.storage_account(id).await, "account.unseen")? {
            Ok(Some(account)) => account,
            Ok(None) => {
                found.push(critical(
                    "account.none",
                    format!("there is no account {id}"),
                    "make it, or name another",
                ));
                return Ok(None);
            }
            Err(finding) => {
                found.push(finding);
                return Ok(None);
            }
        };
        let name = self.settings.account_name()?;
        found.push(info(
            "account",
            format!("{name}: {}, {}, in {}", account.kind, account.sku, account.location),
        ));
        if account.kind != "StorageV2" || !account.sku.starts_with("Standard") {
            let cause = format!(
                "{name} is {} {}: points are kept in Standard general-purpose v2",
                account.sku, account.kind
            );
            found.push(critical("account.kind", cause, "name an account of that kind"));
        }
        if account.hierarchical {
            let cause = format!("{name} has a hierarchical namespace, and so no page blobs");
            found.push(critical("account.namespace", cause, "name an account without one"));
        }
        if !account.location.eq_ignore_ascii_case(region) {
            let cause = format!(
                "{name} is in {}, machines are made in {region}: disks are uploaded, not imported",
                account.location
            );
            let remedy =
                "name an account of the region, or let the disks of a failover pass through this process";
            found.push(Finding::new("account.region", Severity::Warning, cause, remedy));
        }
        Ok(Some(account.location))
    }

    /// Whether it is there; nothing where it may not be seen.
    async fn container(&self, found: &mut Vec<Finding>) -> Result<Option<bool>> {
        let name = &self.settings.container;
        match self.on.container.folders("m/").await {
            Ok(machines) => {
                found.push(info("container", format!("{name} has points of {} machines", machines.len())));
                Ok(Some(true))
            }
            Err(BlobError::Absent(_)) => {
                found.push(info(
                    "container.none",
                    format!("{name} is not there: it is made when points or the site are opened"),
                ));
                Ok(Some(false))
            }
            Err(error @ BlobError::Denied(_)) => {
                found.push(critical("container.unseen", error.to_string(), ROLES));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn networks(&self, found: &mut Vec<Finding>) -> Result<()> {
        let Settings { network, test_network, region, .. } = self.settings;
        for (field, network) in [("network", network), ("test_network", test_network)] {
            let Some(network) = network else {
                let cause = format!("{field} is not set: each machine's settings have to name one");
                found.push(Finding::new(
                    format!("{field}.unset"),
                    Severity::Warning,
                    cause,
                    "name a virtual network",
                ));
                continue;
            };
            let id = self.settings.network_id(network);
            match seen(self.on.arm.network(&id).await, &format!("{field}.unseen"))? {
                Ok(Some(there))
                    if there.location.eq_ignore_ascii_case(region) && !there.subnets.is_empty() =>
                {
                    let subnets: Vec<_> = there.subnets.iter().map(|subnet| subnet.name.as_str()).collect();
                    found.push(info(field, format!("{network} has {}", subnets.join(", "))));
                }
                Ok(Some(there)) => {
                    let cause = format!(
                        "{network} is in {}, with {} subnets; machines are made in {region}",
                        there.location,
                        there.subnets.len()
                    );
                    found.push(critical(
                        &format!("{field}.region"),
                        cause,
                        "name a network of the region that has a subnet",
                    ));
                }
                Ok(None) => {
                    let cause = format!("there is no virtual network {id}");
                    found.push(critical(&format!("{field}.none"), cause, "make it, or name another"));
                }
                Err(finding) => found.push(finding),
            }
        }
        Ok(())
    }

    /// Whether there are sizes to choose from.
    async fn sizes(&self, found: &mut Vec<Finding>) -> Result<bool> {
        let region = &self.settings.region;
        let sizes = match seen(self.on.arm.sizes(region).await, "region.unseen")? {
            Ok(sizes) => sizes,
            Err(finding) => {
                found.push(finding);
                return Ok(false);
            }
        };
        let free = sizes.iter().filter(|size| size.restricted.is_none()).count();
        if free == 0 {
            let cause = format!(
                "{region} has {} sizes of machines, and this subscription can have none",
                sizes.len()
            );
            found.push(critical("region.sizes", cause, "name another region, or ask Azure for access"));
        } else {
            let cause =
                format!("{region} has {} sizes of machines, this subscription can have {free}", sizes.len());
            found.push(info("region.sizes", cause));
        }
        match seen(self.on.arm.usages(region).await, "region.unseen")? {
            Ok(usages) => {
                if let Some(cores) = usages.iter().find(|usage| usage.name == "cores") {
                    let cause =
                        format!("{} of {} processors of {region} are used", cores.current, cores.limit);
                    found.push(if cores.current < cores.limit {
                        info("region.quota", cause)
                    } else {
                        critical("region.quota", cause, "ask Azure for a larger quota")
                    });
                }
            }
            Err(finding) => found.push(finding),
        }
        Ok(free > 0)
    }

    /// Rights on the subscription are shown by what was read there.
    async fn rights(&self, found: &mut Vec<Finding>) -> Result<()> {
        let Settings { subscription, group, account, network, test_network, .. } = self.settings;
        let group = format!("/subscriptions/{subscription}/resourceGroups/{group}");
        let mut places = vec![(group, vec![On::Group]), (account.clone(), vec![On::Account, On::Blobs])];
        for network in network.iter().chain(test_network) {
            places.push((self.settings.network_id(network), vec![On::Network]));
        }
        for (there, on) in places {
            match self.on.arm.permissions(&there).await {
                Ok(roles) => found.extend(lacking(&there, &on, &roles, self.settings.signs_blobs())),
                Err(error) if error.code() == "AuthorizationFailed" || error.status() == Some(404) => {
                    let cause = format!("what may be done with {there} is not told: {error}");
                    let remedy = "compare the roles with docs/azure.md";
                    found.push(Finding::new("rights.unchecked", Severity::Warning, cause, remedy));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What the roles do not give there. With a key of the account no rights on blobs are asked for.
fn lacking(there: &str, on: &[On], roles: &[Permission], blobs: bool) -> Option<Finding> {
    let given = |action: &str, on: On| match on {
        On::Blobs => !blobs || roles.iter().any(|role| role.gives_data(action)),
        _ => roles.iter().any(|role| role.gives(action)),
    };
    let asked = RIGHTS.iter().filter(|right| on.contains(&right.on));
    let lacks: Vec<_> = asked
        .filter(|right| !given(right.action, right.on))
        .map(|right| format!("{} ({})", right.action, right.why))
        .collect();
    let cause = format!("whoever signs in lacks on {there}: {}", lacks.join("; "));
    (!lacks.is_empty()).then(|| critical("rights", cause, ROLES))
}

impl Azure {
    async fn machines(&self, container: bool, found: &mut Vec<Finding>) -> Result<()> {
        let site = &self.0;
        let seen = site.seen().await?;
        let marks = if container { site.marks().await? } else { vec![] };
        let told = site.told(&seen, &marks).await;
        let cause = format!(
            "{} machines, {} disks, {} of them known to us",
            told.len(),
            seen.disks.len(),
            told.iter()
                .filter(|(name, _)| marks.iter().any(|mark| mark.name.eq_ignore_ascii_case(name)))
                .count()
        );
        found.push(info("group.inventory", cause));
        let once = Once::default();
        for (name, told) in told {
            match told {
                Ok(machine) => found.extend(site.ready(&name, &machine, &once).await?),
                Err(error) => {
                    let cause = format!("{name}: {}", error.message());
                    let remedy = "look at it in Azure; discovery fails by it";
                    found.push(Finding::new("machine.unread", Severity::Warning, cause, remedy));
                }
            }
        }
        Ok(())
    }
}

impl Site {
    /// Whether such a machine could be brought up here, under a name that is free.
    async fn ready(&self, name: &str, machine: &Machine, once: &Once) -> Result<Vec<Finding>> {
        let settings = match self.propose(machine).await {
            Ok(settings) => settings,
            Err(error) if error.kind() == ErrorKind::Refused => {
                return Ok(vec![critical(
                    "machine.name",
                    format!("{name}: {}", error.message()),
                    "name it yourself",
                )]);
            }
            Err(error) => return Err(error),
        };
        // What the subscription as a whole lacks was told once.
        let told = ["setting.network", "setting.test_network", "setting.group"];
        let mut found: Vec<_> = self.check(machine, &settings, once).await?;
        found.retain(|finding| !told.contains(&finding.code.as_str()));
        for finding in &mut found {
            finding.cause = format!("{name}: {}", finding.cause);
        }
        if let Some(size) = &settings.size {
            found.push(info("machine.size", format!("{name}: it would be made as {size}")));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(actions: &[&str], data: &[&str]) -> Permission {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Permission { actions: all(actions), data_actions: all(data), ..Permission::default() }
    }

    #[test]
    fn what_no_role_gives_is_told_and_a_key_needs_no_role_for_blobs() {
        let reader = role(&["*/read"], &[]);
        let told = lacking("g", &[On::Group], std::slice::from_ref(&reader), true).expect("it lacks");
        assert!(told.blocks() && told.cause.contains("disks/write (disks of a point"), "{}", told.cause);
        assert!(!told.cause.contains("disks/read"), "{}", told.cause);
        let roles = [reader, role(&["Microsoft.Storage/*"], &[])];
        let told = lacking("a", &[On::Account, On::Blobs], &roles, true).expect("it lacks");
        assert!(
            told.cause.contains("blobs/delete") && !told.cause.contains("containers/write"),
            "{}",
            told.cause
        );
        assert_eq!(lacking("a", &[On::Account, On::Blobs], &roles, false), None);
        assert_eq!(lacking("g", &[On::Group, On::Blobs], &[role(&["*"], &["*"])], true), None);
    }
}
