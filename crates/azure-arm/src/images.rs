//! Calls on managed disks and on their snapshots, which Azure has the same calls for.
//!
//! Arguments of the generated client all are text, and their order differs between its parts: each of its calls is written
//! once, here and in `machines`.

use crate::arm::{Arm, Tags};
use crate::bridge::reply;
use crate::pending::{End, Pending};
use crate::settings::part;
use crate::wire::call;
use crate::{Access, Disk, Error, NewDisk, NewSnapshot, Snapshot};
use azure_mgmt_compute::package_2024_07_01::models;
use reqwest::{Method, Url};
use site_recovery_https::Secret;

/// Of the generated client's calls for disks and snapshots, and so of the reads beside them.
const VERSION: &str = "2024-03-02";

/// The calls of one kind of resource.
macro_rules! images {
    ($(#[$doc:meta])* $calls:ident, $folder:literal, $client:ident, $one:ident, $new:ident, $update:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $calls {
            arm: Arm,
            group: String,
        }

        impl $calls {
            pub(crate) fn new(arm: &Arm, group: String) -> Self {
                Self { arm: arm.clone(), group }
            }

            fn url(&self, name: &str) -> Result<Url, Error> {
                let what = format!(concat!($folder, "/{}"), part("name", name)?);
                self.arm.within(&self.group, "Microsoft.Compute", &what, VERSION)
            }

            /// The one of this name; nothing where none is there.
            ///
            /// # Errors
            /// [`Error`].
            pub async fn get(&self, name: &str) -> Result<Option<$one>, Error> {
                self.arm.find(self.url(name)?).await
            }

            /// All of the group.
            ///
            /// # Errors
            /// [`Error`].
            pub async fn list(&self) -> Result<Vec<$one>, Error> {
                self.arm.list(self.arm.within(&self.group, "Microsoft.Compute", $folder, VERSION)?).await
            }

            /// Asks for one of this name. One that is there already Azure compares, and may change.
            ///
            /// # Errors
            /// [`Error`].
            ///
            /// # Cancel safety
            /// It may have been asked for.
            pub async fn put(&self, name: &str, new: &$new) -> Result<Pending<$one>, Error> {
                let (arm, url, body) = (&self.arm, self.url(name)?, new.body()?);
                let call = call(&Method::PUT, &url);
                let calls = arm.compute().$client();
                let sent = calls.create_or_update(arm.subscription(), &self.group, name, body).send().await;
                Pending::of(arm.wire(), call.clone(), &reply(&call, sent).await?, End::As(url))
            }

            /// Gives it these tags, and takes all others from it.
            ///
            /// # Errors
            /// [`Error`].
            ///
            /// # Cancel safety
            /// It may have been asked for.
            pub async fn tag(&self, name: &str, tags: &Tags) -> Result<Pending<$one>, Error> {
                let (arm, url) = (&self.arm, self.url(name)?);
                let call = call(&Method::PATCH, &url);
                let mut body = models::$update::new();
                body.tags = Some(serde_json::json!(tags));
                let sent = arm.compute().$client().update(arm.subscription(), &self.group, name, body).send().await;
                Pending::of(arm.wire(), call.clone(), &reply(&call, sent).await?, End::As(url))
            }

            /// Deletes it. One that is not there is deleted already.
            ///
            /// # Errors
            /// [`Error`].
            ///
            /// # Cancel safety
            /// It may have been asked for.
            pub async fn delete(&self, name: &str) -> Result<Pending<()>, Error> {
                let (arm, url) = (&self.arm, self.url(name)?);
                let call = call(&Method::DELETE, &url);
                let sent = arm.compute().$client().delete(arm.subscription(), &self.group, name).send().await;
                match reply(&call, sent).await {
                    Err(Error::Absent { .. }) => Ok(Pending::over(arm.wire(), call)),
                    reply => Pending::of(arm.wire(), call, &reply?, End::Gone(url)),
                }
            }

            /// Asks for a signed address of its bytes, which lasts so many seconds or until it is [revoked](Self::revoke).
            ///
            /// # Errors
            /// [`Error`].
            ///
            /// # Cancel safety
            /// It may have been asked for.
            pub async fn grant(&self, name: &str, access: Access, seconds: u32) -> Result<Pending<Secret>, Error> {
                let (arm, url, body) = (&self.arm, self.url(name)?, access.body(seconds)?);
                let call = format!("{}/beginGetAccess", call(&Method::POST, &url));
                let calls = arm.compute().$client();
                let sent = calls.grant_access(arm.subscription(), &self.group, name, body).send().await;
                Pending::of(arm.wire(), call.clone(), &reply(&call, sent).await?, End::Output)
            }

            /// Makes all its signed addresses void.
            ///
            /// # Errors
            /// [`Error`].
            ///
            /// # Cancel safety
            /// It may have been asked for.
            pub async fn revoke(&self, name: &str) -> Result<Pending<()>, Error> {
                let (arm, url) = (&self.arm, self.url(name)?);
                let call = format!("{}/endGetAccess", call(&Method::POST, &url));
                let sent = arm.compute().$client().revoke_access(arm.subscription(), &self.group, name).send().await;
                Pending::of(arm.wire(), call.clone(), &reply(&call, sent).await?, End::Output)
            }
        }
    };
}

images! {
    /// The managed disks of a group: [`Arm::disks`].
    Disks, "disks", disks_client, Disk, NewDisk, DiskUpdate
}

images! {
    /// The snapshots of managed disks of a group: [`Arm::snapshots`].
    Snapshots, "snapshots", snapshots_client, Snapshot, NewSnapshot, SnapshotUpdate
}
