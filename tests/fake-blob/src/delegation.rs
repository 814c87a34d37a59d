//! Get User Delegation Key.

use crate::admit::{Who, failed};
use crate::answer::{Answer, Refused};
use crate::call::Call;
use crate::clock;
use crate::world::World;
use crate::xml::element;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use roxmltree::Document;
use time::Duration;

const VERSION: &str = "2020-12-06";

pub(crate) fn key(world: &mut World, call: &Call, who: &Who) -> Result<Answer, Refused> {
    let Who::Bearer(user) = who else {
        return Err(failed("Only authentication scheme Bearer is supported."));
    };
    let bad = || Refused::new(400, "InvalidXmlDocument", "XML specified is not syntactically valid.");
    let text = str::from_utf8(&call.body).map_err(|_| bad())?;
    let document = Document::parse(text.trim_start_matches('\u{feff}')).map_err(|_| bad())?;
    let time = |name| {
        let node = document.descendants().find(|node| node.has_tag_name(name));
        node.and_then(|node| node.text()).map(|text| clock::parse(text).ok_or_else(bad)).transpose()
    };
    let now = world.now();
    let start = time("Start")?.unwrap_or(now);
    let expiry = time("Expiry")?.ok_or_else(bad)?;
    if expiry <= start || expiry > now + Duration::days(7) {
        return Err(Refused::new(
            400,
            "InvalidXmlNodeValue",
            "The value for one of the XML nodes is not in the correct format.",
        ));
    }
    let (start, expiry) = (clock::seconds(start), clock::seconds(expiry));
    let secret = world.tickets.delegated(&[&user.object, &user.tenant, &start, &expiry, "b", VERSION]);
    let fields = [
        element("SignedOid", &user.object),
        element("SignedTid", &user.tenant),
        element("SignedStart", start),
        element("SignedExpiry", expiry),
        element("SignedService", "b"),
        element("SignedVersion", VERSION),
        element("Value", BASE64_STANDARD.encode(secret)),
    ];
    Ok(Answer::xml(&format!("<UserDelegationKey>{}</UserDelegationKey>", fields.concat())))
}
