//! Tokens and signatures: in no error, no log and no `Debug`, and at no other server.

use crate::azure::{Azure, Reply, SAS, Token, absent, disk, new_disk, refused, say, saying};
use serde_json::{Value, json};
use site_recovery_azure_arm::{Access, Arm, Disk, Error, Trust};
use std::io::Write;
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread")]
async fn c1_no_signature_is_in_an_error_or_a_debug_print() {
    let words = format!("cannot copy '{SAS}' now");
    let azure = Azure::new({
        let words = words.clone();
        move |request| match request.verb.as_str() {
            "PUT" => refused(400, "BadRequest", &words),
            "DELETE" => saying(202, &[("azure-asyncoperation", &request.operation("op"))], Value::Null),
            "GET" => say(200, json!({"status": "Failed", "error": {"code": "X", "message": words}})),
            _ => say(200, json!({ "accessSAS": SAS })),
        }
    });
    let disks = azure.arm.disks("rg");
    let refused = disks.put("web", &new_disk()).await.unwrap_err();
    let deletion = disks.delete("web").await.unwrap();
    let mut shown = format!("{:?} {:?}", deletion, deletion.at());
    let failed = deletion.done().await.unwrap_err();
    for error in [refused, failed] {
        assert!(error.message().contains("sv=2018-03-28&sr=b&si=x&***' now"), "{error}");
        shown += &format!("{error} {error:?} ");
        let error = site_recovery::Error::from(error);
        shown += &format!("{error} {error:?}");
    }
    let granted = disks.grant("web", Access::Read, 60).await.unwrap();
    shown += &format!("{granted:?} {:?} ", granted.at());
    let sas = granted.done().await.unwrap();
    assert_eq!(sas.expose(), SAS);
    shown += &format!("{sas:?} {:?} {:?}", azure.arm, disks);
    assert!(!shown.contains("canary"), "{shown}");
}

/// Everything that is logged, by everybody.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn c1_neither_token_nor_signature_is_logged_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let azure = Azure::new(move |request| match request.line().as_str() {
        "PUT disks/web" => saying(202, &[("azure-asyncoperation", &request.operation("op"))], Value::Null),
        "POST disks/web/beginGetAccess" => say(200, json!({ "accessSAS": SAS })),
        "GET disks/web" => say(200, disk("Succeeded")),
        _ if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2) => {
            refused(503, "X", SAS)
        }
        _ => say(200, json!({"status": "Succeeded"})),
    });
    let disks = azure.arm.disks("rg");
    let (mut logged, mut told) = (String::new(), false);
    for _ in 0..10 {
        // Another test's thread may have told `tracing` at this moment that nobody listens.
        tracing::callsite::rebuild_interest_cache();
        disks.put("web", &new_disk()).await.unwrap().done().await.unwrap();
        disks.grant("web", Access::Read, 60).await.unwrap().done().await.unwrap();
        logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        told = logged.contains("asked after again") && logged.contains("Bearer none");
        if told {
            break;
        }
    }
    assert!(told, "what is looked for is logged: {logged}");
    assert!(!logged.contains("canary"), "{logged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_token_goes_to_no_other_server() {
    let other = Azure::new(|_| absent());
    let there = other.fake.settings.url.clone();
    let azure = Azure::new(move |request| match request.line().as_str() {
        "PUT disks/web" => {
            saying(202, &[("azure-asyncoperation", &format!("{there}/op?api-version=1"))], Value::Null)
        }
        "PUT disks/moves" => saying(202, &[("location", &request.operation("loc"))], Value::Null),
        "GET locations/westeurope/loc" => saying(202, &[("location", &format!("{there}/loc"))], Value::Null),
        "GET snapshots" => say(200, json!({"value": [], "nextLink": format!("{there}/next")})),
        // A redirection is no answer.
        "GET disks" => saying(307, &[("location", &format!("{there}/disks"))], Value::Null),
        line => panic!("nobody asks {line}"),
    });
    let disks = azure.arm.disks("rg");
    for error in [
        disks.put("web", &new_disk()).await.unwrap().done().await.unwrap_err(),
        disks.put("moves", &new_disk()).await.unwrap().done().await.unwrap_err(),
        azure.arm.snapshots("rg").list().await.unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::Unreadable { .. }) && error.to_string().contains("another server"),
            "{error}"
        );
    }
    assert!(matches!(disks.list().await, Err(Error::Refused { status: 307, .. })));
    assert_eq!(other.lines(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_server_that_is_not_trusted_gets_no_token() {
    let azure = Azure::new(|_| Reply::Break);
    let mut settings = azure.settings.clone();
    settings.trust = Trust::Sha256("ab".repeat(32));
    let arm = Arm::with_clock(&settings, Arc::new(Token(Some("canary"))), azure.clock.clone()).unwrap();
    let error = arm.disks("rg").get("web").await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(azure.lines(), Vec::<String>::new());
    let resumed = azure.arm.resume::<Disk>(
        &serde_json::from_value(json!({"call": "x", "ends": "Output", "operation": "http://127.0.0.1/"}))
            .unwrap(),
    );
    assert!(matches!(resumed, Err(Error::Invalid(_))));
}
