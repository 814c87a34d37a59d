//! Reads properties of objects, page by page: of some that are known, or of all below one.

use crate::client::{Call, Vim};
use crate::fault::Fault;
use crate::xml::{Xml, child, flag, list, number, text, truth};
use crate::{Error, Moref};
use roxmltree::Node;
use std::str::FromStr;

/// No inventory has more objects of a kind.
const MOST: usize = 1 << 20;

/// How often all is read anew because something vanished meanwhile.
const AGAIN: usize = 3;

/// Which objects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    These(&'a [Moref]),
    /// All of the kind, at whatever depth.
    Below(&'a Moref),
}

/// A property that could not be read, most often for lack of a privilege. What an object does not have is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// `config.hardware.device`.
    pub path: String,
    /// Why.
    pub fault: Fault,
}

/// What was found of one object.
pub(crate) struct Properties<'a, 'i> {
    pub(crate) object: Moref,
    pub(crate) missing: Vec<Missing>,
    found: Vec<(&'a str, Node<'a, 'i>)>,
}

impl<'a, 'i> Properties<'a, 'i> {
    /// Of an `ObjectContent`, or of an `ObjectUpdate`.
    pub(crate) fn of(node: Node<'a, 'i>, sets: &str) -> Result<Self, Error> {
        let object = Moref::at(node, "obj").ok_or_else(|| Error::garbage("it does not say of what"))?;
        let named = |set| text(set, "name").zip(child(set, "val"));
        let found = list(node, sets).filter_map(named).collect();
        let missing = list(node, "missingSet").map(|set| Missing {
            path: text(set, "path").unwrap_or_default().into(),
            fault: child(set, "fault").map_or_else(|| Fault::Other(String::new()), |f| Fault::localized(f).0),
        });
        let missing: Vec<Missing> = missing.collect();
        // The other form in which a session is lost.
        if missing.iter().any(|m| m.fault == Fault::NotAuthenticated) {
            let (method, words) = ("RetrievePropertiesEx", String::new());
            return Err(Error::Refused { method, fault: Fault::NotAuthenticated, words });
        }
        Ok(Self { object, missing, found })
    }

    pub(crate) fn node(&self, path: &str) -> Option<Node<'a, 'i>> {
        self.found.iter().find(|(name, _)| *name == path).map(|(_, node)| *node)
    }

    pub(crate) fn str(&self, path: &str) -> Option<&'a str> {
        self.node(path)?.text().filter(|text| !text.is_empty())
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.str(path).map(str::to_owned)
    }

    /// The name of an entity, as people gave it.
    pub(crate) fn name(&self) -> Option<String> {
        self.str("name").map(crate::names::unescaped)
    }

    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        truth(self.str(path)?)
    }

    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.str(path)?.trim().parse().ok()
    }

    pub(crate) fn moref(&self, path: &str) -> Option<Moref> {
        self.node(path).and_then(Moref::of)
    }

    pub(crate) fn morefs(&self, path: &str) -> Vec<Moref> {
        self.list(path, "ManagedObjectReference").filter_map(Moref::of).collect()
    }

    pub(crate) fn texts(&self, path: &str) -> Vec<String> {
        self.list(path, "string").filter_map(|n| n.text().map(str::to_owned)).collect()
    }

    /// The elements of a list. Each is named by its type.
    pub(crate) fn list(&self, path: &str, kind: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
        self.node(path).into_iter().flat_map(move |node| list(node, kind))
    }
}

/// Whether something is gone that was not asked for by name.
fn is_of_another(error: &Error, scope: Scope<'_>) -> bool {
    match (error.fault(), scope) {
        (Some(Fault::ManagedObjectNotFound { object }), Scope::Below(root)) => object.as_ref() != Some(root),
        _ => false,
    }
}

/// What `RetrievePropertiesEx` asks for.
pub(crate) fn filter(
    xml: &mut Xml,
    name: &str,
    kind: &str,
    paths: &[&str],
    scope: &[Moref],
    view: Option<&Moref>,
) {
    xml.inside(name, |x| {
        x.inside("propSet", |x| {
            x.text("type", kind);
            for path in paths {
                x.text("pathSet", path);
            }
        });
        for object in scope {
            x.inside("objectSet", |x| {
                x.moref("obj", object);
            });
        }
        if let Some(view) = view {
            x.inside("objectSet", |x| {
                x.moref("obj", view).text("skip", true);
                x.typed("selectSet", "TraversalSpec", |x| {
                    x.text("name", "view").text("type", "ContainerView").text("path", "view");
                    x.text("skip", false);
                });
            });
        }
    });
}

