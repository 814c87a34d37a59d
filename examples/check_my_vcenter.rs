//! Looks at your vCenter, or at one ESXi host, and tells what stands in the way of the whole circle: rights, the appliance, hosts,
//! datastores, machines. It reads, and changes nothing: not at the server, and not here.
//!
//! ```sh
//! cargo run --release --example check_my_vcenter --features vmware -- \\
//!     --url https://vcenter.example --user dr@vsphere.local --password-file secret --ca vcenter-ca.pem \\
//!     --appliance 5029c9d2-1e0c-4a4b-9d53-0d8c2c7a9f10 --tag dr=gold
//! ```
//!
//! Ends with 1 where something critical was found, with 2 where it could not look.

use site_recovery::{Error, Finding, Result, Severity, SystemClock};
use site_recovery_vim::{SecretRef, Settings, Trust, Vim};
use site_recovery_vsphere::{TagName, VCenter};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "\
usage: check_my_vcenter --url URL --user USER --password-file FILE (--ca FILE | --sha256 PIN) [--appliance UUID] [--tag CATEGORY=TAG]

  --url            https://vcenter.example, or a host that no vCenter manages
  --password-file  its first line is the password
  --ca             the authority that signed the server's certificate, as PEM
  --sha256         or the fingerprint of the certificate itself
  --appliance      instance UUID of the machine in which the library would run; without it nothing can land
  --tag            only machines with this tag, as a site would choose them (vCenter alone)";

const OPTIONS: &[&str] = &["url", "user", "password-file", "ca", "sha256", "appliance", "tag"];

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
    let told = told(arguments)?;
    let settings = settings(&told)?;
    let appliance = told.get("appliance").copied();
    let vim = Vim::connect(&settings, Arc::new(SystemClock)).await?;
    let is_vcenter = vim.is_vcenter();
    vim.log_out().await?;
    let mut found = match (is_vcenter, told.get("tag")) {
        (true, None) => VCenter::new(settings).check(appliance).await?,
        (true, Some(tag)) => {
            let tag: TagName = tag.parse()?;
            VCenter::new(settings).tagged(tag).check(appliance).await?
        }
        (false, None) => site_recovery_esxi::check(&settings, appliance).await?,
        (false, Some(tag)) => {
            return Err(Error::invalid("--tag", tag, "a host alone has no tags", "leave it out"));
        }
    };
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(found)
}

/// The options by name.
fn told(arguments: &[String]) -> Result<BTreeMap<&str, &str>> {
    let mut told = BTreeMap::new();
    for pair in arguments.chunks(2) {
        let name = pair[0].strip_prefix("--").filter(|name| OPTIONS.contains(name));
        let (Some(name), Some(value)) = (name, pair.get(1)) else {
            return Err(Error::invalid("arguments", &pair[0], "an option and its value each", USAGE));
        };
        told.insert(name, value.as_str());
    }
    Ok(told)
}

fn settings(told: &BTreeMap<&str, &str>) -> Result<Settings> {
    let needed = |name: &'static str| {
        let missing =
            || Error::invalid("arguments", "incomplete", &format!("--{name} has to be given"), USAGE);
        told.get(name).map(|value| (*value).to_owned()).ok_or_else(missing)
    };
    let trust = match (told.get("ca"), told.get("sha256")) {
        (Some(authority), None) => Trust::Ca((*authority).into()),
        (None, Some(pin)) => Trust::Sha256((*pin).to_owned()),
        _ => {
            return Err(Error::invalid(
                "arguments",
                "unclear",
                "either --ca or --sha256 says whom to trust",
                USAGE,
            ));
        }
    };
    Ok(Settings {
        url: needed("url")?,
        trust,
        user: needed("user")?,
        password: SecretRef::File(needed("password-file")?.into()),
        limits: Default::default(),
    })
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
        text += &format!("{:<8}  {:<width$}  -> {}\n", "", "", finding.remedy);
    }
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (critical, warnings) = (count(Severity::Critical), count(Severity::Warning));
    text += &format!("\n{critical} critical, {warnings} warnings\n");
    text
}

