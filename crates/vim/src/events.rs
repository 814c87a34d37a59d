//! What a server remembers of a machine: when it was started.

use crate::client::{Call, Vim};
use crate::collect::Properties;
use crate::storage::lacks;
use crate::xml::{Xml, moment, number, text, typed};
use crate::{Error, Moref};
use roxmltree::Node;
use site_recovery::Timestamp;

/// Every way in which a machine begins to run; each start has one of them.
const STARTS: &[&str] = &["VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent", "VmResettingEvent"];
/// What has no type of its own, and tells its kind in words.
const WORDED: &[&str] = &["com.vmware.vc.ha.VmRestartedByHAEvent"];

/// A start of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartEvent {
    /// Of the event: higher than that of any before, for as long as the server remembers. A host forgets all when its agent
    /// is started anew.
    pub key: i64,
    /// By the server's clock.
    pub when: Option<Timestamp>,
}

impl Vim {
    /// The newest start of a machine that the server remembers. Privilege: `System.View`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn newest_start(&self, machine: &Moref) -> Result<Option<StartEvent>, Error> {
        let events = self.content().event_manager.as_ref().ok_or_else(|| lacks("eventManager"))?;
        self.in_one_session(|| self.newest_start_in_session(events, machine)).await
    }

    async fn newest_start_in_session(
        &self,
        events: &Moref,
        machine: &Moref,
    ) -> Result<Option<StartEvent>, Error> {
        let mut arguments = Xml::new();
        arguments.inside("filter", |x| {
            x.inside("entity", |x| {
                x.moref("entity", machine).text("recursion", "self");
            });
            for kind in STARTS.iter().chain(WORDED) {
                x.text("eventTypeId", kind);
            }
        });
        let call = Call::read("CreateCollectorForEvents", events, arguments);
        let collector = self.call_for_object(call).await?;
        let page = "latestPage";
        let read = |p: &Properties<'_, '_>| {
            // Servers differ in how they read a filter's types.
            let starts = p.list(page, "Event").filter(|event| is_start(*event));
            let of = |event| {
                let key = number(event, "key").ok_or_else(|| Error::garbage("an event has no key"))?;
                Ok(StartEvent { key, when: text(event, "createdTime").and_then(moment) })
            };
            let starts = starts.map(of).collect::<Result<Vec<_>, Error>>()?;
            Ok(starts.into_iter().max_by_key(|start| start.key))
        };
        let found = self.retrieve_one(&collector, &[page], read).await;
        // One that stays ends with the session.
        let _ = self.call(Call::bound("DestroyCollector", &collector, Xml::new()), |_| Ok(())).await;
        found
    }
}

fn is_start(event: Node<'_, '_>) -> bool {
    typed(event).is_some_and(|kind| STARTS.contains(&kind))
        || text(event, "eventTypeId").is_some_and(|kind| WORDED.contains(&kind))
}
