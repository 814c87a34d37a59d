//! How many incremental snapshots of a disk Azure takes: seven in five minutes, and 500 in all (compute-docs, restrictions of
//! incremental snapshots).
//!
//! The first is counted by what we asked for, which stands in the mark: a snapshot that is gone counts as well, and no list tells
//! of it. What others take of the same disk is not in it, nor what a clock that was put back made later than now. The second is
//! counted by what Azure lists in the group, whoever took it.

use super::Site;
use super::mark::{Held, Mark};
use super::names::last;
use super::once::Once;
use site_recovery::{Error, ErrorKind, Finding, Machine, Purpose, Result, Settings, Severity, Timestamp};
use site_recovery_azure_arm::Snapshot;
use std::time::Duration;

const BURST: usize = 7;
/// Five minutes, and what may pass from the note until Azure has accepted the request.
const SPAN: Duration = Duration::from_secs(5 * 60 + 30);
const FAMILY: usize = 500;
/// Of [`FAMILY`]: from there on it is told.
const NEARLY: usize = 450;

impl Mark {
    /// What was asked for within the span before `now`.
    fn lately(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        self.asked.iter().copied().filter(move |at| *at <= now && now.since(*at) < SPAN)
    }

    /// How long Azure would refuse another snapshot; nothing where it takes one.
    fn full_for(&self, now: Timestamp) -> Option<Duration> {
        let lately: Vec<_> = self.lately(now).collect();
        let oldest = *lately.get(lately.len().checked_sub(BURST)?)?;
        Some(SPAN.saturating_sub(now.since(oldest)))
    }

    /// Notes that a snapshot of each disk is asked for now.
    pub(super) fn note_asked(&mut self, now: Timestamp) {
        self.asked = self.lately(now).chain([now]).collect();
    }

    /// # Errors
    /// `Unavailable` while Azure takes no more, with the seconds until it does.
    pub(super) fn must_take_another(&self, now: Timestamp) -> Result<()> {
        let Some(wait) = self.full_for(now) else { return Ok(()) };
        let seconds = wait.as_secs() + 1;
        let message = format!(
            "Azure takes {BURST} snapshots of a disk in 5 minutes, and {} has had them: again after {seconds} s",
            self.name
        );
        let remedy = "ask for points less often";
        Err(Error::new(ErrorKind::Unavailable, message).with("again_after_s", seconds).with("remedy", remedy))
    }
}

impl Site {
    /// How near the disks of the machine, where it stands here, are to what Azure takes.
    pub(super) async fn check_pace(
        &self,
        machine: &Machine,
        settings: &Settings,
        once: &Once,
    ) -> Result<Vec<Finding>> {
        let own = Some(&machine.instance).filter(|own| own.site == self.name).map(|own| own.name.clone());
        let name = own.unwrap_or_else(|| settings.name_for(machine, Purpose::Failover));
        let marked = self.marked(&name).await?.filter(|found| found.mark.machine == *machine.id());
        let Some(mark) = marked.map(|found| found.mark) else { return Ok(vec![]) };
        let mut found = vec![];
        if let Some(wait) = mark.full_for(self.clock.now()) {
            let cause = format!(
                "{BURST} captures of {name} in 5 minutes are as many as Azure takes: the next one is refused for {} s",
                wait.as_secs() + 1
            );
            let remedy = "ask for points less often";
            found.push(Finding::new("azure.snapshot_pace", Severity::Warning, cause, remedy));
        }
        let listed = once.snapshots(self).await?;
        for (id, held) in &mark.disks {
            let taken = listed.iter().filter(|snapshot| counts(snapshot, held)).count();
            if taken >= NEARLY {
                let severity = if taken >= FAMILY { Severity::Critical } else { Severity::Warning };
                let cause = format!(
                    "disk {id} of {name} has {taken} incremental snapshots in group {}, Azure takes {FAMILY}",
                    self.group
                );
                let remedy = "delete those that nobody needs; ours have the tag sr-site";
                found.push(Finding::new("azure.snapshots", severity, cause, remedy));
            }
        }
        Ok(found)
    }
}

