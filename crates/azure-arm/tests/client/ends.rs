//! How operations end, and that they are asked for once.

use crate::azure::{Azure, Reply, Request, SAS, absent, disk, new_disk, refused, say, saying};
use serde_json::{Value, json};
use site_recovery_azure_arm::{Access, At, Disk, Error, Secret};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PUT: &str = "PUT disks/web";
const GET: &str = "GET disks/web";
const OPERATION: &str = "GET locations/westeurope/op";
const LOCATION: &str = "GET locations/westeurope/loc";

type Answer = fn(&Request) -> Reply;

/// Each line has its answers, the last of which is said for ever.
fn script(parts: &'static [(&'static str, &'static [Answer])]) -> Azure {
    let counts: Vec<AtomicUsize> = parts.iter().map(|_| AtomicUsize::new(0)).collect();
    Azure::new(move |request| {
        let at = parts.iter().position(|(line, _)| *line == request.line());
        let at = at.unwrap_or_else(|| panic!("nobody asks {}", request.line()));
        let answers = parts[at].1;
        answers[counts[at].fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)](request)
    })
}

fn accepted(request: &Request) -> Reply {
    let (operation, location) = (request.operation("op"), request.operation("loc"));
    let headers = [("azure-asyncoperation", &*operation), ("location", &location), ("retry-after", "7")];
    saying(202, &headers, Value::Null)
}

fn located(request: &Request) -> Reply {
    saying(202, &[("location", &request.operation("loc"))], Value::Null)
}

fn bare(_: &Request) -> Reply {
    say(202, Value::Null)
}

fn going(_: &Request) -> Reply {
    saying(200, &[("retry-after", "11")], json!({"status": "InProgress"}))
}

fn succeeded(_: &Request) -> Reply {
    say(200, json!({"status": "Succeeded"}))
}

fn gave_sas(_: &Request) -> Reply {
    say(200, json!({"status": "Succeeded", "properties": {"output": {"accessSAS": SAS}}}))
}

fn sas(_: &Request) -> Reply {
    say(200, json!({ "accessSAS": SAS }))
}

fn made(_: &Request) -> Reply {
    say(200, disk("Succeeded"))
}

fn creating(_: &Request) -> Reply {
    say(201, disk("Creating"))
}

fn updating(_: &Request) -> Reply {
    say(200, disk("Updating"))
}

fn not_there(_: &Request) -> Reply {
    absent()
}

async fn put(azure: &Azure) -> Result<Disk, Error> {
    azure.arm.disks("rg").put("web", &new_disk()).await?.done().await
}

async fn grant(azure: &Azure) -> Result<Secret, Error> {
    azure.arm.disks("rg").grant("web", Access::Read, 60).await?.done().await
}

