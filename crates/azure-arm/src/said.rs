//! What Azure says of an error, fit to be shown.

use serde_json::Value;
use std::fmt;

/// What Azure says of an error. A signature that stood in it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// `SkuNotAvailable`; empty where the answer has none.
    pub code: String,
    /// Azure's words, for people.
    pub message: String,
    /// The `x-ms-request-id` of the answer.
    pub request: Option<String>,
    /// The `x-ms-correlation-request-id` of the answer, for Azure's support.
    pub correlation: Option<String>,
}

impl Said {
    /// Of the body of an error, of an operation or a resource that failed: `{error: {code, message}}`, or that object itself.
    pub(crate) fn of(body: &Value) -> Self {
        let error = [&body["error"], &body["properties"]["error"], body];
        let error = error.into_iter().find(|e| e["code"].is_string() || e["message"].is_string());
        let error = error.unwrap_or(&Value::Null);
        let text = |value: &Value| scrubbed(value.as_str().unwrap_or_default());
        let mut message = text(&error["message"]);
        // The outer words are often no more than that something within failed.
        for within in error["details"].as_array().into_iter().flatten().take(3) {
            let within = (text(&within["code"]), text(&within["message"]));
            if !within.1.is_empty() && !message.contains(&within.1) {
                message = format!("{message} ({}: {})", within.0, within.1);
            }
        }
        Self { code: text(&error["code"]), message, ..Self::default() }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_empty() { "no code" } else { &self.code };
        write!(f, "{code}")?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for (name, id) in [("request", &self.request), ("correlation", &self.correlation)] {
            if let Some(id) = id {
                write!(f, " [{name} {id}]")?;
            }
        }
        Ok(())
    }
}

/// The text without what signs an address in it.
pub(crate) fn scrubbed(text: &str) -> String {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "%+/=-_.~".contains(c));
    let (mut out, mut rest) = (String::new(), text);
    while let Some((start, value)) = signature(rest) {
        out.push_str(&rest[..start]);
        out.push_str("***");
        let long = rest[value..].find(ends).unwrap_or(rest.len() - value);
        rest = &rest[value + long..];
    }
    out + rest
}

/// Where the next signature begins: its name, and its value.
fn signature(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let found = ["sig=", "sig%3d", "sig\\u003d"].map(|name| lower.find(name).map(|at| (at, at + name.len())));
    found.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn c1_no_signature_is_left_in_a_text() {
        for (text, left) in [
            ("nothing", "nothing"),
            ("https://md-x/y?sv=1&sig=aB%2Bc+/d%3D&se=2 is gone", "https://md-x/y?sv=1&***&se=2 is gone"),
            ("'https://a/b?SIG=secret'", "'https://a/b?***'"),
            ("u=https%3A%2F%2Fa%3Fsig%3Dsecret", "u=https%3A%2F%2Fa%3F***"),
            ("sig=one, sig=two", "***, ***"),
            ("é sig=one é", "é *** é"),
            ("sig=", "***"),
        ] {
            assert_eq!(scrubbed(text), left);
        }
    }

    #[test]
    fn an_error_is_read_wherever_azure_puts_it() {
        let said = |body| {
            let said = Said::of(&body);
            (said.code, said.message)
        };
        let error = json!({"code": "C", "message": "m"});
        for body in [json!({ "error": error }), json!({"properties": { "error": error }}), error.clone()] {
            assert_eq!(said(body), ("C".into(), "m".into()));
        }
        let within = json!({"error": {"code": "C", "message": "m", "details": [
            {"code": "D", "message": "at https://a?sig=secret"}, {"code": "E", "message": "m"}]}});
        assert_eq!(said(within), ("C".into(), "m (D: at https://a?***)".into()));
        assert_eq!(said(Value::Null), (String::new(), String::new()));
        assert_eq!(said(json!("text")), (String::new(), String::new()));
    }
}
