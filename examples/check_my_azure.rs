//! Looks at your subscription, and tells what stands in the way of the whole circle: the group, the account, networks, sizes, quota,
//! rights, and each machine of the group. It reads, and changes nothing: not in Azure, and not here.
//!
//! ```sh
//! cargo run --release --example check_my_azure --features azure -- --settings azure.json --site azure
//! ```
//!
//! Ends with 1 where something critical was found, with 2 where it could not look.

use site_recovery::{Error, ErrorKind, Finding, Result, RoleName, Severity, SystemClock};
use site_recovery_azure::{Settings, Subscription};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "\
usage: check_my_azure --settings FILE [--site NAME]

  --settings  JSON, as docs/azure.md has it: who signs in, subscription, group, region, account, container, networks
  --site      the name of the site, as your program opens it; azure otherwise";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        say(&format!("{USAGE}\n"));
        return ExitCode::SUCCESS;
    }
    match look(&arguments).await {
        Ok(found) => {
            say(&table(&found));
            if found.iter().any(Finding::blocks) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whoever reads it may leave early.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What is found, the worst first.
async fn look(arguments: &[String]) -> Result<Vec<Finding>> {
    let (settings, site) = told(arguments)?;
    Subscription::new(settings, Arc::new(SystemClock))?.check(site).await
}

fn told(arguments: &[String]) -> Result<(Settings, RoleName)> {
    let (mut file, mut site) = (None, "azure".to_owned());
    for pair in arguments.chunks(2) {
        match (pair[0].as_str(), pair.get(1)) {
            ("--settings", Some(value)) => file = Some(value),
            ("--site", Some(value)) => site.clone_from(value),
            _ => return Err(Error::invalid("arguments", &pair[0], "an option and its value each", USAGE)),
        }
    }
    let missing = || Error::invalid("arguments", "incomplete", "--settings has to be given", USAGE);
    let file = file.ok_or_else(missing)?;
    let unreadable =
        |why: String| Error::new(ErrorKind::Invalid, format!("{file}: {why}")).with("field", "--settings");
    let text = std::fs::read(file).map_err(|e| unreadable(e.to_string()))?;
    let settings = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
    Ok((settings, site.as_str().into()))
}

fn table(found: &[Finding]) -> String {
    let width = found.iter().map(|finding| finding.code.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in found {
        let word = match finding.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        text += &format!("{word:<8}  {:<width$}  {}\n", finding.code, finding.cause);
        if finding.severity > Severity::Info {
            text += &format!("{:<8}  {:<width$}  -> {}\n", "", "", finding.remedy);
        }
    }
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (critical, warnings) = (count(Severity::Critical), count(Severity::Warning));
    text += &format!("\n{critical} critical, {warnings} warnings\n");
    text
}

#[cfg(test)]
#[path = "../crates/azure/tests/opened/ground.rs"]
mod ground;

/// On our fakes of Azure: no real subscription was ever looked at here.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;
    use crate::ground::{ACCOUNT, CONTAINER, Ground};

    fn arguments(ground: &Ground, more: &[&str]) -> Vec<String> {
        let file = ground.write("azure.json", &ground.told().to_string());
        let usual = ["--settings", file.to_str().unwrap()];
        usual.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_subscription_is_looked_at_and_nothing_is_changed() {
        let ground = Ground::new(|_| {}).await;
        let found = look(&arguments(&ground, &[])).await.unwrap();
        let text = table(&found);
        for code in ["account", "container.none", "region.quota", "group.inventory"] {
            assert!(text.contains(&format!("info      {code}")), "{code}: {text}");
        }
        assert!(text.ends_with("\n0 critical, 0 warnings\n"), "{text}");
        let changes = ground.asked().into_iter().filter(|call| !call.starts_with("GET "));
        assert!(
            changes.clone().all(|call| call.ends_with("/oauth2/v2.0/token")),
            "{:?}",
            changes.collect::<Vec<_>>()
        );
        assert!(ground.blobs.log().iter().all(|entry| entry.method == "GET"));
        assert!(ground.blobs.blobs(ACCOUNT, CONTAINER).is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_stands_in_the_way_comes_first_with_a_remedy() {
        let ground = Ground::new(|config| config.rights = [vec!["*/read".into()], vec!["*".into()]]).await;
        let text = table(&look(&arguments(&ground, &["--site", "west"])).await.unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("CRITICAL  rights") && lines[0].contains("disks/write"), "{text}");
        assert!(lines[1].trim().starts_with("-> give whoever signs in"), "{text}");
        assert!(!lines.last().unwrap().starts_with("0 critical"), "{text}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_looked_at_is_an_error_that_says_what_to_do() {
        let ground = Ground::new(|_| {}).await;
        for wrong in [&["--settings"][..], &["--verbose", "yes"], &["--site", "west"]] {
            let wrong: Vec<String> = wrong.iter().map(|word| (*word).to_owned()).collect();
            assert!(look(&wrong).await.unwrap_err().message().contains("usage:"), "{wrong:?}");
        }
        let nowhere = ["--settings".to_owned(), "/nowhere.json".to_owned()];
        assert!(look(&nowhere).await.unwrap_err().message().contains("/nowhere.json"));
        let odd = ground.write("odd.json", &ground.told().to_string().replace("\"region\"", "\"regoin\""));
        let odd = ["--settings".to_owned(), odd.to_str().unwrap().to_owned()];
        assert!(look(&odd).await.unwrap_err().message().contains("regoin"));
        ground.write("secret", "another");
        let refused = look(&arguments(&ground, &[])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    }
}