#[cfg(test)]
#[path = "../crates/vim/tests/simulator/process.rs"]
mod process;

/// On VMware's simulator, as a vCenter and as a host: no real one was ever looked at here.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;
    use crate::process::{Mode, Sim};
    use serde_json::{Value, json};

    /// Calls that change nothing at a server beside its sessions.
    const READS: &[&str] = &[
        "RetrieveServiceContent",
        "Login",
        "Logout",
        "CurrentTime",
        "CreateContainerView",
        "DestroyView",
        "RetrievePropertiesEx",
        "ContinueRetrievePropertiesEx",
        "FindAllByUuid",
        "HasPrivilegeOnEntities",
    ];

    fn arguments(sim: &Sim, more: &[&str]) -> Vec<String> {
        let (Trust::Sha256(pin), SecretRef::File(password)) = (&sim.settings.trust, &sim.settings.password)
        else {
            panic!("{:?}", sim.settings)
        };
        let usual =
            ["--url", &sim.settings.url, "--user", &sim.settings.user, "--sha256", pin, "--password-file"];
        let usual = usual.into_iter().chain([password.to_str().unwrap()]);
        usual.chain(more.iter().copied()).map(str::to_owned).collect()
    }

    async fn appliance(sim: &Sim) -> String {
        let vim = Vim::connect(&sim.settings, Arc::new(SystemClock)).await.unwrap();
        let machines = vim.machines(&vim.content().root_folder).await.unwrap();
        vim.log_out().await.unwrap();
        machines[0].instance_uuid.clone().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_of_either_kind_is_looked_at_and_nothing_is_changed() {
        for mode in [Mode::VCenter, Mode::Esxi] {
            let Some(sim) = Sim::start(mode) else { return };
            let appliance = appliance(&sim).await;
            sim.tell("settings", json!({ "denied": ["VirtualMachine.State.CreateSnapshot"] })).await;
            sim.tell("calls", json!({ "reset": true })).await;
            let found = look(&arguments(&sim, &["--appliance", &appliance])).await.unwrap();
            let text = table(&found);
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[0].starts_with("CRITICAL"), "the worst first: {text}");
            for code in ["rights.protect", "rights.failback", "appliance.disk-uuid", "server.inventory"] {
                assert!(text.contains(code), "{code}: {text}");
            }
            assert!(text.contains("lacks VirtualMachine.State.CreateSnapshot on machine"), "{text}");
            assert!(lines.last().unwrap().starts_with("3 critical"), "{text}");

            let calls: Value = sim.tell("calls", json!({})).await;
            let soap = calls["soap"].as_object().unwrap();
            assert_eq!(soap["Login"], soap["Logout"], "no session is left: {soap:?}");
            let changes: Vec<&String> = soap.keys().filter(|call| !READS.contains(&call.as_str())).collect();
            assert!(changes.is_empty(), "{changes:?}");
            assert_eq!((&calls["rest"], &calls["folder_reads"]), (&json!(0), &json!(0)));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_looked_at_is_an_error_that_says_what_to_do() {
        let Some(sim) = Sim::start(Mode::Esxi) else { return };
        let refused = look(&arguments(&sim, &["--tag", "dr=gold"])).await.unwrap_err();
        assert!(refused.message().contains("a host alone has no tags"), "{refused}");
        for wrong in [&["--url"][..], &["--verbose", "yes"], &["--url", "https://vcenter.example"]] {
            let wrong: Vec<String> = wrong.iter().map(|word| (*word).to_owned()).collect();
            assert!(look(&wrong).await.unwrap_err().message().contains("usage:"), "{wrong:?}");
        }
        let mut stranger = arguments(&sim, &[]);
        let pin = stranger.iter().position(|word| word == "--sha256").unwrap() + 1;
        stranger[pin] = "00".repeat(32);
        let refused = look(&stranger).await.unwrap_err();
        assert_eq!(refused.kind(), site_recovery::ErrorKind::Denied, "{refused}");
    }
}
