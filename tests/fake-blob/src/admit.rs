//! Who asks, and whether they may.

use crate::answer::Refused;
use crate::call::Call;
use crate::route::Op;
use crate::tickets::Bearer;
use crate::world::World;
use crate::{shared_key, signatures};

#[derive(Clone, Debug)]
pub(crate) enum Who {
    Bearer(Bearer),
    Key,
    Signature,
}

pub(crate) fn admit(world: &mut World, call: &Call, op: Op) -> Result<Who, Refused> {
    if call.query("sig").is_some() {
        signatures::check(world, &call.place, op.rights())?;
        return Ok(Who::Signature);
    }
    if world.exports.contains_key(&call.place.account) {
        return Err(failed("No signature."));
    }
    let account = world.vault(&call.place.account)?.account.clone();
    let Some(header) = call.header("authorization") else {
        let none = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.";
        return Err(challenged(world, Refused::new(401, "NoAuthenticationInformation", none)));
    };
    if let Some(token) = header.strip_prefix("Bearer ") {
        if call.header("x-ms-version").is_none_or(|version| version < "2017-11-09") {
            return Err(failed("Authentication scheme Bearer is not supported in this version."));
        }
        return bearer(world, token).map(Who::Bearer);
    }
    let Some(signed) = header.strip_prefix("SharedKey ") else {
        return Err(failed("The authentication scheme is not known."));
    };
    shared_key::check(&account, call, signed)?;
    Ok(Who::Key)
}

/// Of a token, as of `Authorization` and of `x-ms-copy-source-authorization`.
pub(crate) fn bearer(world: &mut World, token: &str) -> Result<Bearer, Refused> {
    let now = world.now();
    world.tickets.bearer(token, now).map_err(|detail| {
        let text = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.";
        challenged(world, Refused::new(401, "InvalidAuthenticationInfo", text).detail(detail))
    })
}

fn challenged(world: &World, refused: Refused) -> Refused {
    let challenge = format!(
        "Bearer authorization_uri=https://login.microsoftonline.com/{}/oauth2/authorize resource_id=https://storage.azure.com",
        world.config.tenant
    );
    refused.with("WWW-Authenticate", &challenge)
}

pub(crate) fn failed(detail: &str) -> Refused {
    let text = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly \
                including the signature.";
    Refused::new(403, "AuthenticationFailed", text).detail(detail)
}
