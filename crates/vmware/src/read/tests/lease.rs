//! Fetching by a lease from a server that answers as a test tells it.

use super::server::{Fake, Reply, Request};
use super::streams::{disk, grain, head, stream, tail};
use super::whole;
use crate::read::nfc::by_lease;
use crate::read::scratch::ScratchDisk;
use site_recovery::{Clock, Disk, ErrorKind, Pool, Result, Run, SystemClock};
use site_recovery_vim::{Moref, Vim};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn soap(status: u16, inside: &str) -> Reply {
    let spaces = "xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
                  xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let all = format!("<soapenv:Envelope {spaces}><soapenv:Body>{inside}</soapenv:Body></soapenv:Envelope>");
    let cookie = ("set-cookie", "vmware_soap_session=\"c\"; Path=/".to_owned());
    Reply::Say(status, vec![cookie], all.into_bytes())
}

fn call(r: &Request) -> &str {
    let after = r.body.split_once("<soapenv:Body><").map(|(_, rest)| rest);
    after.and_then(|rest| rest.split([' ', '>']).next()).unwrap_or(&r.verb)
}

/// A host with one snapshot of one disk, and a lease in this state; its disk is sent so.
pub(super) fn host(state: &'static str, send: impl Fn() -> Reply + Send + Sync + 'static) -> Fake {
    let size = disk().len();
    Fake::answering(move |r| {
        let inside = match call(r) {
            "GET" => return send(),
            "RetrieveServiceContent" => "<returnval><rootFolder type=\"Folder\">f</rootFolder>\
                <propertyCollector type=\"PropertyCollector\">p</propertyCollector><viewManager type=\"ViewManager\">v\
                </viewManager><about><apiType>HostAgent</apiType></about>\
                <sessionManager type=\"SessionManager\">s</sessionManager></returnval>".into(),
            "Login" => "<returnval><key>k</key></returnval>".into(),
            "ExportSnapshot" => "<returnval type=\"HttpNfcLease\">lease-1</returnval>".into(),
            "CreatePropertyCollector" => "<returnval type=\"PropertyCollector\">p2</returnval>".into(),
            "CreateFilter" => "<returnval type=\"PropertyFilter\">f2</returnval>".into(),
            "WaitForUpdatesEx" => format!(
                "<returnval><version>1</version><filterSet><objectSet><kind>enter</kind>\
                 <obj type=\"HttpNfcLease\">lease-1</obj><changeSet><name>state</name><val>{state}</val></changeSet>\
                 </objectSet></filterSet></returnval>"
            ),
            "RetrievePropertiesEx" if r.body.contains("config.hardware.device") => format!(
                "<returnval><objects><obj type=\"VirtualMachineSnapshot\">snapshot-1</obj><propSet>\
                 <name>config.hardware.device</name><val><VirtualDevice xsi:type=\"ParaVirtualSCSIController\">\
                 <key>1000</key><busNumber>0</busNumber></VirtualDevice><VirtualDevice xsi:type=\"VirtualDisk\">\
                 <key>2000</key><controllerKey>1000</controllerKey><unitNumber>0</unitNumber>\
                 <capacityInBytes>{size}</capacityInBytes></VirtualDevice></val></propSet></objects></returnval>"
            ),
            "RetrievePropertiesEx" if state == "ready" => "<returnval><objects><obj type=\"HttpNfcLease\">lease-1</obj>\
                <propSet><name>info</name><val><leaseTimeout>300000000</leaseTimeout><deviceUrl>\
                <key>/7/ParaVirtualSCSIController0:0</key><disk>true</disk><url>https://*/ha-nfc/t/disk-0.vmdk</url>\
                </deviceUrl></val></propSet></objects></returnval>".into(),
            "RetrievePropertiesEx" => "<returnval><objects><obj type=\"HttpNfcLease\">lease-1</obj><propSet>\
                <name>error</name><val><fault xsi:type=\"TaskInProgress\"/></val></propSet></objects></returnval>".into(),
            _ => String::new(),
        };
        soap(200, &format!("<{0}Response xmlns=\"urn:vim25\">{inside}</{0}Response>", call(r)))
    })
}

