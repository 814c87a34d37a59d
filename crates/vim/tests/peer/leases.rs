//! Leases on a snapshot's disks: ready or not, kept alive, ended; and streams that stop, break off, or do not end.

use crate::fake::{Fake, Reply, Request, answer, fault, value};
use site_recovery::ErrorKind;
use site_recovery_vim::{Devices, Error, Fault, Lease, Lost, Moref, Trust, Vim};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const STREAM: &[u8] = b"a stream of a disk";

fn snapshot() -> Moref {
    Moref::new("VirtualMachineSnapshot", "snapshot-1")
}

/// An update: in which state the lease is.
fn state(name: &str) -> String {
    format!(
        "<returnval><version>1</version><filterSet><filter type=\"PropertyFilter\">filter-1</filter><objectSet>\
         <kind>enter</kind><obj type=\"HttpNfcLease\">lease-1</obj><changeSet><name>state</name><op>assign</op>\
         <val xsi:type=\"HttpNfcLeaseState\">{name}</val></changeSet></objectSet></filterSet></returnval>"
    )
}

fn properties(inside: &str) -> String {
    format!("<returnval><objects><obj type=\"HttpNfcLease\">lease-1</obj>{inside}</objects></returnval>")
}

fn info(timeout: u32, devices: &str) -> String {
    properties(&format!(
        "<propSet><name>info</name><val xsi:type=\"HttpNfcLeaseInfo\"><lease type=\"HttpNfcLease\">lease-1</lease>\
         <entity type=\"VirtualMachine\">vm-1</entity>{devices}<totalDiskCapacityInKB>1024</totalDiskCapacityInKB>\
         <leaseTimeout>{timeout}</leaseTimeout></val></propSet>"
    ))
}

fn device(at: &str, url: &str, disk: bool) -> String {
    format!(
        "<deviceUrl><key>/vm-1/{at}</key><url>{url}</url><sslThumbprint></sslThumbprint><disk>{disk}</disk></deviceUrl>"
    )
}

/// A server with a lease on two disks and a file; `more` comes first.
fn leasing(timeout: u32, more: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    Fake::new(move |r| {
        let devices = [
            device("ParaVirtualSCSIController0:0", "https://*/nfc/ticket/disk-0.vmdk", true),
            device("VirtualAHCIController0:0", "https://*:443/nfc/ticket/disk-1.vmdk", true),
            device("nvram", "https://*/nfc/ticket/nvram", false),
        ];
        more(r).or_else(|| match r.call() {
            "ExportSnapshot" => Some(value(r.call(), "HttpNfcLease", "lease-1")),
            "WaitForUpdatesEx" => Some(answer(r.call(), &state("ready"))),
            "RetrievePropertiesEx" => Some(answer(r.call(), &info(timeout, &devices.concat()))),
            "GET" => Some(Reply::Say(200, vec![], STREAM.to_vec())),
            _ => None,
        })
    })
}

async fn lease(vim: &Vim) -> Lease {
    vim.export_snapshot(&snapshot(), LONG).await.unwrap()
}

/// All that comes, or what goes wrong.
async fn fetched(lease: &Lease, most: u64) -> Result<Vec<u8>, Error> {
    let mut download = lease.fetch(&lease.devices()[0], most).await?;
    let mut all = vec![];
    while let Some(bytes) = download.chunk().await? {
        all.extend_from_slice(&bytes);
    }
    assert_eq!(download.received(), all.len() as u64);
    Ok(all)
}

