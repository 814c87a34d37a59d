//! Tasks: progress, results, faults, limits, cancelling; and waits that outlive a session.

use crate::fake::{Fake, Reply, answer, ended, fault, value};
use site_recovery::ErrorKind;
use site_recovery_vim::{Error, Fault, Lost, Moref, Power, TaskResult, TaskState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn machine() -> Moref {
    Moref::new("VirtualMachine", "vm-1")
}

/// A server whose task stands like this, one after the other.
fn stages(stages: &'static [&'static str]) -> Fake {
    let at = AtomicUsize::new(0);
    Fake::new(move |r| match r.call() {
        "WaitForUpdatesEx" => {
            let stage = stages.get(at.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or_default();
            // Nothing happened within its time.
            Some(if stage.is_empty() {
                answer(r.call(), "")
            } else {
                answer(r.call(), &ended("task-1", stage))
            })
        }
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_how_far_it_is_and_gives_what_it_made() {
    let fake = stages(&[
        "<state>queued</state>",
        "<state>running</state><progress>40</progress><cancelable>true</cancelable>",
        "",
        "<state>success</state><result type=\"VirtualMachineSnapshot\" xsi:type=\"ManagedObjectReference\">snapshot-7</result>\
         <completeTime>2026-11-29T08:00:00.5Z</completeTime>",
    ]);
    let vim = fake.connect().await;
    let task = vim.create_snapshot(&machine(), "dr", "", true).await.unwrap();
    let mut told = vec![];
    let result = task.wait_with(LONG, |info| told.push((info.state, info.progress))).await.unwrap();
    assert_eq!(result, TaskResult::Object(Moref::new("VirtualMachineSnapshot", "snapshot-7")));
    let wanted = [(TaskState::Queued, None), (TaskState::Running, Some(40)), (TaskState::Success, None)];
    assert_eq!(told, wanted);
    let versions: Vec<_> = fake.seen("WaitForUpdatesEx").iter().map(|r| r.text("version").unwrap()).collect();
    assert_eq!(versions, ["", "1", "1", "1"], "each goes on from the last");
    assert_eq!(fake.seen("DestroyPropertyCollector").len(), 1, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_says_why_by_type() {
    let fake = stages(&[
        "<state>error</state><error><fault xsi:type=\"FilesystemQuiesceFault\"><faultCause>\
        <localizedMessage>x</localizedMessage></faultCause></fault><localizedMessage>no rest</localizedMessage></error>",
    ]);
    let task = fake.connect().await.create_snapshot(&machine(), "dr", "", true).await.unwrap();
    let error = task.object(LONG).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::QuiesceFailed));
    assert_eq!(error.to_string(), "CreateSnapshot_Task: QuiesceFailed: \"no rest\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_at_its_limit_and_the_task_goes_on() {
    let fake = stages(&["<state>running</state>"]);
    let task = fake.connect().await.power_on(&machine(), None).await.unwrap();
    let error = task.wait(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Running { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Busy);
    let asked = fake.seen("WaitForUpdatesEx");
    assert_eq!((asked.len(), asked[0].text("maxWaitSeconds").unwrap().as_str()), (1, "0"));
    assert!(fake.seen("CancelTask").is_empty());
    task.cancel().await.unwrap();
    assert_eq!(fake.seen("CancelTask").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_task_is_found_again_by_its_reference() {
    let fake = Fake::new(|r| {
        let info = "<propSet><name>info</name><val xsi:type=\"TaskInfo\"><entity type=\"VirtualDiskManager\">x</entity>\
                    <state>success</state><result xsi:type=\"xsd:string\">[a] b.vmdk</result></val></propSet>";
        let inside =
            format!("<returnval><objects><obj type=\"Task\">task-9</obj>{info}</objects></returnval>");
        (r.call() == "RetrievePropertiesEx").then(|| answer(r.call(), &inside))
    });
    let info = fake.connect().await.task(Moref::new("Task", "task-9")).info().await.unwrap();
    assert_eq!((info.state, info.result), (TaskState::Success, TaskResult::Text("[a] b.vmdk".into())));
    assert_eq!(info.entity, Some(Moref::new("VirtualDiskManager", "x")), "of whatever kind");
}

/// With a session go its collectors: the wait makes others.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_goes_on_in_a_new_session() {
    let (collectors, waits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fake = Fake::new(move |r| match r.call() {
        "CreatePropertyCollector" => {
            let id = format!("collector-{}", collectors.fetch_add(1, Ordering::SeqCst));
            Some(value(r.call(), "PropertyCollector", &id))
        }
        "WaitForUpdatesEx" => Some(match waits.fetch_add(1, Ordering::SeqCst) {
            0 => answer(r.call(), &ended("task-1", "<state>running</state>")),
            1 => fault("NotAuthenticated", ""),
            // What another session finds of the collector.
            2 => fault("ManagedObjectNotFound", "<obj type=\"PropertyCollector\">collector-1</obj>"),
            _ => answer(r.call(), &ended("task-1", "<state>success</state>")),
        }),
        _ => None,
    });
    let task = fake.connect().await.power_on(&machine(), None).await.unwrap();
    task.wait(LONG).await.unwrap();
    assert_eq!((fake.seen("CreatePropertyCollector").len(), fake.seen("Login").len()), (3, 2));
    assert_eq!(fake.seen("PowerOnVM_Task").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_finds_no_session_ever_ends() {
    let fake = Fake::new(|r| (r.call() == "WaitForUpdatesEx").then(|| fault("NotAuthenticated", "")));
    let task = fake.connect().await.power_on(&machine(), None).await.unwrap();
    let error = task.wait(LONG).await.unwrap_err();
    let Error::Unknown { method: "PowerOnVM_Task", cause } = &error else { panic!("{error:?}") };
    assert_eq!(cause.fault(), Some(&Fault::NotAuthenticated));
    assert_eq!(fake.seen("WaitForUpdatesEx").len(), 5);
}

/// The server goes away, or lets nobody in any more: the machine may run by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_wait_fails_may_have_been_done() {
    let mut fake = Fake::new(|_| None);
    fake.settings.limits.tries = 1;
    let vim = fake.connect().await;
    let task = vim.power_on(&machine(), None).await.unwrap();
    drop(fake);
    let error = task.wait(LONG).await.unwrap_err();
    let absent = |cause: &Error| matches!(cause, Error::Lost(Lost::Absent { .. }));
    assert!(matches!(&error, Error::Unknown { cause, .. } if absent(cause)), "{error:?}");
    assert!(error.may_have_been_done());

    let logins = AtomicUsize::new(0);
    let strict = Fake::new(move |r| match r.call() {
        "Login" if logins.fetch_add(1, Ordering::SeqCst) > 0 => Some(fault("InvalidLogin", "")),
        "CreatePropertyCollector" => Some(fault("NotAuthenticated", "")),
        _ => None,
    });
    let task = strict.connect().await.power_on(&machine(), None).await.unwrap();
    let error = task.wait(LONG).await.unwrap_err();
    assert!(error.may_have_been_done(), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// It ended, well or not: whoever asks looks at what is.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_the_server_has_forgotten_is_told_as_that() {
    let gone = "<obj type=\"Task\">task-1</obj>";
    let fake = Fake::new(move |r| (r.call() == "CreateFilter").then(|| fault("ManagedObjectNotFound", gone)));
    let task = fake.connect().await.power_on(&machine(), None).await.unwrap();
    let error = task.wait(LONG).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::ManagedObjectNotFound { object: Some(task.moref().clone()) }));
}

fn state(kind: &str, state: &str) -> Reply {
    let change =
        format!("<changeSet><name>runtime.powerState</name><op>assign</op><val>{state}</val></changeSet>");
    answer(
        "WaitForUpdatesEx",
        &format!(
            "<returnval><version>2</version><filterSet><objectSet><kind>{kind}</kind>\
             <obj type=\"VirtualMachine\">vm-1</obj>{change}</objectSet></filterSet></returnval>"
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_waited_for_until_it_is_off_or_gone() {
    let waits = AtomicUsize::new(0);
    let fake = Fake::new(move |r| match (r.call(), waits.load(Ordering::SeqCst)) {
        ("WaitForUpdatesEx", n) => {
            waits.store(n + 1, Ordering::SeqCst);
            Some(match n {
                0 => state("enter", "poweredOn"),
                1 => state("modify", "poweredOff"),
                _ => state("leave", ""),
            })
        }
        _ => None,
    });
    let vim = fake.connect().await;
    assert!(vim.wait_for_power(&machine(), Power::Off, LONG).await.unwrap());
    let error = vim.wait_for_power(&machine(), Power::Off, LONG).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::ManagedObjectNotFound { object: Some(machine()) }));
}
