//! Requests that are signed with the key of an account.

use crate::admit::failed;
use crate::answer::Refused;
use crate::call::Call;
use crate::config::Account;
use crate::tickets::hmac_base64;
use std::fmt::Write;

const HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// `signed` is `account:signature`.
pub(crate) fn check(account: &Account, call: &Call, signed: &str) -> Result<(), Refused> {
    let key = account.key.as_ref().ok_or_else(|| {
        Refused::new(
            403,
            "KeyBasedAuthenticationNotPermitted",
            "Key based authentication is not permitted on this storage account.",
        )
    })?;
    let (name, signature) = signed.split_once(':').ok_or_else(|| failed("The signature is malformed."))?;
    if name != account.name || signature != hmac_base64(key, &string_to_sign(account, call)) {
        return Err(failed(
            "The MAC signature found in the HTTP request is not the same as any computed signature.",
        ));
    }
    Ok(())
}

fn string_to_sign(account: &Account, call: &Call) -> String {
    let mut text = format!("{}\n", call.method);
    for name in HEADERS {
        let value = call.header(name).unwrap_or_default();
        let absent =
            name == "content-length" && value == "0" || name == "date" && call.header("x-ms-date").is_some();
        text += if absent { "" } else { value };
        text.push('\n');
    }
    for (name, value) in call.headers().filter(|(name, _)| name.starts_with("x-ms-")) {
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "/{}{}", account.name, call.path);
    for (name, value) in &call.place.query {
        let _ = write!(text, "\n{}:{value}", name.to_lowercase());
    }
    text
}
