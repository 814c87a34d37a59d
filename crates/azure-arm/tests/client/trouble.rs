//! What a network and a server in trouble do: each a clear error, and nothing that changes something is sent twice.

use crate::azure::{Azure, Reply, Request, TOKEN, Token, disk, new_disk, refused, say, saying};
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error as AzureError, ErrorKind as AzureErrorKind};
use serde_json::{Value, json};
use site_recovery::ErrorKind;
use site_recovery_azure_arm::{Arm, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PUT: &str = "PUT disks/web";
const GET: &str = "GET disks/web";

#[tokio::test(flavor = "multi_thread")]
async fn while_an_operation_runs_its_server_may_be_in_trouble() {
    let asked = AtomicUsize::new(0);
    let azure = Azure::new(move |request| match request.line().as_str() {
        PUT => saying(202, &[("azure-asyncoperation", &request.operation("op"))], Value::Null),
        GET => say(200, disk("Succeeded")),
        _ => match asked.fetch_add(1, Ordering::SeqCst) {
            0 => saying(429, &[("retry-after", "17")], Value::Null),
            1 => Reply::Break,
            2 => refused(503, "ServiceUnavailable", "later"),
            3 => saying(408, &[], Value::Null),
            4 => Reply::Part(200, vec![], 5_000, b"{\"status\":".to_vec()),
            5 => refused(500, "InternalServerError", "oh"),
            _ => say(200, json!({"status": "Succeeded"})),
        },
    });
    let disk = azure.arm.disks("rg").put("web", &new_disk()).await.unwrap().done().await.unwrap();
    assert_eq!((disk.name.as_str(), azure.count(PUT)), ("web", 1));
    assert_eq!(azure.clock.pauses()[1], Duration::from_secs(17), "as Azure said");
    assert_eq!(azure.lines().len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_sent_once_whatever_comes_of_it() {
    fn unknown(error: &Error) -> bool {
        matches!(error, Error::Lost { may_have_been_done: true, .. })
    }
    type Case = (fn() -> Reply, fn(&Error) -> bool, ErrorKind);
    let cases: [Case; 8] = [
        // It was accepted, and the answer is lost.
        (|| Reply::Break, unknown, ErrorKind::Unavailable),
        (|| Reply::Hang, unknown, ErrorKind::Unavailable),
        (|| Reply::Part(202, vec![], 100, vec![]), unknown, ErrorKind::Unavailable),
        (|| refused(503, "ServiceUnavailable", "later"), unknown, ErrorKind::Unavailable),
        (
            || saying(429, &[("retry-after", "9")], Value::Null),
            |e| matches!(e, Error::Throttled { after: Some(after), .. } if after.as_secs() == 9),
            ErrorKind::Unavailable,
        ),
        (
            || refused(409, "Conflict", "another operation"),
            |e| matches!(e, Error::Conflict { .. }),
            ErrorKind::Busy,
        ),
        (
            || refused(403, "AuthorizationFailed", "the client may not"),
            |e| matches!(e, Error::Denied { .. }),
            ErrorKind::Denied,
        ),
        (
            || refused(400, "InvalidParameter", "bad"),
            |e| matches!(e, Error::Refused { status: 400, .. }),
            ErrorKind::Refused,
        ),
    ];
    for (at, (reply, fits, kind)) in cases.into_iter().enumerate() {
        let azure = Azure::with(|limits| limits.answer_ms = 2_000, move |_| reply());
        let error = azure.arm.disks("rg").put("web", &new_disk()).await.unwrap_err();
        assert!(fits(&error), "{at}: {error:?}");
        assert_eq!((error.kind(), azure.lines()), (kind, vec![PUT.to_owned()]), "{at}");
        let unknown = error.may_have_been_done();
        let fact = site_recovery::Error::from(error);
        assert_eq!(fact.fact("outcome").is_some(), unknown, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_from_an_answer_that_was_lost() {
    let azure = Azure::new(|_| Reply::Break);
    let (settings, clock) = (azure.settings.clone(), azure.clock.clone());
    drop(azure);
    let arm = Arm::with_clock(&settings, Arc::new(Token(Some(TOKEN))), clock).unwrap();
    let error = arm.disks("rg").put("web", &new_disk()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { may_have_been_done: false, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_tried_again_and_in_the_end_given_up() {
    let asked = AtomicUsize::new(0);
    let azure = Azure::new(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => saying(429, &[("retry-after", "3")], Value::Null),
        1 => Reply::Break,
        2 => refused(502, "BadGateway", "oh"),
        _ => say(200, disk("Succeeded")),
    });
    assert!(azure.arm.disks("rg").get("web").await.unwrap().is_some());
    let [first, second, third] = azure.clock.pauses()[..] else { panic!("{:?}", azure.clock.pauses()) };
    assert_eq!((first.as_secs(), second.as_millis(), third.as_millis()), (3, 500, 1000));

    let azure = Azure::new(|_| refused(503, "ServiceUnavailable", "later"));
    let error = azure.arm.disks("rg").get("web").await.unwrap_err();
    assert!(matches!(error, Error::Lost { may_have_been_done: false, .. }), "{error}");
    assert_eq!(azure.lines(), vec![GET; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_codes_come_with_a_kind_and_a_remedy() {
    let quota =
        "Operation could not be completed as it results in exceeding approved Total Regional Cores quota.";
    for (status, code, message, kind) in [
        (409, "OperationNotAllowed", quota, ErrorKind::OutOfSpace),
        (409, "SkuNotAvailable", "no", ErrorKind::Refused),
        (400, "PrivateIPAddressInUse", "no", ErrorKind::Conflict),
        (400, "ReferencedResourceNotProvisioned", "no", ErrorKind::Busy),
        (403, "AuthorizationFailed", "no", ErrorKind::Denied),
        (404, "ResourceGroupNotFound", "no", ErrorKind::NotFound),
    ] {
        let azure = Azure::new(move |_| refused(status, code, message));
        let error = azure.arm.disks("rg").put("web", &new_disk()).await.unwrap_err();
        let error = site_recovery::Error::from(error);
        assert_eq!((error.kind(), error.fact("code")), (kind, Some(code)));
        assert!(error.fact("remedy").is_some(), "{error}");
        assert_eq!((error.fact("request"), error.fact("correlation")), (Some("r-1"), Some("c-1")));
    }
    let azure = Azure::new(|_| refused(400, "NobodyKnows", "no"));
    let error: site_recovery::Error = azure.arm.disks("rg").get("web").await.unwrap_err().into();
    assert_eq!((error.fact("status"), error.fact("remedy")), (Some("400"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_make_no_sense_are_errors_without_their_bytes() {
    type Case = (fn(&Request) -> Reply, &'static str);
    let cases: [Case; 5] = [
        (|_| Reply::Say(200, vec![], b"<html>canary</html>".to_vec()), "it is no JSON"),
        (|_| say(200, json!({"name": "canary"})), "missing field `id`"),
        (|_| say(200, json!({"id": {"canary": 1}, "name": "x"})), "of another kind"),
        (|_| Reply::Say(200, vec![], vec![b' '; 5_000]), "longer than 4096"),
        (|_| Reply::Endless, "longer than 4096"),
    ];
    for (answer, what) in cases {
        let azure = Azure::with(|limits| limits.answer_bytes = 4096, answer);
        let error = azure.arm.disks("rg").get("web").await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, Error::Unreadable { .. }) && text.contains(what), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

/// A sign-in that answers once, and then does not, this often.
#[derive(Debug)]
struct Flaky {
    silent: usize,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl TokenCredential for Flaky {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            asked if (1..=self.silent).contains(&asked) => {
                Err(AzureError::with_message(AzureErrorKind::Connection, "nobody is there"))
            }
            _ => Token(Some(TOKEN)).get_token(scopes, options).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sign_in_is_waited_out_while_an_operation_runs_and_told_by_all_else() {
    let azure = Azure::new(|request| match request.line().as_str() {
        PUT => saying(202, &[("azure-asyncoperation", &request.operation("op"))], Value::Null),
        GET => say(200, disk("Succeeded")),
        _ => say(200, json!({"status": "Succeeded"})),
    });
    let credential = Arc::new(Flaky { silent: 5, asked: AtomicUsize::new(0) });
    let arm = Arm::with_clock(&azure.settings, credential.clone(), azure.clock.clone()).unwrap();
    let disks = arm.disks("rg");
    let put = disks.put("web", &new_disk()).await.unwrap();
    assert_eq!(put.done().await.unwrap().name, "web");
    assert!(credential.asked.load(Ordering::SeqCst) > 6);

    let credential = Arc::new(Flaky { silent: usize::MAX - 1, asked: AtomicUsize::new(1) });
    let arm = Arm::with_clock(&azure.settings, credential.clone(), azure.clock.clone()).unwrap();
    let error = arm.disks("rg").get("web").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_done()), (ErrorKind::Unavailable, false), "{error}");
    assert_eq!(credential.asked.load(Ordering::SeqCst), 2, "the sign-in has tries of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_sent() {
    let azure = Azure::new(|_| say(200, disk("Succeeded")));
    let arm = Arm::with_clock(&azure.settings, Arc::new(Token(None)), azure.clock.clone()).unwrap();
    let error = arm.disks("rg").put("web", &new_disk()).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }) && error.to_string().contains("no such tenant"), "{error}");
    assert_eq!(azure.lines(), Vec::<String>::new());
}
