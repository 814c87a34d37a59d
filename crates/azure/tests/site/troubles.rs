//! What goes wrong: by the requests of a run without trouble, everything that can go wrong at each of them.

use crate::recovered::Recovered;
use fake_arm::{Fault, What};
use fake_blob::{Fault as BlobFault, Match};
use std::collections::BTreeSet;

/// A fault at one request.
pub(crate) enum Trouble {
    Manager(Fault),
    Blobs(Match, BlobFault),
}

/// All troubles of an act, by the requests of a run without.
pub(crate) fn troubles(here: &Recovered, asked: usize) -> Vec<(String, Trouble)> {
    let mut all = vec![];
    let recorded = here.world.manager.recording();
    let mut seen: Vec<String> = vec![];
    let mut polled = BTreeSet::new();
    for line in &recorded[asked..] {
        let text = |name: &str| line["request"][name].as_str().expect("text").to_owned();
        let (method, url) = (text("method"), text("url"));
        let path = url.split('?').next().unwrap_or_default().rsplit("providers/").next().unwrap_or_default();
        seen.push(method.clone());
        let nth = seen.iter().filter(|other| **other == method).count() as u32;
        let status = |status, code: &str| What::Status { status, code: code.into(), retry_after: None };
        let mut whats = vec![("denied", status(403, "AuthorizationFailed"))];
        // An operation is asked after more than once; its id is another one each time.
        if path.contains("perations/")
            && !polled.insert(path.rsplit_once('/').map(|(kind, _)| kind.to_owned()))
        {
            continue;
        }
        if method != "GET" {
            let slow = What::Status { status: 429, code: "TooManyRequests".into(), retry_after: Some(1) };
            whats.extend([
                ("lost reply", What::DropAfterAccept),
                ("lost request", What::DropBeforeEffect),
                ("in trouble", status(500, "InternalServerError")),
                ("throttled", slow),
            ]);
        }
        if method == "PUT" {
            let (code, message) = ("InternalDiskManagementError".into(), "It failed.".into());
            whats.push(("fails at its end", What::FailAtEnd { code, message }));
        }
        for (name, what) in whats {
            let fault = Fault { method: method.clone(), path: String::new(), nth, times: 1, what };
            all.push((format!("{method} {path}: {name}"), Trouble::Manager(fault)));
        }
    }
    for (nth, entry) in here.world.blobs.log().into_iter().enumerate() {
        let status = |code, azure_code| BlobFault::Status { code, azure_code, retry_after: None };
        let mut faults = vec![("denied", status(403, "AuthorizationFailure"))];
        if entry.method == "PUT" || entry.method == "DELETE" {
            faults.extend([
                ("lost reply", BlobFault::DropBeforeAnswer),
                ("lost request", BlobFault::DropBeforeEffect),
                ("in trouble", status(500, "InternalError")),
            ]);
        }
        for (name, fault) in faults {
            let what = format!("blob request {nth} ({} {} {}): {name}", entry.method, entry.path, entry.comp);
            all.push((what, Trouble::Blobs(Match::any().after(nth), fault)));
        }
    }
    all
}

impl Recovered {
    /// Asks for a fault; tells whether it was met.
    pub(crate) fn arm(&self, trouble: Trouble) -> Box<dyn Fn() -> bool> {
        match trouble {
            Trouble::Manager(fault) => {
                let hits = self.world.manager.fault(fault);
                Box::new(move || hits.count() == 1)
            }
            Trouble::Blobs(of, fault) => {
                let hits = self.world.blobs.faults().next(of, fault);
                Box::new(move || hits.count() == 1)
            }
        }
    }
}
