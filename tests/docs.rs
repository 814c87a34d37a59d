//! The pages in `docs/` and the README speak of what exists: symbols, tests, links.
//!
//! - `Type::member` in backticks anywhere, and a bare `Type` in a table column headed *API*, is a public item of a crate.
//! - `folder/file.rs::name` in backticks is a test, in a file below `crates/` or below the root.
//! - A cell of a column headed *Test* names a test, or says what it waits for: `later: …`.
//! - Relative links lead to files, and their anchors to headings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace")
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" {
            found.extend(files(&path, ending));
        } else if name.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What the sources declare.
#[derive(Default)]
struct Sources {
    types: BTreeSet<String>,
    members: BTreeMap<String, BTreeSet<String>>,
    tests: BTreeSet<(PathBuf, String)>,
}

impl Sources {
    fn of_workspace() -> Self {
        let mut sources = Self::default();
        for path in
            files(&root().join("crates"), ".rs").into_iter().chain(files(&root().join("tests"), ".rs"))
        {
            let tokens = tokens(&read(&path));
            let relative = path.strip_prefix(root()).expect("below the root").to_owned();
            if relative.iter().any(|part| part == "src") {
                sources.declarations(&tokens);
            }
            sources.tests(&relative, &tokens);
        }
        sources
    }

    fn declarations(&mut self, tokens: &[String]) {
        for at in 0..tokens.len() {
            let kind = tokens[at].as_str();
            if !matches!(kind, "struct" | "enum" | "trait" | "type" | "const" | "static" | "impl") {
                continue;
            }
            let Some(open) = (at..tokens.len()).find(|i| matches!(tokens[*i].as_str(), "{" | "(" | ";"))
            else {
                continue;
            };
            if kind == "impl" {
                let header = (at..tokens.len()).find(|i| tokens[*i] == "{").unwrap_or(open);
                if at > 0 && !matches!(tokens[at - 1].as_str(), "}" | ";" | "]" | "{" | "unsafe") {
                    continue;
                }
                let owner = owner(&tokens[at + 1..header]);
                self.add_members(tokens, at, &owner, functions(body(tokens, header)));
                continue;
            }
            let name = tokens[at + 1].clone();
            if at == 0 || tokens[at - 1] != "pub" {
                continue;
            }
            self.types.extend(expanded(tokens, at, &name));
            let inside = if tokens[open] == "{" { body(tokens, open) } else { &[] };
            let members = match kind {
                "enum" => variants(inside),
                "struct" => fields(inside),
                "trait" => functions(inside),
                _ => vec![],
            };
            self.add_members(tokens, at, &name, members);
        }
    }

    fn add_members(&mut self, tokens: &[String], at: usize, owner: &str, members: Vec<String>) {
        for owner in expanded(tokens, at, owner) {
            self.members.entry(owner).or_default().extend(members.iter().cloned());
        }
    }

    /// Functions with an attribute that says `test`, and cases of the conformance suites.
    fn tests(&mut self, file: &Path, tokens: &[String]) {
        let suite = file.to_string_lossy().contains("/src/suite/");
        for at in (1..tokens.len()).filter(|i| tokens[i - 1] == "fn") {
            let mut before = at - 1;
            while before > 0 && matches!(tokens[before - 1].as_str(), "async" | "pub") {
                before -= 1;
            }
            let (mut test, mut ignored) = (suite && tokens[before] == "pub", false);
            while before > 0 && tokens[before - 1] == "]" {
                let open = (0..before).rev().find(|i| tokens[*i] == "#").unwrap_or(0);
                test |= tokens[open..before].iter().any(|t| t == "test");
                ignored |= tokens[open..before].iter().any(|t| t == "ignore");
                before = open;
            }
            if test && !ignored {
                self.tests.insert((file.to_owned(), tokens[at].clone()));
            }
        }
    }

    fn has(&self, path: &[&str]) -> bool {
        match path {
            [name] => self.types.contains(*name),
            [owner, member] => {
                self.types.contains(*owner) && self.members.get(*owner).is_some_and(|m| m.contains(*member))
            }
            _ => false,
        }
    }

    fn has_test(&self, file: &str, name: &str) -> bool {
        let places = [Path::new("crates").join(file), PathBuf::from(file)];
        places.into_iter().any(|place| self.tests.contains(&(place, name.to_owned())))
    }
}