/// Waits until the server was asked for this, which another task does.
async fn until_seen(fake: &Fake, call: &str) {
    for _ in 0..5_000 {
        if !fake.seen(call).is_empty() {
            return;
        }
        site_recovery::Clock::sleep(&site_recovery::SystemClock, Duration::from_millis(2)).await;
    }
    panic!("nobody asks for {call}: {:?}", fake.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_fetched_from_the_server_that_was_asked_and_the_lease_is_completed() {
    let fake = leasing(300, |_| None);
    let vim = fake.connect().await;
    let lease = lease(&vim).await;
    assert_eq!(lease.devices().iter().map(|d| d.disk).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(fetched(&lease, 1000).await.unwrap(), STREAM);
    let asked = &fake.seen("GET")[0];
    assert_eq!(asked.path, "/nfc/ticket/disk-0.vmdk");
    assert_eq!(asked.headers["cookie"], "vmware_soap_session=\"cookie-1\"");
    lease.complete().await.unwrap();
    assert_eq!(fake.seen("HttpNfcLeaseComplete")[0].text("_this").as_deref(), Some("lease-1"));
    assert!(fake.seen("HttpNfcLeaseAbort").is_empty() && fake.seen("HttpNfcLeaseProgress").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_the_ticket_of_a_lease_is_shown_to_nobody() {
    let fake = leasing(300, |r| (r.verb == "GET").then(|| Reply::Say(404, vec![], vec![])));
    let lease = lease(&fake.connect().await).await;
    let error = fetched(&lease, 1000).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 404, .. }), "{error:?}");
    let giving = leasing(300, |_| None);
    let given = self::lease(&giving.connect().await).await;
    let download = given.fetch(&given.devices()[0], 1000).await.unwrap();
    for shown in [format!("{lease:?}"), format!("{error:?} {error}"), format!("{download:?}")] {
        assert!(!shown.contains("ticket"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_found_by_its_controller_and_unit_or_not_at_all() {
    let fake = leasing(300, |r| {
        let of_snapshot = r.call() == "RetrievePropertiesEx" && r.body.contains("config.hardware.device");
        let scsi = |n: u32, bus: u32| {
            format!(
                "<VirtualDevice xsi:type=\"ParaVirtualSCSIController\"><key>{n}</key><busNumber>{bus}</busNumber>\
                 </VirtualDevice>"
            )
        };
        let sata = "<VirtualDevice xsi:type=\"VirtualAHCIController\"><key>15000</key><busNumber>0</busNumber></VirtualDevice>";
        let disk = |key: u32, at: u32, unit: u32| {
            format!(
                "<VirtualDevice xsi:type=\"VirtualDisk\"><key>{key}</key><controllerKey>{at}</controllerKey>\
                 <unitNumber>{unit}</unitNumber><capacityInBytes>1024</capacityInBytes></VirtualDevice>"
            )
        };
        let all = [
            scsi(1000, 0),
            scsi(1001, 1),
            sata.into(),
            disk(1, 15000, 0),
            disk(2, 1000, 0),
            disk(3, 1001, 0),
            disk(4, 1000, 10),
        ];
        let devices = format!(
            "<returnval><objects><obj type=\"VirtualMachineSnapshot\">snapshot-1</obj><propSet>\
             <name>config.hardware.device</name><val xsi:type=\"ArrayOfVirtualDevice\">{}</val></propSet></objects></returnval>",
            all.concat()
        );
        of_snapshot.then(|| answer(r.call(), &devices))
    });
    let vim = fake.connect().await;
    let lease = lease(&vim).await;
    let devices: Devices = vim.snapshot_devices(&snapshot()).await.unwrap();
    let found = devices.disks.iter().map(|d| lease.device_of(&devices, d).map(|d| d.key.as_str()));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [Some("/vm-1/VirtualAHCIController0:0"), Some("/vm-1/ParaVirtualSCSIController0:0"), None, None]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_fails_or_is_never_ready_is_told_apart_and_aborted() {
    let failed = leasing(300, |r| match r.call() {
        "WaitForUpdatesEx" => Some(answer(r.call(), &state("error"))),
        "RetrievePropertiesEx" => Some(answer(
            r.call(),
            &properties(
                "<propSet><name>error</name><val xsi:type=\"LocalizedMethodFault\"><fault xsi:type=\"FileLocked\">\
                 <file>[a] b.vmdk</file></fault><localizedMessage>locked</localizedMessage></val></propSet>",
            ),
        )),
        _ => None,
    });
    let error = failed.connect().await.export_snapshot(&snapshot(), LONG).await.unwrap_err();
    let locked = Fault::FileLocked { file: Some("[a] b.vmdk".into()) };
    assert_eq!((error.fault(), error.kind()), (Some(&locked), ErrorKind::Busy));
    assert!(error.to_string().starts_with("ExportSnapshot: "), "{error}");
    until_seen(&failed, "HttpNfcLeaseAbort").await;

    let late =
        leasing(300, |r| (r.call() == "WaitForUpdatesEx").then(|| answer(r.call(), &state("initializing"))));
    let limit = Duration::from_millis(20);
    let error = late.connect().await.export_snapshot(&snapshot(), limit).await.unwrap_err();
    assert!(matches!(error, Error::Running { .. }), "{error:?}");
    until_seen(&late, "HttpNfcLeaseAbort").await;

    let denied = leasing(300, |r| (r.call() == "ExportSnapshot").then(|| fault("NoPermission", "")));
    let error = denied.connect().await.export_snapshot(&snapshot(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);

    for unfit in ["http://esx.example/nfc/1", "esx/nfc/1"] {
        let plain = leasing(300, move |r| {
            let devices = device("ParaVirtualSCSIController0:0", unfit, true);
            (r.call() == "RetrievePropertiesEx").then(|| answer(r.call(), &info(300, &devices)))
        });
        let error = plain.connect().await.export_snapshot(&snapshot(), LONG).await.unwrap_err();
        assert!(matches!(error, Error::Garbage { .. }), "{error:?}");
        assert!(plain.seen("GET").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_lease_that_is_dropped_is_aborted_also_while_it_streams() {
    let fake = leasing(300, |r| (r.verb == "GET").then(|| Reply::Stall(200, 1000, STREAM.to_vec())));
    let vim = fake.connect().await;
    {
        let lease = lease(&vim).await;
        let mut download = lease.fetch(&lease.devices()[0], 1000).await.unwrap();
        assert_eq!(&download.chunk().await.unwrap().unwrap()[..], STREAM);
    }
    until_seen(&fake, "HttpNfcLeaseAbort").await;
    let lease = lease(&vim).await;
    lease.abort().await.unwrap();
    assert_eq!(fake.seen("HttpNfcLeaseAbort").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stalls_is_given_up_and_the_lease_lives_until_then() {
    let mut fake = leasing(1, |r| (r.verb == "GET").then(|| Reply::Stall(200, 1000, STREAM.to_vec())));
    fake.settings.limits.answer_ms = 1_500;
    let lease = lease(&fake.connect().await).await;
    let error = fetched(&lease, 1000).await.unwrap_err();
    let Error::Lost(Lost::Silent { span, .. }) = error else { panic!("{error:?}") };
    assert_eq!(span, Duration::from_millis(1_500));
    let told = fake.seen("HttpNfcLeaseProgress");
    assert!(told.len() >= 3, "a lease of a second hears of us four times in it: {}", told.len());
    assert_eq!(told[0].text("percent").as_deref(), Some("1"), "of 1000 bytes, {} came", STREAM.len());

    let mut silent = leasing(300, |r| (r.verb == "GET").then_some(Reply::Hang));
    silent.settings.limits.answer_ms = 200;
    let error = fetched(&self::lease(&silent.connect().await).await, 1000).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Silent { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_or_does_not_end_is_an_error() {
    let broken = leasing(300, |r| (r.verb == "GET").then(|| Reply::Part(200, vec![], 1000, STREAM.to_vec())));
    let error = fetched(&lease(&broken.connect().await).await, 1000).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Broken { .. })), "{error:?}");
    assert_eq!(broken.seen("GET").len(), 1, "there are no ranges to go on with");

    let endless = leasing(300, |r| (r.verb == "GET").then_some(Reply::Endless));
    let error = fetched(&lease(&endless.connect().await).await, 1 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");

    let starting = leasing(300, |r| (r.verb == "GET").then(|| Reply::Say(503, vec![], vec![])));
    let error = fetched(&lease(&starting.connect().await).await, 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_meanwhile_ends_the_download() {
    let times = AtomicUsize::new(0);
    let fake = leasing(1, move |r| match r.call() {
        "GET" => Some(Reply::Stall(200, 1000, STREAM.to_vec())),
        "HttpNfcLeaseProgress" if times.fetch_add(1, Ordering::SeqCst) == 1 => Some(fault("Timedout", "")),
        _ => None,
    });
    let error = fetched(&lease(&fake.connect().await).await, 1000).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::Other("Timedout".into())), "{error:?}");
    assert_eq!(fake.seen("HttpNfcLeaseProgress").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_another_host_gets_no_session_and_has_to_be_trusted_as_the_server_is() {
    let host = Fake::answering(|_| Reply::Say(200, vec![], STREAM.to_vec()));
    let url = format!("{}/nfc/ticket/disk-0.vmdk", host.settings.url);
    let mut vcenter = leasing(300, move |r| {
        let devices = device("ParaVirtualSCSIController0:0", &url, true);
        (r.call() == "RetrievePropertiesEx").then(|| answer(r.call(), &info(300, &devices)))
    });
    let error = fetched(&lease(&vcenter.connect().await).await, 1000).await.unwrap_err();
    assert!(
        matches!(error, Error::Lost(Lost::Stranger { .. })),
        "vCenter's pin is not the host's: {error:?}"
    );
    assert!(host.requests().is_empty());
    let port = host.settings.url.rsplit(':').next().unwrap();
    assert!(error.to_string().contains(port), "it says which host: {error}");

    let both =
        vcenter.write("authorities.pem", &format!("{}{}", vcenter.authority.pem(), host.authority.pem()));
    vcenter.settings.trust = Trust::Ca(both);
    assert_eq!(fetched(&lease(&vcenter.connect().await).await, 1000).await.unwrap(), STREAM);
    let asked = &host.requests()[0];
    assert_eq!(asked.path, "/nfc/ticket/disk-0.vmdk");
    assert!(!asked.headers.contains_key("cookie") && !asked.headers.contains_key("authorization"));
}

#[test]
fn futures_of_leases_can_be_sent_to_other_threads() {
    fn sent<T: Send>(_: T) {}
    fn all(vim: &Vim, lease: &'static Lease, mut download: site_recovery_vim::Download<'static>) {
        sent(vim.export_snapshot(&snapshot(), LONG));
        sent(lease.fetch(&lease.devices()[0], 1));
        sent(lease.progress(1));
        sent(download.chunk());
    }
    let _ = all;
}
