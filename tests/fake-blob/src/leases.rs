//! Leases of blobs.

use crate::answer::{Answer, Refused};
use crate::blobs::tagged;
use crate::call::Call;
use crate::conditions::{self, Purpose};
use crate::world::{World, uuid};
use crate::xml::element;
use time::{Duration, OffsetDateTime};

#[derive(Clone, Debug, Default)]
pub(crate) struct Lease(Option<Held>);

#[derive(Clone, Debug)]
struct Held {
    id: String,
    /// As it was asked for, for a renewal.
    length: Option<Duration>,
    /// `None` is without end.
    until: Option<OffsetDateTime>,
    /// Since when it is being broken: it ends at `until`, and is not renewed.
    broken: bool,
}

impl Lease {
    fn active(&self, now: OffsetDateTime) -> Option<&Held> {
        self.0.as_ref().filter(|held| held.until.is_none_or(|until| now < until))
    }

    /// Whether a request may change the blob.
    pub(crate) fn lets(&self, call: &Call, now: OffsetDateTime) -> Result<(), Refused> {
        if self.active(now).is_some() && call.header("x-ms-lease-id").is_none() {
            return Err(Refused::new(
                412,
                "LeaseIdMissing",
                "There is currently a lease on the blob and no lease ID was specified in the request.",
            ));
        }
        self.lets_read(call, now)
    }

    /// A lease that is told has to be the one there is, for reads too.
    pub(crate) fn lets_read(&self, call: &Call, now: OffsetDateTime) -> Result<(), Refused> {
        let Some(told) = call.header("x-ms-lease-id") else { return Ok(()) };
        match (self.active(now), &self.0) {
            (Some(held), _) if same(&held.id, told) => Ok(()),
            (Some(_), _) => Err(Refused::new(
                412,
                "LeaseIdMismatchWithBlobOperation",
                "The lease ID specified did not match the lease ID for the blob.",
            )),
            (None, Some(held)) if same(&held.id, told) => Err(Refused::new(
                412,
                "LeaseLost",
                "A lease ID was specified, but the lease for the blob has expired.",
            )),
            (None, _) => Err(Refused::new(
                412,
                "LeaseNotPresentWithBlobOperation",
                "There is currently no lease on the blob.",
            )),
        }
    }

    /// State and status.
    fn words(&self, now: OffsetDateTime) -> (&'static str, &'static str) {
        match (self.active(now), &self.0) {
            (Some(held), _) if held.broken => ("breaking", "locked"),
            (Some(_), _) => ("leased", "locked"),
            (None, Some(held)) if held.broken => ("broken", "unlocked"),
            (None, Some(_)) => ("expired", "unlocked"),
            (None, None) => ("available", "unlocked"),
        }
    }

