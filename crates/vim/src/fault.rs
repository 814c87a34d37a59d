//! What a server says when it does not do something, by the type of its fault. Texts are for people alone: they come in the
//! server's language, and say little in VMware's simulator.

use crate::Moref;
use crate::xml::{child, text, typed};
use roxmltree::Node;
use site_recovery::ErrorKind;
use std::fmt;

/// A fault, by its type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Wrong user or password.
    InvalidLogin,
    /// There is no session (any more).
    NotAuthenticated,
    /// The user lacks a privilege.
    NoPermission {
        /// `VirtualMachine.State.CreateSnapshot`.
        privilege: Option<String>,
        /// On what.
        object: Option<Moref>,
    },
    /// The object is gone.
    ManagedObjectNotFound {
        /// Which.
        object: Option<Moref>,
    },
    /// A machine is on where it has to be off, or the other way about.
    InvalidPowerState {
        /// `poweredOn`.
        existing: Option<String>,
    },
    /// Another state of an object than the call needs.
    InvalidState,
    /// An argument is not taken.
    InvalidArgument {
        /// `changeId`, `deviceKey`.
        property: Option<String>,
    },
    /// A device of a specification is not taken: its unit is in use, it is unknown.
    InvalidDeviceSpec {
        /// `deviceChange[0].device.unitNumber`.
        property: Option<String>,
    },
    /// Some trouble with a file.
    FileFault {
        /// Its datastore path.
        file: Option<String>,
    },
    /// A file is not there.
    FileNotFound {
        /// Its datastore path.
        file: Option<String>,
    },
    /// A file is in use by another.
    FileLocked {
        /// Its datastore path.
        file: Option<String>,
    },
    /// A file is there already.
    FileAlreadyExists {
        /// Its datastore path.
        file: Option<String>,
    },
    /// No room on a datastore.
    NoDiskSpace {
        /// Its datastore path.
        file: Option<String>,
    },
    /// Another task holds the object.
    TaskInProgress,
    /// A change of the configuration came in between.
    ConcurrentAccess,
    /// The licence or the edition allows no writes: an ESXi host without a paid licence says so to each.
    RestrictedVersion,
    /// The name is in use there.
    DuplicateName {
        /// The name.
        name: Option<String>,
        /// By whom.
        object: Option<Moref>,
    },
    /// VMware Tools do not run in the guest.
    ToolsUnavailable,
    /// The guest could not be brought to rest for a snapshot.
    QuiesceFailed,
    /// Not on this object, or not on this product.
    NotSupported,
    /// Not in this version.
    MethodNotFound,
    /// Another product has switched the method off for this object.
    MethodDisabled {
        /// Which.
        source: Option<String>,
    },
    /// The thing is in use.
    ResourceInUse,
    /// A task was cancelled.
    RequestCanceled,
    /// vCenter does not reach the host.
    HostUnreachable,
    /// Any other, by the name of its type; empty where the server named none.
    Other(String),
}

impl Fault {
    /// Of an element that is a fault by its `xsi:type`, or where it has none by the name of its element.
    pub(crate) fn of(node: Node<'_, '_>) -> Self {
        let element = node.tag_name().name();
        let name = typed(node).unwrap_or_else(|| element.strip_suffix("Fault").unwrap_or(element));
        let words = |path| text(node, path).map(str::to_owned);
        let file = || words("file");
        match name {
            "InvalidLogin" => Self::InvalidLogin,
            "NotAuthenticated" => Self::NotAuthenticated,
            "NoPermission" => {
                Self::NoPermission { privilege: words("privilegeId"), object: Moref::at(node, "object") }
            }
            "ManagedObjectNotFound" => Self::ManagedObjectNotFound { object: Moref::at(node, "obj") },
            "InvalidPowerState" => Self::InvalidPowerState { existing: words("existingState") },
            "InvalidState" | "InvalidSnapshotState" | "InvalidHostState" => Self::InvalidState,
            "InvalidArgument" | "InvalidName" | "InvalidProperty" | "InvalidType" => {
                Self::InvalidArgument { property: words("invalidProperty").or_else(|| words("name")) }
            }
            "InvalidDeviceSpec" | "InvalidController" | "InvalidDeviceBacking" => {
                Self::InvalidDeviceSpec { property: words("property").or_else(|| words("invalidProperty")) }
            }
            "FileFault" | "CannotAccessFile" | "InvalidDatastorePath" => Self::FileFault { file: file() },
            "FileNotFound" => Self::FileNotFound { file: file() },
            "FileLocked" => Self::FileLocked { file: file() },
            "FileAlreadyExists" => Self::FileAlreadyExists { file: file() },
            "NoDiskSpace" => Self::NoDiskSpace { file: file() },
            "TaskInProgress" => Self::TaskInProgress,
            "ConcurrentAccess" => Self::ConcurrentAccess,
            "RestrictedVersion" => Self::RestrictedVersion,
            "DuplicateName" | "AlreadyExists" => {
                Self::DuplicateName { name: words("name"), object: Moref::at(node, "object") }
            }
            "ToolsUnavailable" => Self::ToolsUnavailable,
            "ApplicationQuiesceFault" | "FilesystemQuiesceFault" => Self::QuiesceFailed,
            "NotSupported" => Self::NotSupported,
            "MethodNotFound" | "NotImplemented" => Self::MethodNotFound,
            "MethodDisabled" => Self::MethodDisabled { source: words("source") },
            "ResourceInUse" => Self::ResourceInUse,
            "RequestCanceled" => Self::RequestCanceled,
            "HostCommunication" | "HostNotConnected" | "HostNotReachable" => Self::HostUnreachable,
            other => Self::Other(other.into()),
        }
    }

