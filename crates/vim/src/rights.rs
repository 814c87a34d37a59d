//! What the user may, and what the server's licence allows.

use crate::client::{Call, Vim, all_returned};
use crate::collect::{Properties, is};
use crate::xml::{Xml, list, text};
use crate::{Error, Fault, Moref};
use roxmltree::Node;
use std::collections::{BTreeMap, BTreeSet};

/// A licence of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    /// `VMware vSphere 8 Hypervisor`. The key is not read.
    pub name: String,
    /// `esx.hypervisor.cpuPackageCoreLimited`.
    pub edition: String,
    /// What it allows, by name: `vStorage APIs`.
    pub features: BTreeSet<String>,
}

impl Vim {
    /// Which of these privileges the user lacks on an object, in the order given. Privilege: `System.View` on the object.
    ///
    /// # Errors
    /// [`NotSupported`](Fault::NotSupported) where the server has no such call; [`InvalidArgument`](Fault::InvalidArgument) for a
    /// privilege that it does not know; those of any read.
    pub async fn lacking<'a>(&self, object: &Moref, privileges: &[&'a str]) -> Result<Vec<&'a str>, Error> {
        let found = self.lacking_on(std::slice::from_ref(object), privileges).await?;
        Ok(found.into_values().next().unwrap_or_default())
    }

    /// The same of many objects, by one call. An object of which the server says nothing lacks all.
    ///
    /// # Errors
    /// As [`Vim::lacking`].
    pub async fn lacking_on<'a>(
        &self,
        objects: &[Moref],
        privileges: &[&'a str],
    ) -> Result<BTreeMap<Moref, Vec<&'a str>>, Error> {
        let (method, words) = ("HasPrivilegeOnEntities", "the server has none".into());
        let Some(manager) = &self.content().authorization_manager else {
            return Err(Error::Refused { method, fault: Fault::NotSupported, words });
        };
        // The key is the session's: both have to be of the same.
        self.in_one_session(|| async move {
            let mut arguments = Xml::new();
            for object in objects {
                arguments.moref("entity", object);
            }
            arguments.text("sessionId", self.session_key().await?);
            for privilege in privileges {
                arguments.text("privId", privilege);
            }
            let read = |node: Node<'_, '_>| {
                let mut granted: BTreeSet<(Moref, &str)> = BTreeSet::new();
                for told in all_returned(node) {
                    let Some(object) = Moref::at(told, "entity") else { continue };
                    let held = list(told, "privAvailability").filter(|p| is(*p, "isGranted"));
                    granted.extend(held.filter_map(|p| Some((object.clone(), text(p, "privId")?))));
                }
                let lacks = |object: &Moref| {
                    let lacking = |p: &&str| !granted.contains(&(object.clone(), *p));
                    (object.clone(), privileges.iter().copied().filter(lacking).collect())
                };
                Ok(objects.iter().map(lacks).collect())
            };
            self.call(Call::bound(method, manager, arguments), read).await
        })
        .await
    }

    /// The licences of the server. Whether it takes changes is [tried](Vim::probe_writes): names change. Privilege: `Global.Licenses`;
    /// without it there are none.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn licences(&self) -> Result<Vec<Licence>, Error> {
        let Some(manager) = &self.content().license_manager else { return Ok(vec![]) };
        let path = "licenses";
        let read =
            |p: &Properties<'_, '_>| Ok(p.list(path, "LicenseManagerLicenseInfo").map(licence).collect());
        self.retrieve_one(manager, &[path], read).await
    }
}

fn licence(node: Node<'_, '_>) -> Licence {
    let words = |name| text(node, name).unwrap_or_default().to_owned();
    let feature = |property: Node<'_, '_>| {
        let named = text(property, "key") == Some("feature");
        named.then(|| text(property, "value.value").map(str::to_owned)).flatten()
    };
    let features = list(node, "properties").filter_map(feature).collect();
    Licence { name: words("name"), edition: words("editionKey"), features }
}
