//! Shared access signatures: those that the fake handed out, those of exported disks, and those that a user made with a
//! delegated key.

use crate::admit::failed;
use crate::answer::Refused;
use crate::call::Place;
use crate::clock;
use crate::tickets::hmac_base64;
use crate::world::World;
use time::OffsetDateTime;

/// Whether the signature in a URL lets do one of `rights` with what the URL names.
pub(crate) fn check(world: &World, place: &Place, rights: &str) -> Result<(), Refused> {
    let now = world.now();
    if let Some(export) = world.exports.get(&place.account) {
        return export.check(place, rights, now);
    }
    let signature = place.query("sig").unwrap_or_default();
    if let Some(grant) = world.tickets.granted.get(signature) {
        let whole = grant.query.iter().all(|(name, value)| place.query(name) == Some(value));
        let there = grant.account == place.account
            && place.container.as_ref() == Some(&grant.container)
            && (grant.blob.is_none() || grant.blob == place.blob);
        if !whole || !there {
            return Err(failed("Signature did not match."));
        }
    } else if place.query("skoid").is_some() {
        let key = delegated(world, place, now)?;
        if hmac_base64(&key, &string_to_sign(place)?) != signature {
            return Err(failed("Signature did not match."));
        }
        if !matches!(place.query("sr"), Some("b" | "c" | "bs"))
            || place.query("sr") == Some("b") && place.blob.is_none()
        {
            return Err(failed("The signed resource is not what is asked for."));
        }
    } else {
        return Err(failed("Signature did not match."));
    }
    during(place, "st", "se", now)?;
    allows(place.query("sp").unwrap_or_default(), rights)
}

pub(crate) fn allows(granted: &str, rights: &str) -> Result<(), Refused> {
    if rights.chars().any(|right| granted.contains(right)) {
        return Ok(());
    }
    Err(Refused::new(
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    ))
}

fn during(place: &Place, from: &str, until: &str, now: OffsetDateTime) -> Result<(), Refused> {
    let at =
        |name| place.query(name).map(|text| clock::parse(text).ok_or_else(|| failed("A time is malformed.")));
    if at(from).transpose()?.is_some_and(|from| now < from) {
        return Err(failed("Signature not valid in the specified time frame."));
    }
    let until = at(until).transpose()?.ok_or_else(|| failed("se is mandatory."))?;
    if now >= until {
        return Err(failed("Signature not valid in the specified time frame."));
    }
    Ok(())
}

/// The key that a signature was made with, from what the signature says of it.
fn delegated(world: &World, place: &Place, now: OffsetDateTime) -> Result<Vec<u8>, Refused> {
    during(place, "skt", "ske", now)?;
    let field = |name| place.query(name).unwrap_or_default();
    Ok(world.tickets.delegated(&[
        field("skoid"),
        field("sktid"),
        field("skt"),
        field("ske"),
        field("sks"),
        field("skv"),
    ]))
}

/// As Microsoft's page on user delegation signatures has it, for versions from 2020-12-06 on.
fn string_to_sign(place: &Place) -> Result<String, Refused> {
    let field = |name| place.query(name).unwrap_or_default();
    let version = field("sv");
    if version < "2020-12-06" {
        return Err(Refused::not_faked("A user delegation signature of this version"));
    }
    if place.query("srh").is_some() || place.query("srq").is_some() {
        return Err(Refused::not_faked("A signature over headers or parameters"));
    }
    let resource = match field("sr") {
        "c" => format!("/blob/{}/{}", place.account, place.container.as_deref().unwrap_or_default()),
        _ => format!(
            "/blob/{}/{}/{}",
            place.account,
            place.container.as_deref().unwrap_or_default(),
            place.blob.as_deref().unwrap_or_default()
        ),
    };
    let mut fields = vec![field("sp"), field("st"), field("se"), &resource];
    fields.extend(["skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid"].map(field));
    if version >= "2025-07-05" {
        fields.extend(["skdutid", "sduoid"].map(field));
    }
    let snapshot = if field("sr") == "bs" { field("snapshot") } else { "" };
    fields.extend([field("sip"), field("spr"), version, field("sr"), snapshot, field("ses")]);
    if version >= "2026-04-06" {
        fields.extend(["", ""]);
    }
    fields.extend(["rscc", "rscd", "rsce", "rscl", "rsct"].map(field));
    Ok(fields.join("\n"))
}