    /// Of a `LocalizedMethodFault`, and its words.
    pub(crate) fn localized(node: Node<'_, '_>) -> (Self, String) {
        // A cause may come without its fault.
        let fault = child(node, "fault").map_or_else(|| Self::Other(String::new()), Self::of);
        (fault, words(text(node, "localizedMessage").unwrap_or_default()))
    }

    /// What a caller of the library can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidLogin | Self::NotAuthenticated | Self::NoPermission { .. } => ErrorKind::Denied,
            Self::ManagedObjectNotFound { .. } | Self::FileNotFound { .. } => ErrorKind::NotFound,
            Self::InvalidArgument { .. } | Self::InvalidDeviceSpec { .. } => ErrorKind::Invalid,
            Self::FileLocked { .. } | Self::TaskInProgress | Self::ResourceInUse | Self::ConcurrentAccess => {
                ErrorKind::Busy
            }
            Self::FileAlreadyExists { .. } | Self::DuplicateName { .. } => ErrorKind::Conflict,
            Self::NoDiskSpace { .. } => ErrorKind::OutOfSpace,
            Self::RestrictedVersion | Self::NotSupported | Self::MethodNotFound => ErrorKind::Unsupported,
            Self::RequestCanceled => ErrorKind::Cancelled,
            Self::HostUnreachable => ErrorKind::Unavailable,
            Self::InvalidPowerState { .. }
            | Self::InvalidState
            | Self::FileFault { .. }
            | Self::ToolsUnavailable
            | Self::QuiesceFailed
            | Self::MethodDisabled { .. }
            | Self::Other(_) => ErrorKind::Refused,
        }
    }

    /// What it is about: a privilege, a property, a file, a state.
    fn subject(&self) -> Option<&str> {
        match self {
            Self::NoPermission { privilege, .. } => privilege.as_deref(),
            Self::ManagedObjectNotFound { object } => object.as_ref().map(|o| o.id.as_str()),
            Self::InvalidPowerState { existing } => existing.as_deref(),
            Self::InvalidArgument { property } | Self::InvalidDeviceSpec { property } => property.as_deref(),
            Self::FileFault { file }
            | Self::FileNotFound { file }
            | Self::FileLocked { file }
            | Self::FileAlreadyExists { file }
            | Self::NoDiskSpace { file } => file.as_deref(),
            Self::DuplicateName { name, .. } => name.as_deref(),
            Self::MethodDisabled { source } => source.as_deref(),
            _ => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Other(name) if name.is_empty() => "a fault without a name".into(),
            Self::Other(name) => words(name),
            Self::HostUnreachable => "host unreachable".into(),
            known => format!("{known:?}").split([' ', '{']).next().unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match self.subject() {
            Some(subject) => write!(f, " ({})", words(subject)),
            None => Ok(()),
        }
    }
}

/// The beginning of a server's words, fit for a log.
pub(crate) fn words(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::parse;

    fn fault(text: &str) -> Fault {
        let document = parse(text).expect("XML");
        Fault::of(document.root_element())
    }

    const XSI: &str = "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'";

    #[test]
    fn a_fault_is_known_by_its_type_or_its_element() {
        let by_type = format!("<InvalidLoginFault {XSI} xsi:type='InvalidLogin'/>");
        assert_eq!(fault(&by_type), Fault::InvalidLogin);
        assert_eq!(fault("<NotAuthenticatedFault/>"), Fault::NotAuthenticated);
        assert_eq!(fault("<FileFaultFault/>"), Fault::FileFault { file: None });
        let task =
            format!("<fault {XSI} xsi:type='vim25:CannotAccessFile'><file>[a] b/b.vmdk</file></fault>");
        assert_eq!(fault(&task), Fault::FileFault { file: Some("[a] b/b.vmdk".into()) });
        let unknown = format!("<fault {XSI} xsi:type='NewInVersion10'/>");
        assert_eq!(fault(&unknown), Fault::Other("NewInVersion10".into()));
    }

    #[test]
    fn what_a_fault_is_about_is_kept_and_shown() {
        let text = "<NoPermissionFault><object type='VirtualMachine'>vm-1</object>\
                    <privilegeId>VirtualMachine.State.CreateSnapshot</privilegeId></NoPermissionFault>";
        let found = fault(text);
        let (privilege, object) =
            ("VirtualMachine.State.CreateSnapshot".to_owned(), Moref::new("VirtualMachine", "vm-1"));
        assert_eq!(found, Fault::NoPermission { privilege: Some(privilege.clone()), object: Some(object) });
        assert_eq!(found.to_string(), format!("NoPermission ({privilege})"));
        assert_eq!(Fault::Other("A\x1bB".into()).to_string(), "A B");
    }

    #[test]
    fn a_cause_may_lack_its_fault() {
        let document =
            parse("<faultCause><localizedMessage>why</localizedMessage></faultCause>").expect("XML");
        assert_eq!(Fault::localized(document.root_element()), (Fault::Other(String::new()), "why".into()));
    }
}
