//! Names of entities: a server keeps `%`, `/` and `\` in them escaped, and nothing else.

/// As people gave it.
pub(crate) fn unescaped(name: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(name.len()), name);
    while let Some(at) = rest.find('%') {
        shown.push_str(&rest[..at]);
        let code = rest.get(at..at + 3).map(str::to_ascii_lowercase);
        let meant = match code.as_deref() {
            Some("%25") => Some('%'),
            Some("%2f") => Some('/'),
            Some("%5c") => Some('\\'),
            _ => None,
        };
        shown.push(meant.unwrap_or('%'));
        rest = &rest[at + if meant.is_some() { 3 } else { 1 }..];
    }
    shown.push_str(rest);
    shown
}

/// As it is said in a configuration: there the server escapes by itself, but for what begins an escape already.
pub(crate) fn in_config(name: &str) -> String {
    let (mut said, mut rest) = (String::with_capacity(name.len()), name);
    while let Some(at) = rest.find('%') {
        said.push_str(&rest[..at]);
        let code = rest.get(at..at + 3).map(str::to_ascii_lowercase);
        let begins = matches!(code.as_deref(), Some("%25" | "%2f" | "%5c"));
        said.push_str(if begins { "%25" } else { "%" });
        rest = &rest[at + 1..];
    }
    said.push_str(rest);
    said
}

/// As it is said in an argument, where each `%` has to be escaped.
pub(crate) fn in_argument(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f").replace('\\', "%5c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for name in ["web/1", "50%", "%2f", "a\\b", "웹 서버 %", "", "\"it's\""] {
            assert_eq!(unescaped(&in_argument(name)), name);
            // What the server makes of the rest by itself does not change what is read.
            assert_eq!(unescaped(&in_config(name)), name);
        }
        assert_eq!(in_argument("a/b%c"), "a%2fb%25c");
        assert_eq!(in_config("a/b%c %2F%"), "a/b%c %252F%");
        // Of servers that do not escape, as VMware's simulator.
        for plain in ["100% sure", "%", "%é", "a/b"] {
            assert_eq!(unescaped(plain), plain);
        }
    }
}