struct Page<T> {
    token: Option<String>,
    found: Vec<T>,
}

impl Vim {
    /// Reads properties of a kind of objects. Objects that vanish meanwhile are left out of what is below another; of those
    /// that are named, one that is gone is the whole call's error.
    pub(crate) async fn retrieve<T>(
        &self,
        kind: &str,
        paths: &[&str],
        scope: Scope<'_>,
        read: impl Fn(&Properties<'_, '_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut vanished = 0;
        loop {
            let all = || self.retrieve_in_session(kind, paths, scope, &read);
            match self.in_one_session(all).await {
                Err(error) if vanished < AGAIN && is_of_another(&error, scope) => vanished += 1,
                other => return other,
            }
        }
    }

    /// Properties of one object.
    pub(crate) async fn retrieve_one<T>(
        &self,
        object: &Moref,
        paths: &[&str],
        read: impl Fn(&Properties<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let scope = [object.clone()];
        let found = self.retrieve(&object.kind, paths, Scope::These(&scope), read).await?;
        found.into_iter().next().ok_or_else(|| Error::Refused {
            method: "RetrievePropertiesEx",
            fault: Fault::ManagedObjectNotFound { object: Some(object.clone()) },
            words: String::new(),
        })
    }

    async fn retrieve_in_session<T>(
        &self,
        kind: &str,
        paths: &[&str],
        scope: Scope<'_>,
        read: &impl Fn(&Properties<'_, '_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match scope {
            Scope::These(objects) => self.pages(kind, paths, objects, None, read).await,
            Scope::Below(root) => {
                let mut arguments = Xml::new();
                arguments.moref("container", root).text("type", kind).text("recursive", true);
                let call = Call::read("CreateContainerView", &self.content().view_manager, arguments);
                let view = self.call_for_object(call).await?;
                let found = self.pages(kind, paths, &[], Some(&view), read).await;
                // One that stays ends with the session.
                let _ = self.call(Call::bound("DestroyView", &view, Xml::new()), |_| Ok(())).await;
                found
            }
        }
    }

    async fn pages<T>(
        &self,
        kind: &str,
        paths: &[&str],
        scope: &[Moref],
        view: Option<&Moref>,
        read: &impl Fn(&Properties<'_, '_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let collector = &self.content().property_collector;
        let mut arguments = Xml::new();
        filter(&mut arguments, "specSet", kind, paths, scope, view);
        arguments.inside("options", |x| {
            x.text("maxObjects", self.limits().page);
        });
        let page = |node: Node<'_, '_>| {
            let Some(result) = child(node, "returnval") else {
                return Ok(Page { token: None, found: vec![] });
            };
            let found = list(result, "objects").map(|node| read(&Properties::of(node, "propSet")?));
            let found = found.collect::<Result<Vec<T>, Error>>()?;
            Ok(Page { token: text(result, "token").map(str::to_owned), found })
        };
        let mut next = self.call(Call::bound("RetrievePropertiesEx", collector, arguments), page).await?;
        let mut all = next.found;
        while let Some(token) = next.token.take() {
            let mut arguments = Xml::new();
            arguments.text("token", token);
            next = self.call(Call::bound("ContinueRetrievePropertiesEx", collector, arguments), page).await?;
            if (next.found.is_empty() && next.token.is_some()) || all.len() > MOST {
                return Err(Error::garbage("its pages have no end"));
            }
            all.append(&mut next.found);
        }
        Ok(all)
    }
}

/// Reads a flag of a structure, which is unset where it is not there.
pub(crate) fn is(node: Node<'_, '_>, path: &str) -> bool {
    flag(node, path).unwrap_or_default()
}

/// Reads a number of a structure that has to be there.
pub(crate) fn needed<T: FromStr>(node: Node<'_, '_>, path: &str) -> Result<T, Error> {
    number(node, path).ok_or_else(|| Error::garbage(format!("it has no {path}")))
}