/// Words, `$words` and marks, without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let (chars, mut found, mut at) = (text.chars().collect::<Vec<_>>(), vec![], 0);
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let starts = |i: usize, what: &str| what.chars().enumerate().all(|(n, c)| get(i + n) == c);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while at < chars.len() {
        let c = get(at);
        if starts(at, "//") {
            while at < chars.len() && get(at) != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            while at < chars.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if c == 'r' && matches!(get(at + 1), '"' | '#') && raw(&chars, at).is_some() {
            at = raw(&chars, at).expect("just seen");
        } else if c == '"' {
            at += 1;
            while at < chars.len() && get(at) != '"' {
                at += if get(at) == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' && (get(at + 1) == '\\' || get(at + 2) == '\'') {
            at += if get(at + 1) == '\\' { 3 } else { 2 };
            while at < chars.len() && get(at) != '\'' {
                at += 1;
            }
            at += 1;
        } else if is_word(c) || (c == '$' && is_word(get(at + 1))) {
            let from = at;
            at += 1;
            while is_word(get(at)) {
                at += 1;
            }
            found.push(chars[from..at].iter().collect());
        } else if let Some(mark) = ["::", "->", "=>"].into_iter().find(|m| starts(at, m)) {
            found.push(mark.to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.to_string());
            }
            at += 1;
        }
    }
    found
}

/// The end of a raw string that begins here.
fn raw(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (at + 2 + hashes..chars.len()).find(|i| closes(*i)).map(|end| end + 1 + hashes)
}

/// What stands between a brace and the one that closes it.
fn body(tokens: &[String], open: usize) -> &[String] {
    let mut depth = 0;
    for at in open..tokens.len() {
        match tokens[at].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &tokens[open + 1..at];
        }
    }
    &[]
}

/// Places in a body that are not inside a deeper bracket.
fn top(body: &[String]) -> Vec<usize> {
    let (mut depth, mut places) = (0, vec![]);
    for (at, token) in body.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ if depth == 0 => places.push(at),
            _ => {}
        }
    }
    places
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn functions(body: &[String]) -> Vec<String> {
    let named = |i: &usize| *i > 0 && matches!(body[i - 1].as_str(), "fn" | "const" | "type");
    top(body).into_iter().filter(named).map(|i| body[i].clone()).collect()
}

fn variants(body: &[String]) -> Vec<String> {
    let begins = |i: &usize| is_name(&body[*i]) && (*i == 0 || matches!(body[i - 1].as_str(), "," | "]"));
    top(body).into_iter().filter(begins).map(|i| body[i].clone()).collect()
}

fn fields(body: &[String]) -> Vec<String> {
    let typed = |i: &usize| *i > 0 && body[i - 1] == "pub" && body.get(i + 1).is_some_and(|t| t == ":");
    top(body).into_iter().filter(typed).map(|i| body[i].clone()).collect()
}

/// The type of an `impl` header.
fn owner(header: &[String]) -> String {
    let (mut depth, mut last) = (0_i32, String::new());
    for token in header {
        match token.as_str() {
            "<" => depth += 1,
            ">" => depth -= 1,
            "where" => break,
            name if depth == 0 && (is_name(name) || name.starts_with('$')) => name.clone_into(&mut last),
            _ => {}
        }
    }
    last
}

/// A name, or, for a `$name` of a macro, the names that the macro is called with in the same file.
fn expanded(tokens: &[String], at: usize, name: &str) -> Vec<String> {
    if !name.starts_with('$') {
        return vec![name.to_owned()];
    }
    let Some(rules) = (0..at).rev().find(|i| tokens[*i] == "macro_rules") else { return vec![] };
    let called = &tokens[rules + 2];
    let calls = (0..tokens.len().saturating_sub(2))
        .filter(|i| &tokens[*i] == called && tokens[i + 1] == "!" && (*i == 0 || tokens[i - 1] != "!"));
    calls.flat_map(|i| body(tokens, i + 2).iter().filter(|t| is_name(t)).cloned()).collect()
}

/// What a page claims and does not hold.
fn complaints(page: &str, text: &str, sources: &Sources) -> Vec<String> {
    let (mut found, mut header, mut fenced) = (vec![], Vec::<String>::new(), false);
    for (number, line) in text.lines().enumerate() {
        let mut say = |what: String| found.push(format!("{page}:{}: {what}", number + 1));
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let row = line.trim().starts_with('|');
        if !row {
            header.clear();
        } else if header.is_empty() {
            header = cells.iter().map(|c| (*c).to_owned()).collect();
            continue;
        } else if cells.iter().all(|c| c.chars().all(|c| c == '-' || c == ':')) {
            continue;
        }
        for (span, bare) in spans(line, &header, &cells, row) {
            if let Some((file, name)) = span.split_once(".rs::") {
                let file = format!("{file}.rs");
                if !sources.has_test(&file, name) {
                    say(format!("there is no test {name} in {file}"));
                }
            } else if let Some(path) = symbol(&span)
                && (path.len() > 1 || bare)
                && !sources.has(&path)
            {
                say(format!("there is no {}", path.join("::")));
            }
        }
        if let (true, Some(at)) = (row, header.iter().position(|h| h == "Test")) {
            let cell = cells.get(at).copied().unwrap_or_default();
            if !cell.contains(".rs::") && !cell.contains("later: ") {
                say(format!("the cell {cell:?} names no test and does not say what it waits for"));
            }
        }
    }
    found
}

