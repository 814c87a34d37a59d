//! Calls on machines.

use crate::arm::{Arm, Tags};
use crate::bridge::reply;
use crate::pending::{End, Pending};
use crate::settings::{id, part};
use crate::wire::call;
use crate::{Error, Machine, NewMachine, View};
use azure_mgmt_compute::package_2024_07_01::models;
use azure_mgmt_compute::package_2024_07_01::virtual_machines::Client;
use reqwest::{Method, Url};

/// Of the generated client's calls for machines, and so of the reads beside them.
pub(crate) const VERSION: &str = "2024-07-01";

/// The machines of a group: [`Arm::machines`].
#[derive(Debug, Clone)]
pub struct Machines {
    arm: Arm,
    group: String,
}

impl Machines {
    pub(crate) fn new(arm: &Arm, group: String) -> Self {
        Self { arm: arm.clone(), group }
    }

    fn calls(&self) -> Client {
        self.arm.compute().virtual_machines_client()
    }

    fn url(&self, name: &str, then: &str) -> Result<Url, Error> {
        let what = format!("virtualMachines/{}{then}", part("name", name)?);
        self.arm.within(&self.group, "Microsoft.Compute", &what, VERSION)
    }

    /// The one of this name; nothing where none is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, name: &str) -> Result<Option<Machine>, Error> {
        self.arm.find(self.url(name, "")?).await
    }

    /// All of the group.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list(&self) -> Result<Vec<Machine>, Error> {
        self.arm.list(self.arm.within(&self.group, "Microsoft.Compute", "virtualMachines", VERSION)?).await
    }

    /// How it is just now; nothing where it is not there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn view(&self, name: &str) -> Result<Option<View>, Error> {
        self.arm.find(self.url(name, "/instanceView")?).await
    }

    /// Asks for one of this name, which starts. One that is there already Azure compares, and may change.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn put(&self, name: &str, new: &NewMachine) -> Result<Pending<Machine>, Error> {
        let (arm, url, body) = (&self.arm, self.url(name, "")?, new.body()?);
        let call = call(&Method::PUT, &url);
        let sent = self.calls().create_or_update(&self.group, name, body, arm.subscription()).send().await;
        Pending::of(arm.wire(), call.clone(), &reply(&call, sent).await?, End::As(url))
    }

    /// Gives it these tags, and takes all others from it.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn tag(&self, name: &str, tags: &Tags) -> Result<Pending<Machine>, Error> {
        let (arm, url) = (&self.arm, self.url(name, "")?);
        let call = call(&Method::PATCH, &url);
        let mut body = models::VirtualMachineUpdate::new();
        body.update_resource.tags = Some(serde_json::json!(tags));
        let sent = self.calls().update(&self.group, name, body, arm.subscription()).send().await;
        Pending::of(arm.wire(), call.clone(), &reply(&call, sent).await?, End::As(url))
    }

    /// Deletes it; its disks and network cards stay. One that is not there is deleted already.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn delete(&self, name: &str) -> Result<Pending<()>, Error> {
        let (arm, url) = (&self.arm, self.url(name, "")?);
        let call = call(&Method::DELETE, &url);
        let sent = self.calls().delete(&self.group, name, arm.subscription()).send().await;
        match reply(&call, sent).await {
            Err(Error::Absent { .. }) => Ok(Pending::over(arm.wire(), call)),
            reply => Pending::of(arm.wire(), call, &reply?, End::Gone(url)),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn start(&self, name: &str) -> Result<Pending<()>, Error> {
        let call = self.act(name, "/start")?;
        let sent = self.calls().start(&self.group, name, self.arm.subscription()).send().await;
        Pending::of(self.arm.wire(), call.clone(), &reply(&call, sent).await?, End::Output)
    }

    /// Stops it, with its host kept and paid for: its guest is asked to shut down, or it is switched off.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn power_off(&self, name: &str, skip_shutdown: bool) -> Result<Pending<()>, Error> {
        let call = self.act(name, "/powerOff")?;
        let request =
            self.calls().power_off(&self.group, name, self.arm.subscription()).skip_shutdown(skip_shutdown);
        let sent = request.send().await;
        Pending::of(self.arm.wire(), call.clone(), &reply(&call, sent).await?, End::Output)
    }

    /// Stops it and takes its host from it.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn deallocate(&self, name: &str) -> Result<Pending<()>, Error> {
        let call = self.act(name, "/deallocate")?;
        let sent = self.calls().deallocate(&self.group, name, self.arm.subscription()).send().await;
        Pending::of(self.arm.wire(), call.clone(), &reply(&call, sent).await?, End::Output)
    }

    /// Takes these disks, by their ids, from it. That which it starts from stays.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// It may have been asked for.
    pub async fn detach(&self, name: &str, disks: &[String]) -> Result<Pending<()>, Error> {
        let call = self.act(name, "/attachDetachDataDisks")?;
        let mut body = models::AttachDetachDataDisksRequest::new();
        for disk in disks {
            body.data_disks_to_detach.push(models::DataDisksToDetach::new(id("disks", disk)?.to_owned()));
        }
        let calls = self.calls();
        let sent =
            calls.attach_detach_data_disks(&self.group, name, body, self.arm.subscription()).send().await;
        Pending::of(self.arm.wire(), call.clone(), &reply(&call, sent).await?, End::Output)
    }

    /// The call's name, after group and machine were looked at.
    fn act(&self, name: &str, act: &str) -> Result<String, Error> {
        Ok(call(&Method::POST, &self.url(name, act)?))
    }
}