/// Whether it is one of those that Azure counts for this disk. Another disk may have had its name.
fn counts(snapshot: &Snapshot, held: &Held) -> bool {
    let is_of = match (&snapshot.source_unique_id, &held.unique) {
        (Some(source), Some(disk)) => source == disk,
        _ => {
            let source = snapshot.source_resource_id.as_deref().map(last);
            source.is_some_and(|name| name.eq_ignore_ascii_case(&held.resource))
        }
    };
    snapshot.incremental && is_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::Generation;
    use site_recovery_azure_arm::{Provisioning, Tags};

    const FIRST: Timestamp = Timestamp(1_000_000);

    fn mark(asked: &[Timestamp]) -> Mark {
        let json = serde_json::json!({
            "instance": { "machine": "m", "site": "s", "name": "web", "generation": 0 }, "disks": [], "nics": [],
            "cpus": 1, "memory": 1 << 30, "firmware": "Bios", "os": "Linux", "platform": "Virtual",
            "guest": { "os_name": null, "boot_drivers": null, "dhcp": null, "agent": null, "snapshots": null },
        });
        let machine = serde_json::from_value(json).expect("a machine");
        let mut mark = Mark::new("web", Generation(0), machine);
        mark.asked = asked.iter().copied().collect();
        mark
    }

    fn after(seconds: u64) -> Timestamp {
        FIRST.after(Duration::from_secs(seconds))
    }

    #[test]
    fn the_eighth_is_refused_until_the_first_is_five_minutes_old_and_a_half() {
        let mut mark = mark(&[]);
        for number in 0..7 {
            mark.must_take_another(after(number * 40)).expect("one of seven");
            mark.note_asked(after(number * 40));
        }
        let refused = mark.must_take_another(after(270)).expect_err("the eighth");
        assert!(refused.is_temporary(), "{refused}");
        assert_eq!(refused.fact("again_after_s"), Some("61"));
        mark.must_take_another(after(330)).expect("the first is out of the span");
        mark.note_asked(after(330));
        mark.must_take_another(after(369)).expect_err("the second is not");
        assert_eq!(mark.asked.len(), 7, "what is out of the span is forgotten");
    }

    #[test]
    fn snapshots_count_for_the_disk_that_they_are_of_and_not_for_another_one_of_its_name() {
        let held = |unique: Option<&str>| Held {
            resource: "web-os".into(),
            size: 1 << 30,
            unique: unique.map(Into::into),
        };
        let of = |name: &str, unique: Option<&str>, incremental: bool| Snapshot {
            id: "/snapshots/s".into(),
            name: "s".into(),
            tags: Tags::new(),
            size_bytes: 1 << 30,
            incremental,
            source_resource_id: Some(format!("/disks/{name}")),
            source_unique_id: unique.map(Into::into),
            family_id: None,
            completion_percent: None,
            provisioning: Provisioning::Succeeded,
            created: None,
        };
        assert!(counts(&of("WEB-OS", Some("u"), true), &held(Some("u"))));
        assert!(!counts(&of("web-os", Some("older"), true), &held(Some("u"))));
        assert!(!counts(&of("web-os", Some("u"), false), &held(Some("u"))));
        for (source, disk) in [(None, Some("u")), (Some("u"), None)] {
            assert!(counts(&of("web-os", source, true), &held(disk)), "by its name, where no more is known");
            assert!(!counts(&of("web-data", source, true), &held(disk)));
        }
    }

    #[test]
    fn a_clock_that_was_put_back_keeps_nobody_waiting() {
        let mark = mark(&[after(9000); 7]);
        mark.must_take_another(FIRST).expect("nobody knows when that was");
    }
}