fn seconds(all: &[u64]) -> Vec<Duration> {
    all.iter().copied().map(Duration::from_secs).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_asked_for_once_and_its_operation_is_asked_after_as_azure_says() {
    let azure = script(&[(PUT, &[accepted]), (OPERATION, &[going, going, succeeded]), (GET, &[made])]);
    assert_eq!(put(&azure).await.unwrap().size_bytes, 1 << 30);
    assert_eq!(azure.lines(), [PUT, OPERATION, OPERATION, OPERATION, GET]);
    assert_eq!(azure.clock.pauses(), seconds(&[7, 11, 11]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_address_of_an_operation_the_other_one_is_asked_after() {
    let azure = script(&[(PUT, &[located]), (LOCATION, &[located, made]), (GET, &[made])]);
    assert_eq!(put(&azure).await.unwrap().name, "web");
    assert_eq!(azure.lines(), [PUT, LOCATION, LOCATION, GET]);
    assert_eq!(azure.clock.pauses(), seconds(&[5, 5]), "as the limits say");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_address_is_found_wherever_azure_puts_it() {
    const POST: &str = "POST disks/web/beginGetAccess";
    for azure in [
        script(&[(POST, &[sas])]),
        script(&[(POST, &[accepted]), (OPERATION, &[going, gave_sas])]),
        script(&[(POST, &[accepted]), (OPERATION, &[succeeded]), (LOCATION, &[bare, sas])]),
        script(&[(POST, &[located]), (LOCATION, &[located, sas])]),
    ] {
        assert_eq!(grant(&azure).await.unwrap().expose(), SAS);
        assert_eq!(azure.count(POST), 1);
    }
    let none = script(&[(POST, &[accepted]), (OPERATION, &[succeeded]), (LOCATION, &[succeeded])]);
    assert!(matches!(grant(&none).await, Err(Error::Unreadable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_not_ready_is_waited_for_also_while_it_is_not_there() {
    for azure in [
        script(&[(PUT, &[updating]), (GET, &[updating, made])]),
        script(&[
            (PUT, &[creating]),
            (GET, &[not_there, not_there, not_there, not_there, not_there, creating, made]),
        ]),
        script(&[(PUT, &[bare]), (GET, &[not_there, made])]),
        script(&[(PUT, &[accepted]), (OPERATION, &[not_there, succeeded]), (GET, &[not_there, made])]),
    ] {
        assert_eq!(put(&azure).await.unwrap().provisioning.as_str(), "Succeeded");
        assert_eq!(azure.count(PUT), 1);
    }
    let azure = script(&[(PUT, &[accepted]), (OPERATION, &[succeeded]), (GET, &[not_there])]);
    assert!(matches!(put(&azure).await, Err(Error::Absent { .. })), "somebody has deleted it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_was_given_up_is_an_error_with_azures_code() {
    fn failed(_: &Request) -> Reply {
        let error = json!({"code": "BadRequest", "message": "Only blobs formatted as VHDs can be imported."});
        let ids = [("x-ms-request-id", "r-9"), ("x-ms-correlation-request-id", "c-9")];
        saying(200, &ids, json!({"status": "Failed", "error": error}))
    }
    fn canceled(_: &Request) -> Reply {
        say(200, json!({"status": "Canceled"}))
    }
    fn broken(_: &Request) -> Reply {
        say(200, disk("Failed"))
    }
    fn refusal(_: &Request) -> Reply {
        refused(409, "SkuNotAvailable", "no such size here")
    }
    for (azure, code) in [
        (script(&[(PUT, &[accepted]), (OPERATION, &[going, failed])]), "BadRequest"),
        (script(&[(PUT, &[accepted]), (OPERATION, &[canceled])]), "Canceled"),
        (script(&[(PUT, &[broken])]), "Failed"),
        (script(&[(PUT, &[creating]), (GET, &[broken])]), "Failed"),
        (script(&[(PUT, &[accepted]), (OPERATION, &[succeeded]), (GET, &[broken])]), "Failed"),
        (script(&[(PUT, &[located]), (LOCATION, &[broken])]), "Failed"),
    ] {
        let error = put(&azure).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
        assert_eq!((error.code(), azure.count(PUT)), (code, 1));
        assert!(!error.may_have_been_done());
    }
    let azure = script(&[(PUT, &[accepted]), (OPERATION, &[failed])]);
    let error = put(&azure).await.unwrap_err();
    let said = error.said().unwrap();
    assert_eq!((said.request.as_deref(), said.correlation.as_deref()), (Some("r-9"), Some("c-9")));
    let text = error.to_string();
    assert!(text.starts_with("PUT disks/web: failed: BadRequest: Only blobs formatted as VHDs"), "{text}");
    // The end stands at the other address as an answer that is none of success.
    let azure = script(&[(PUT, &[located]), (LOCATION, &[refusal])]);
    assert_eq!(put(&azure).await.unwrap_err().code(), "SkuNotAvailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_when_the_resource_is_gone() {
    const DELETE: &str = "DELETE disks/web";
    fn failed(_: &Request) -> Reply {
        say(200, disk("Failed"))
    }
    for (azure, lines) in [
        (script(&[(DELETE, &[accepted]), (OPERATION, &[going, succeeded])]), 3),
        (script(&[(DELETE, &[located]), (LOCATION, &[bare, |_| say(204, Value::Null)])]), 3),
        (script(&[(DELETE, &[bare]), (GET, &[updating, failed, not_there])]), 4),
        // Azure has forgotten the operation already.
        (script(&[(DELETE, &[accepted]), (OPERATION, &[not_there]), (GET, &[not_there])]), 6),
    ] {
        azure.arm.disks("rg").delete("web").await.unwrap().done().await.unwrap();
        assert_eq!(azure.lines().len(), lines, "{:?}", azure.lines());
        assert_eq!(azure.count(DELETE), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_taken_up_after_a_crash_and_not_asked_for_again() {
    let azure = script(&[(PUT, &[accepted]), (OPERATION, &[going, succeeded]), (GET, &[made])]);
    let pending = azure.arm.disks("rg").put("web", &new_disk()).await.unwrap();
    let kept = serde_json::to_string(pending.at().unwrap()).unwrap();
    drop(pending);
    let at: At = serde_json::from_str(&kept).unwrap();
    let disk: Disk = azure.arm.resume(&at).unwrap().done().await.unwrap();
    assert_eq!((disk.name.as_str(), azure.count(PUT)), ("web", 1));
    assert_eq!(azure.lines(), [PUT, OPERATION, OPERATION, GET]);

    // A hint for another server is no hint.
    let other = script(&[(GET, &[made])]);
    assert!(matches!(other.arm.resume::<Disk>(&at), Err(Error::Invalid(_))));
    assert_eq!(other.lines(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_azure_has_forgotten_is_judged_by_what_is_or_is_unknown() {
    let azure = script(&[(PUT, &[accepted]), (OPERATION, &[not_there]), (GET, &[made])]);
    assert_eq!(put(&azure).await.unwrap().name, "web");
    const START: &str = "POST virtualMachines/web/start";
    for azure in [
        script(&[(START, &[accepted]), (OPERATION, &[not_there]), (LOCATION, &[not_there])]),
        script(&[(START, &[bare])]),
    ] {
        let started = async { azure.arm.machines("rg").start("web").await?.done().await };
        let error = started.await.unwrap_err();
        assert!(matches!(error, Error::Lost { may_have_been_done: true, .. }), "{error}");
        assert_eq!(azure.count(START), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_is_waited_for_longer_than_the_limit() {
    let azure = script(&[(PUT, &[accepted]), (OPERATION, &[going])]);
    let error = put(&azure).await.unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
    assert!(error.may_have_been_done());
    let waited: Duration = azure.clock.pauses().iter().sum();
    let limit = Duration::from_millis(azure.settings.limits.longest_ms);
    assert!(waited <= limit && waited > limit - Duration::from_secs(12), "{waited:?}");
    assert_eq!(azure.count(PUT), 1);
}