/// Backticked texts of a line, and whether each stands in a column headed *API*.
fn spans(line: &str, header: &[String], cells: &[&str], row: bool) -> Vec<(String, bool)> {
    let ticked = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    if !row {
        return ticked(line).into_iter().map(|span| (span, false)).collect();
    }
    let api = |at: usize| header.get(at).is_some_and(|h| h == "API");
    cells
        .iter()
        .enumerate()
        .flat_map(|(at, cell)| ticked(cell).into_iter().map(move |s| (s, api(at))))
        .collect()
}

/// `Type`, or `Type` and member; nothing for any other text.
fn symbol(span: &str) -> Option<Vec<&str>> {
    let end = span.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(span.len());
    let (path, rest) = span.split_at(end);
    let plain = rest.is_empty() || rest.starts_with(['(', '{', ' ']);
    let parts: Vec<&str> = path.split("::").skip_while(|p| p.starts_with(char::is_lowercase)).collect();
    let first = parts.first()?;
    (plain && first.starts_with(char::is_uppercase) && !path.ends_with(':')).then_some(parts)
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Links of a page that lead nowhere.
fn broken_links(page: &Path, text: &str) -> Vec<String> {
    let (mut found, mut fenced) = (vec![], false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let plain: String = line.split('`').step_by(2).collect();
        for link in plain.split("](").skip(1).filter(|_| !fenced) {
            let target = link.split([')', ' ']).next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.to_owned() } else { page.with_file_name(file) };
            let there = path.exists() && (wanted.is_empty() || headings(&path, page, text).contains(wanted));
            if !there {
                found.push(format!("{}: {target} leads nowhere", page.display()));
            }
        }
    }
    found
}

fn headings(path: &Path, page: &Path, text: &str) -> BTreeSet<String> {
    let text = if path == page { text.to_owned() } else { read(path) };
    text.lines().filter(|l| l.starts_with('#')).map(|l| anchor(l.trim_start_matches('#'))).collect()
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), ".md");
    pages.extend(Some(root().join("README.md")).filter(|p| p.exists()));
    pages
}

#[test]
fn every_symbol_and_test_that_a_page_names_exists() {
    let sources = Sources::of_workspace();
    let all = pages().into_iter().filter(|p| p.parent().is_some_and(|p| !p.ends_with("decisions")));
    let found: Vec<String> =
        all.flat_map(|p| complaints(&p.display().to_string(), &read(&p), &sources)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_relative_link_leads_somewhere() {
    let found: Vec<String> = pages().iter().flat_map(|p| broken_links(p, &read(p))).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_tutorial_is_mapped_by_tables_with_all_columns() {
    let text = read(&root().join("docs/tutorial.md"));
    let rows = text.lines().filter(|l| l.starts_with('|')).collect::<Vec<_>>();
    let headers = rows.iter().filter(|r| r.contains("| API |") && r.contains("| Test |")).count();
    assert!(headers >= 9 && rows.len() > 60, "{headers} tables, {} rows", rows.len());
}

/// What is made up is found, and what is there is not.
#[test]
fn made_up_symbols_tests_and_links_are_found() {
    let sources = Sources::of_workspace();
    let table =
        |api: &str, test: &str| format!("| What | API | Test |\n|---|---|---|\n| x | {api} | {test} |\n");
    let good = "`core/src/engine/choose.rs::o4_a_group_goes_to_one_cut_or_nowhere`";
    let about = |api: &str, test: &str| complaints("page", &table(api, test), &sources);
    for there in [
        "`ItemHandle::failover`",
        "`GroupHandle::undo(request)`",
        "`PointChoice::Latest`",
        "`MachineId`",
        "`POINT_ZERO`",
        "`Deadlines::drain`",
        "`Source::fence`",
        "`state::Direction::PrimaryToRecovery`",
        "`MachineId::as_str`",
    ] {
        assert!(about(there, good).is_empty(), "{:?}", about(there, good));
    }
    for made_up in
        ["`ItemHandle::teleport`", "`PointChoice::Best`", "`Teleporter`", "`Teleporter::now`", "`Sided::far`"]
    {
        assert_eq!(about(made_up, good).len(), 1, "{made_up}");
    }
    for test in [
        "`core/src/engine/choose.rs::teleports`",
        "`core/src/loss.rs::o4_a_group_goes_to_one_cut_or_nowhere`",
        "soon",
    ] {
        assert_eq!(about("`Vault`", test).len(), 1, "{test}");
    }
    assert!(about("`Vault`", "later: an adapter").is_empty());
    assert_eq!(complaints("page", "In text too: `Vault::teleport`.", &sources).len(), 1);
    let page = root().join("docs/formats.md");
    let links = "# A b\n[1](#a-b) [2](state-machine.md) [3](https://example.com) [4](nowhere.md) [5](#b)";
    assert_eq!(broken_links(&page, links).len(), 2, "{:?}", broken_links(&page, links));
}
