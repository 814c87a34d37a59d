//! Azure's codes that a person can do something about.

use site_recovery::ErrorKind;

/// What a code means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) kind: ErrorKind,
    pub(crate) remedy: &'static str,
}

impl Known {
    /// Of this code; the words tell quota and state apart, which Azure gives the same code.
    pub(crate) fn of(code: &str, message: &str) -> Option<Self> {
        use ErrorKind::*;
        let (kind, remedy) = match code {
            "QuotaExceeded" => (OutOfSpace, QUOTA),
            "OperationNotAllowed" if message.to_ascii_lowercase().contains("quota") => (OutOfSpace, QUOTA),
            "OperationNotAllowed" => (Refused, "do what Azure's words say, then try again"),
            "SkuNotAvailable" => (Refused, "choose a size that this region, zone and subscription have"),
            "AllocationFailed"
            | "ZonalAllocationFailed"
            | "OverconstrainedAllocationRequest"
            | "OverconstrainedZonalAllocationRequest" => (
                OutOfSpace,
                "Azure has no room for this size just now: try later, or choose another size or zone",
            ),
            "PrivateIPAddressInUse" | "PrivateIPAddressIsAllocated" => {
                (Conflict, "choose a free address of the subnet, or free this one")
            }
            "PrivateIPAddressNotInSubnet" | "PrivateIPAddressInReservedRange" => {
                (Invalid, "choose a free address of the subnet")
            }
            "SubnetIsFull" | "SubnetFull" => (OutOfSpace, "free addresses of the subnet, or choose another"),
            "ReferencedResourceNotProvisioned"
            | "AnotherOperationInProgress"
            | "AttachDiskWhileBeingDetached"
            | "OperationPreempted"
            | "OperationPreemptedByAnotherOperation"
            | "RetryableError" => (Busy, "wait until the other operation has ended, then try again"),
            "NicInUse" => (Conflict, "take the network card from the other machine first"),
            "AuthorizationFailed" | "LinkedAuthorizationFailed" => {
                (Denied, "give whoever signs in a role that allows this, on the resource group")
            }
            "InvalidAuthenticationToken"
            | "ExpiredAuthenticationToken"
            | "InvalidAuthenticationTokenTenant" => {
                (Denied, "look at the sign-in: its tenant, its cloud and this machine's clock")
            }
            "TooManyRequests" => (Unavailable, RATE),
            "SnapshotOperationRateExceeded" => (Busy, RATE),
            "SubscriptionNotFound" | "InvalidSubscriptionId" => {
                (NotFound, "name a subscription that whoever signs in may see")
            }
            "ResourceGroupNotFound" => (NotFound, "make the resource group, or name another"),
            "ResourceGroupBeingDeleted" => (Refused, "name another resource group"),
            "ScopeLocked" => (Refused, "take the lock from the resource or its group"),
            "RequestDisallowedByPolicy" => (Refused, "ask whoever keeps the subscription's policies"),
            "MissingSubscriptionRegistration" => {
                (Refused, "register the resource provider that Azure names in the subscription")
            }
            _ => return None,
        };
        Some(Self { kind, remedy })
    }
}

const QUOTA: &str = "ask Azure for more quota in this region, or choose a smaller size";

const RATE: &str = "wait some minutes, then try again; where it is about snapshots, capture less often";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_for_quota_and_for_state_is_told_apart_by_the_words() {
        let kind = |code, message| Known::of(code, message).map(|known| known.kind);
        let quota = "Operation could not be completed as it results in exceeding approved Total Regional Cores quota.";
        assert_eq!(kind("OperationNotAllowed", quota), Some(ErrorKind::OutOfSpace));
        let state = "Operation 'attach' is not allowed since the disk is attached to VM 'a'.";
        assert_eq!(kind("OperationNotAllowed", state), Some(ErrorKind::Refused));
        assert_eq!(kind("ReferencedResourceNotProvisioned", ""), Some(ErrorKind::Busy));
        assert_eq!(kind("NobodyKnows", quota), None);
    }
}