async fn fetched(fake: &Fake) -> Result<ScratchDisk> {
    let vim = Vim::connect(&fake.settings, Arc::new(SystemClock)).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let snapshot = Moref::new("VirtualMachineSnapshot", "snapshot-1");
    let fetched = by_lease(&vim, &snapshot, 2000, disk().len() as u64, scratch.path(), LONG).await;
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    fetched
}

/// How the lease ended. An abort comes in the background.
async fn end(fake: &Fake) -> &'static str {
    for _ in 0..5_000 {
        for request in fake.requests() {
            match call(&request) {
                "HttpNfcLeaseComplete" => return "complete",
                "HttpNfcLeaseAbort" => return "abort",
                _ => {}
            }
        }
        SystemClock.sleep(Duration::from_millis(2)).await;
    }
    "nothing"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_fetched_whole_and_has_the_holes_that_it_had() {
    let fake = host("ready", || Reply::Say(200, vec![], stream(&disk())));
    let fetched = fetched(&fake).await.unwrap();
    assert!(whole(&fetched).await == disk());
    assert_eq!(end(&fake).await, "complete");
    let size = fetched.size();
    let zeros = fetched.extents(Run::new(0, size)).await.unwrap();
    let zeros: u64 = zeros.iter().filter(|e| e.fill == site_recovery::Fill::Zero).map(|e| e.run.len).sum();
    // A file system without holes would have none; the scratch file of a test has some.
    assert!(zeros >= 2 * (64 << 10), "{zeros} of {size} bytes are holes");
    let error = fetched.read(Run::new(size - 4, 5), &Pool::new(1 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_short_stream_and_one_of_another_size_are_corrupt_and_the_lease_is_aborted() {
    let whole = stream(&disk());
    let short = host("ready", {
        let cut = whole[..whole.len() - 512].to_vec();
        move || Reply::Say(200, vec![], cut.clone())
    });
    let error = fetched(&short).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("before its end"), "{error}");
    assert_eq!(end(&short).await, "abort");

    let other = host("ready", || Reply::Say(200, vec![], stream(&[1; 4096])));
    let error = fetched(&other).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("8 sectors"), "{error}");
    assert_eq!(end(&other).await, "abort");

    // Grains come for ever, each over the one before.
    let capacity = disk().len() as u64;
    let again = grain(0, &[3; 64 << 10]).repeat(10_000);
    let all = [head(capacity, ""), again, tail(capacity)].concat();
    let endless = host("ready", move || Reply::Say(200, vec![], all.clone()));
    let error = fetched(&endless).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("not in order"), "{error}");
    assert_eq!(end(&endless).await, "abort");

    let broken = host("ready", move || Reply::Part(200, vec![], whole.len(), whole[..9_000].to_vec()));
    let error = fetched(&broken).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "the connection broke, the stream is not to blame: {error}"
    );
    assert_eq!(end(&broken).await, "abort");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_in_error_and_a_stall_are_told_and_end_the_lease() {
    let failed = host("error", || Reply::Break);
    let error = fetched(&failed).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("fault")), (ErrorKind::Busy, Some("TaskInProgress")), "{error}");
    assert_eq!(end(&failed).await, "abort");

    let mut stalled = host("ready", || {
        let whole = stream(&disk());
        Reply::Stall(200, whole.len(), whole[..9_000].to_vec())
    });
    stalled.settings.limits.answer_ms = 300;
    let error = fetched(&stalled).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("within 300ms"), "{error}");
    assert_eq!(end(&stalled).await, "abort");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_told_before_a_lease_is_asked_for() {
    let fake = host("ready", || Reply::Break);
    let vim = Vim::connect(&fake.settings, Arc::new(SystemClock)).await.unwrap();
    let snapshot = Moref::new("VirtualMachineSnapshot", "snapshot-1");
    let nowhere = std::path::Path::new("/nowhere/at/all");
    let error = by_lease(&vim, &snapshot, 2000, disk().len() as u64, nowhere, LONG).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert!(!fake.requests().iter().any(|r| call(r) == "ExportSnapshot"));
}

#[test]
fn its_future_can_be_sent_to_other_threads() {
    fn sent<T: Send>(_: T) {}
    fn all(vim: &Vim, snapshot: &Moref) {
        sent(by_lease(vim, snapshot, 1, 2, std::path::Path::new("/"), LONG));
    }
    let _ = all;
}
