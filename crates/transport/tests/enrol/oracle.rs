//! What `openssl` says of the certificates.

use crate::world::*;
use std::path::Path;
use std::process::Command;

fn here(what: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join("openssl").is_file()) {
        return true;
    }
    println!("SKIPPED {what}: openssl is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "openssl is required");
    false
}

fn openssl(args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn c2_openssl_agrees_on_whom_a_certificate_names_what_it_is_for_and_how_long() {
    if !here("certificates of services") {
        return;
    }
    let world = World::now().await;
    let credentials = world.joined(&agent("web-1")).await;
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.place("web-1/identity.json")).unwrap()).unwrap();
    let (ca, leaf) = (text(&world.place("ca.pem")), text(&world.place("leaf.pem")));
    std::fs::write(&ca, world.authority.certificate()).unwrap();
    std::fs::write(&leaf, record["certificate"].as_str().unwrap()).unwrap();
    for purpose in ["sslclient", "sslserver"] {
        let name = "web-1.agent.site-recovery.internal";
        let (fine, said) = openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-verify_hostname",
            name,
            "-CAfile",
            &ca,
            &leaf,
        ]);
        assert!(fine, "{said}");
    }
    let (fine, said) =
        openssl(&["verify", "-verify_hostname", "web-2.agent.site-recovery.internal", "-CAfile", &ca, &leaf]);
    assert!(!fine, "{said}");
    let (_, said) = openssl(&["x509", "-in", &leaf, "-noout", "-text"]);
    for part in [
        "DNS:web-1.agent.site-recovery.internal, URI:urn:site-recovery:agent:web-1",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
        "Digital Signature",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let (_, serial) = openssl(&["x509", "-in", &leaf, "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_owned();
    assert_eq!(serial.parse::<site_recovery_transport::enrol::Serial>().unwrap(), credentials.serial());
    let end = |seconds: u64| openssl(&["x509", "-in", &leaf, "-noout", "-checkend", &seconds.to_string()]).0;
    assert!(end(23 * 60 * 60) && !end(24 * 60 * 60 + 60));
    let (_, of_ca) = openssl(&["x509", "-in", &ca, "-noout", "-text"]);
    assert!(of_ca.contains("CA:TRUE, pathlen:0") && of_ca.contains("Certificate Sign"), "{of_ca}");
    let (_, pin) = openssl(&["x509", "-in", &ca, "-noout", "-fingerprint", "-sha256"]);
    let pin = pin.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(pin, world.authority.pin());
}
