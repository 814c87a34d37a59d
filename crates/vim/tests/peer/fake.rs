//! The scripted server as vCenter: what a script has no answer to, it answers as a server that behaves.

use crate::order;
use site_recovery::SystemClock;
use site_recovery_vim::{Error, Vim};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use crate::server::{Fake, PASSWORD, Reply, Request};

const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

impl Request {
    /// The name of the SOAP call, or the verb of HTTP.
    pub(crate) fn call(&self) -> &str {
        let after = self.body.split_once("<soapenv:Body><").map(|(_, rest)| rest);
        after.and_then(|rest| rest.split([' ', '>']).next()).unwrap_or(&self.verb)
    }

    /// The text of the first element of this name.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let document = roxmltree::Document::parse(&self.body).ok()?;
        let found = document.descendants().find(|n| n.tag_name().name() == name)?;
        Some(found.text().unwrap_or_default().to_owned())
    }
}

/// An answer to this call; the outermost element has the namespaces of ESXi, or of VMware's simulator.
pub(crate) fn answer(call: &str, inside: &str) -> Reply {
    Reply::Say(
        200,
        vec![],
        envelope(&format!("<{call}Response xmlns=\"urn:vim25\">{inside}</{call}Response>")),
    )
}

pub(crate) fn value(call: &str, kind: &str, id: &str) -> Reply {
    answer(call, &format!("<returnval type=\"{kind}\">{id}</returnval>"))
}

/// A fault of this type, with these elements in it.
pub(crate) fn fault(kind: &str, inside: &str) -> Reply {
    let detail = format!("<{kind}Fault xmlns=\"urn:vim25\" xsi:type=\"{kind}\">{inside}</{kind}Fault>");
    let fault = format!(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>*types.{kind}</faultstring>\
         <detail>{detail}</detail></soapenv:Fault>"
    );
    Reply::Say(500, vec![], envelope(&fault))
}

pub(crate) fn envelope(inside: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"{SOAP}\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n\
         <soapenv:Body>\n{inside}\n</soapenv:Body>\n</soapenv:Envelope>"
    )
    .into_bytes()
}

/// What a server that behaves has to say.
fn usual(request: &Request, logins: &AtomicUsize) -> Reply {
    let call = request.call();
    match call {
        "RetrieveServiceContent" => answer(call, CONTENT),
        "Login" if request.text("password").as_deref() == Some(PASSWORD) => {
            let number = logins.fetch_add(1, Ordering::SeqCst) + 1;
            let inside = format!("<returnval><key>key-{number}</key><userName>dr</userName></returnval>");
            let Reply::Say(status, _, body) = answer(call, &inside) else { unreachable!() };
            let cookie = format!("vmware_soap_session=\"cookie-{number}\"; Path=/; HttpOnly; Secure");
            Reply::Say(status, vec![("set-cookie", cookie)], body)
        }
        "Login" => fault("InvalidLogin", ""),
        "CreateContainerView" => value(call, "ContainerView", "view-1"),
        "CreatePropertyCollector" => value(call, "PropertyCollector", "collector-1"),
        "CreateFilter" => value(call, "PropertyFilter", "filter-1"),
        "CreateCollectorForEvents" => value(call, "EventHistoryCollector", "events-1"),
        "WaitForUpdatesEx" => answer(call, &ended("task-1", "<state>success</state>")),
        task if task.ends_with("_Task") => value(call, "Task", "task-1"),
        _ => answer(call, ""),
    }
}

/// An update: how a task stands.
pub(crate) fn ended(task: &str, info: &str) -> String {
    format!(
        "<returnval><version>1</version><filterSet><filter type=\"PropertyFilter\">filter-1</filter><objectSet>\
         <kind>enter</kind><obj type=\"Task\">{task}</obj><changeSet><name>info</name><op>assign</op>\
         <val xsi:type=\"TaskInfo\">{info}</val></changeSet></objectSet></filterSet></returnval>"
    )
}

const CONTENT: &str = "<returnval>\
    <rootFolder type=\"Folder\">group-d1</rootFolder>\
    <propertyCollector type=\"PropertyCollector\">propertyCollector</propertyCollector>\
    <viewManager type=\"ViewManager\">ViewManager</viewManager>\
    <about><name>VMware vCenter Server</name><fullName>VMware vCenter Server 8.0.3 build-1</fullName>\
    <version>8.0.3</version><build>1</build><apiType>VirtualCenter</apiType><apiVersion>8.0.3.0</apiVersion></about>\
    <sessionManager type=\"SessionManager\">SessionManager</sessionManager>\
    <authorizationManager type=\"AuthorizationManager\">AuthorizationManager</authorizationManager>\
    <licenseManager type=\"LicenseManager\">LicenseManager</licenseManager>\
    <searchIndex type=\"SearchIndex\">SearchIndex</searchIndex>\
    <eventManager type=\"EventManager\">EventManager</eventManager>\
    <fileManager type=\"FileManager\">FileManager</fileManager>\
    <virtualDiskManager type=\"VirtualDiskManager\">virtualDiskManager</virtualDiskManager>\
    <storageResourceManager type=\"StorageResourceManager\">StorageResourceManager</storageResourceManager>\
    </returnval>";

impl Fake {
    /// A server with this script. A request out of the schema's order fails the test.
    pub(crate) fn new(script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let logins = AtomicUsize::new(0);
        Self::answering(move |request| {
            if request.path == "/sdk"
                && let Err(what) = order::check(&request.body)
            {
                panic!("a request out of the schema's order: {what}");
            }
            script(request).unwrap_or_else(|| usual(request, &logins))
        })
    }

    pub(crate) async fn connect(&self) -> Vim {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> Result<Vim, Error> {
        Vim::connect(&self.settings, Arc::new(SystemClock)).await
    }

    /// The requests of this call.
    pub(crate) fn seen(&self, call: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.call() == call).collect()
    }

    /// The calls, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.requests().iter().map(|r| r.call().to_owned()).collect()
    }
}