    fn kind(&self, now: OffsetDateTime) -> Option<&'static str> {
        let held = self.active(now).filter(|held| !held.broken)?;
        Some(if held.length.is_some() { "fixed" } else { "infinite" })
    }

    pub(crate) fn headers(&self, now: OffsetDateTime) -> Vec<(String, String)> {
        let (state, status) = self.words(now);
        let kind = self.kind(now).map(|kind| ("x-ms-lease-duration", kind));
        let all = [("x-ms-lease-state", state), ("x-ms-lease-status", status)].into_iter().chain(kind);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub(crate) fn elements(&self, now: OffsetDateTime) -> String {
        let (state, status) = self.words(now);
        let kind = self.kind(now).map(|kind| element("LeaseDuration", kind)).unwrap_or_default();
        element("LeaseStatus", status) + &element("LeaseState", state) + &kind
    }
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

pub(crate) fn lease(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let action = call.required("x-ms-lease-action")?.to_owned();
    let now = world.now();
    let blob = world.blob(&call.place)?;
    conditions::check(call, Some(&blob.live.stamp), Purpose::Change)?;
    let stamp = blob.live.stamp.clone();
    let lease = &mut blob.lease;
    match action.as_str() {
        "acquire" => {
            acquire(lease, call, now).map(|id| tagged(Answer::new(201), &stamp).with("x-ms-lease-id", id))
        }
        "renew" => {
            let held = own(lease, call)?;
            if held.broken {
                return Err(Refused::new(
                    409,
                    "LeaseIsBrokenAndCannotBeRenewed",
                    "The lease ID matched, but the lease has been broken explicitly and cannot be renewed.",
                ));
            }
            held.until = held.length.map(|length| now + length);
            Ok(tagged(Answer::new(200), &stamp).with("x-ms-lease-id", &held.id))
        }
        "change" => {
            let proposed = call.required("x-ms-proposed-lease-id")?.to_owned();
            let held = own(lease, call)?;
            held.id = proposed;
            Ok(tagged(Answer::new(200), &stamp).with("x-ms-lease-id", &held.id))
        }
        "release" => {
            own(lease, call)?;
            lease.0 = None;
            Ok(tagged(Answer::new(200), &stamp))
        }
        "break" => {
            let period = call.number("x-ms-lease-break-period")?;
            if period.is_some_and(|seconds| seconds > 60) {
                return Err(Refused::bad_header("x-ms-lease-break-period"));
            }
            let left = break_it(lease, period, now)?;
            Ok(tagged(Answer::new(202), &stamp).with("x-ms-lease-time", left))
        }
        _ => Err(Refused::bad_header("x-ms-lease-action")),
    }
}

fn acquire(lease: &mut Lease, call: &Call, now: OffsetDateTime) -> Result<String, Refused> {
    let length = match call.required("x-ms-lease-duration")?.parse::<i64>() {
        Ok(-1) => None,
        Ok(seconds @ 15..=60) => Some(Duration::seconds(seconds)),
        _ => return Err(Refused::bad_header("x-ms-lease-duration")),
    };
    let id = call.header("x-ms-proposed-lease-id").map_or_else(uuid, str::to_owned);
    match lease.active(now) {
        Some(held) if held.broken && same(&held.id, &id) => {
            return Err(Refused::new(
                409,
                "LeaseIsBreakingAndCannotBeAcquired",
                "The lease ID matched, but the lease is currently in breaking state and cannot be acquired until it is broken.",
            ));
        }
        Some(held) if !same(&held.id, &id) => {
            return Err(Refused::new(409, "LeaseAlreadyPresent", "There is already a lease present."));
        }
        _ => {}
    }
    lease.0 = Some(Held { id: id.clone(), length, until: length.map(|length| now + length), broken: false });
    Ok(id)
}

/// The lease, if the request tells its id; one that expired is still there.
fn own<'a>(lease: &'a mut Lease, call: &Call) -> Result<&'a mut Held, Refused> {
    let told = call.required("x-ms-lease-id")?;
    let held = lease.0.as_mut().ok_or_else(|| {
        Refused::new(409, "LeaseNotPresentWithLeaseOperation", "There is currently no lease on the blob.")
    })?;
    if same(&held.id, told) {
        return Ok(held);
    }
    Err(Refused::new(
        409,
        "LeaseIdMismatchWithLeaseOperation",
        "The lease ID specified did not match the lease ID for the blob.",
    ))
}

/// How many seconds are left.
fn break_it(lease: &mut Lease, period: Option<u64>, now: OffsetDateTime) -> Result<i64, Refused> {
    let held = lease.0.as_mut().ok_or_else(|| {
        Refused::new(409, "LeaseNotPresentWithLeaseOperation", "There is currently no lease on the blob.")
    })?;
    let asked = period.map(|seconds| now + Duration::seconds(seconds as i64));
    let end = match (held.until, asked) {
        (Some(until), Some(asked)) => until.min(asked),
        (Some(until), None) => until,
        (None, asked) => asked.unwrap_or(now),
    };
    held.until = Some(end);
    held.broken = true;
    Ok((end - now).whole_seconds().max(0))
}
