//! Waits for changes of properties, by `WaitForUpdatesEx`: the server answers when something changed, so nothing is polled.

use crate::client::{Call, Effect, Vim};
use crate::collect::{Properties, filter};
use crate::fault::Fault;
use crate::xml::{Xml, child, list, text};
use crate::{Error, Moref};
use roxmltree::Node;
use std::time::Duration;

/// How long the server waits at most before it says that nothing changed.
const LONGEST: u64 = 30;
/// How often a watch is made anew after its session was lost.
const ANEW: usize = 4;

/// What one answer says.
struct Update<T> {
    version: String,
    found: Option<T>,
}

impl Vim {
    /// Waits until `see` finds what it looks for in the changes of these properties. The first one it sees are their values
    /// now. `None` after the limit.
    ///
    /// A wait that is dropped leaves a property collector behind, which ends with the session.
    pub(crate) async fn watch<T>(
        &self,
        object: &Moref,
        paths: &[&str],
        limit: Duration,
        mut see: impl FnMut(&Properties<'_, '_>) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let end = self.clock().now().after(limit);
        let mut anew = 0;
        loop {
            // One of its own: an answer has the changes of all filters of a collector.
            let make = Call::read("CreatePropertyCollector", &self.content().property_collector, Xml::new());
            let collector = self.call_for_object(make).await?;
            let outcome = async {
                let mut arguments = Xml::new();
                filter(&mut arguments, "spec", &object.kind, paths, std::slice::from_ref(object), None);
                arguments.text("partialUpdates", false);
                self.call_for_object(Call::bound("CreateFilter", &collector, arguments)).await?;
                let mut version = String::new();
                loop {
                    let left = end.since(self.clock().now()).as_millis() as u64;
                    let seconds = left.div_ceil(1000).min(LONGEST);
                    if let Some(update) =
                        self.updates(&collector, object, &version, seconds, &mut see).await?
                    {
                        if update.found.is_some() {
                            return Ok(update.found);
                        }
                        version = update.version;
                    }
                    if end.since(self.clock().now()).is_zero() {
                        return Ok(None);
                    }
                }
            };
            let outcome = outcome.await;
            let gone = |e: &Error| {
                let of = Fault::ManagedObjectNotFound { object: Some(collector.clone()) };
                e.is_logged_out() || e.fault() == Some(&of)
            };
            match outcome {
                Err(error) if gone(&error) && anew < ANEW => anew += 1,
                other => {
                    let call = Call::bound("DestroyPropertyCollector", &collector, Xml::new());
                    let _ = self.call(call, |_| Ok(())).await;
                    return other;
                }
            }
        }
    }

    async fn updates<T>(
        &self,
        collector: &Moref,
        object: &Moref,
        version: &str,
        seconds: u64,
        see: &mut impl FnMut(&Properties<'_, '_>) -> Result<Option<T>, Error>,
    ) -> Result<Option<Update<T>>, Error> {
        let mut arguments = Xml::new();
        arguments.text("version", version);
        arguments.inside("options", |x| {
            x.text("maxWaitSeconds", seconds);
        });
        let longer = Duration::from_secs(seconds);
        let (method, effect) = ("WaitForUpdatesEx", Effect::Bound);
        let call = Call { method, this: collector, arguments, effect, longer };
        let read = |node: Node<'_, '_>| {
            let Some(set) = child(node, "returnval") else { return Ok(None) };
            let version = text(set, "version").ok_or_else(|| Error::garbage("an update has no version"))?;
            let mut found = None;
            for filter in list(set, "filterSet") {
                if let Some(missing) = child(filter, "missingSet") {
                    return Err(gone(method, missing));
                }
                for change in list(filter, "objectSet") {
                    if text(change, "kind") == Some("leave") {
                        let fault = Fault::ManagedObjectNotFound { object: Some(object.clone()) };
                        return Err(Error::Refused { method, fault, words: String::new() });
                    }
                    if found.is_none() {
                        found = see(&Properties::of(change, "changeSet")?)?;
                    }
                }
            }
            Ok(Some(Update { version: version.into(), found }))
        };
        self.call(call, read).await
    }
}

fn gone(method: &'static str, missing: Node<'_, '_>) -> Error {
    let (fault, words) = child(missing, "fault").map_or_else(
        || (Fault::ManagedObjectNotFound { object: Moref::at(missing, "obj") }, String::new()),
        Fault::localized,
    );
    Error::Refused { method, fault, words }
}
