//! Tasks: what a server does after it has answered.

use crate::client::{Call, Vim};
use crate::collect::is;
use crate::fault::Fault;
use crate::xml::{Xml, child, moment, number, text, typed};
use crate::{Error, Moref};
use roxmltree::Node;
use site_recovery::Timestamp;
use std::time::Duration;

/// A task that a server has taken up. It goes on whether somebody waits for it or not; its [reference](Task::moref) finds it
/// again after a restart, for some ten minutes after its end.
#[derive(Debug, Clone)]
#[must_use = "a task that is not waited for may fail unseen"]
pub struct Task {
    vim: Vim,
    moref: Moref,
    method: &'static str,
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// What it does.
    pub state: TaskState,
    /// In percent, where the server tells.
    pub progress: Option<u32>,
    /// Whether it can be cancelled.
    pub cancelable: bool,
    /// Of what; not always an object of the inventory.
    pub entity: Option<Moref>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// What it gave.
    pub result: TaskResult,
    /// Why it failed, and the server's words.
    pub error: Option<(Fault, String)>,
}

/// Whether a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Waits for others.
    Queued,
    /// Is done just now, or in a state that is not known.
    Running,
    /// Ended well.
    Success,
    /// Ended with [`TaskInfo::error`].
    Error,
}

/// What a task gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TaskResult {
    /// Nothing, or what is not looked at.
    #[default]
    Nothing,
    /// An object: a machine, a snapshot.
    Object(Moref),
    /// A text: the path of a disk.
    Text(String),
}

impl TaskInfo {
    pub(crate) fn of(node: Node<'_, '_>) -> Self {
        let state = match text(node, "state").unwrap_or_default() {
            "success" => TaskState::Success,
            "error" => TaskState::Error,
            "queued" => TaskState::Queued,
            _ => TaskState::Running,
        };
        let result = child(node, "result").map(|result| match (typed(result), Moref::of(result)) {
            (Some("ManagedObjectReference"), Some(object)) => TaskResult::Object(object),
            (Some("string"), _) => TaskResult::Text(result.text().unwrap_or_default().into()),
            _ => TaskResult::Nothing,
        });
        Self {
            state,
            progress: number(node, "progress"),
            cancelable: is(node, "cancelable"),
            entity: Moref::at(node, "entity"),
            completed: text(node, "completeTime").and_then(moment),
            result: result.unwrap_or_default(),
            error: child(node, "error").map(Fault::localized),
        }
    }

    /// The task's end, once there is one.
    fn end(&self, method: &'static str) -> Option<Result<TaskResult, Error>> {
        match self.state {
            TaskState::Success => Some(Ok(self.result.clone())),
            TaskState::Error => {
                let unnamed = || (Fault::Other(String::new()), String::new());
                let (fault, words) = self.error.clone().unwrap_or_else(unnamed);
                Some(Err(Error::Refused { method, fault, words }))
            }
            TaskState::Queued | TaskState::Running => None,
        }
    }
}

impl Vim {
    /// The task of this reference. Asks nothing.
    pub fn task(&self, moref: Moref) -> Task {
        Task { vim: self.clone(), moref, method: "task" }
    }

    /// Tasks of an object of the inventory that have not ended: whoever lost an answer waits for them before it looks. Tasks of
    /// others are among them. Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn open_tasks(&self, entity: &Moref) -> Result<Vec<Task>, Error> {
        let path = "recentTask";
        let mut open = vec![];
        for moref in self.retrieve_one(entity, &[path], |p| Ok(p.morefs(path))).await? {
            let task = self.task(moref);
            match task.info().await {
                Ok(info) if info.end(task.method).is_none() => open.push(task),
                Ok(_) => {}
                // Forgotten by the server meanwhile: it ended.
                Err(Error::Refused { fault: Fault::ManagedObjectNotFound { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(open)
    }

    /// Makes a call that starts a task.
    pub(crate) async fn start(
        &self,
        method: &'static str,
        this: &Moref,
        arguments: Xml,
    ) -> Result<Task, Error> {
        let moref = self.call_for_object(Call::change(method, this, arguments)).await?;
        Ok(Task { vim: self.clone(), moref, method })
    }
}

impl Task {
    /// How it is found again.
    pub fn moref(&self) -> &Moref {
        &self.moref
    }

    /// How it stands. Privilege: none for a task of one's own.
    ///
    /// # Errors
    /// [`ManagedObjectNotFound`](Fault::ManagedObjectNotFound) once the server has forgotten it; those of any read.
    pub async fn info(&self) -> Result<TaskInfo, Error> {
        let read = |p: &crate::collect::Properties<'_, '_>| {
            p.node("info").map(TaskInfo::of).ok_or_else(|| Error::garbage("a task tells nothing"))
        };
        self.vim.retrieve_one(&self.moref, &["info"], read).await
    }

    /// Waits for its end. A wait that is dropped, or that fails, changes nothing about the task.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the task's fault, or with [`ManagedObjectNotFound`](Fault::ManagedObjectNotFound) once the
    /// server has forgotten it; [`Running`](Error::Running) after the limit; [`Unknown`](Error::Unknown) where the wait itself
    /// fails: the server is lost meanwhile, or lets nobody in.
    pub async fn wait(&self, limit: Duration) -> Result<TaskResult, Error> {
        self.wait_with(limit, |_| ()).await
    }

    /// Waits for its end, and says how it stands whenever that changes.
    ///
    /// # Errors
    /// As [`Task::wait`].
    pub async fn wait_with(
        &self,
        limit: Duration,
        mut tell: impl FnMut(&TaskInfo),
    ) -> Result<TaskResult, Error> {
        let see = |p: &crate::collect::Properties<'_, '_>| {
            let Some(info) = p.node("info").map(TaskInfo::of) else { return Ok(None) };
            tell(&info);
            Ok(info.end(self.method))
        };
        let forgotten = |error: &Error| match error.fault() {
            Some(Fault::ManagedObjectNotFound { object }) => {
                object.as_ref().is_none_or(|of| *of == self.moref)
            }
            _ => false,
        };
        let found = self.vim.watch(&self.moref, &["info"], limit, see).await.map_err(|error| {
            // Whatever goes wrong with the wait, the task goes on.
            if forgotten(&error) {
                error
            } else {
                Error::Unknown { method: self.method, cause: Box::new(error) }
            }
        })?;
        found.unwrap_or_else(|| Err(Error::Running { task: self.moref.clone(), span: limit }))
    }

    /// Waits for its end, and for the object that it made.
    ///
    /// # Errors
    /// As [`Task::wait`]; [`Garbage`](Error::Garbage) where it names none.
    pub async fn object(&self, limit: Duration) -> Result<Moref, Error> {
        match self.wait(limit).await? {
            TaskResult::Object(object) => Ok(object),
            _ => Err(Error::garbage(format!("{} ended without an object", self.method))),
        }
    }

    /// Asks that it be cancelled. It ends, or it does not: wait for it. Privilege: none for a task of one's own, else
    /// `Global.CancelTask`.
    ///
    /// # Errors
    /// [`NotSupported`](Fault::NotSupported) where it cannot be; [`InvalidState`](Fault::InvalidState) once it has ended.
    pub async fn cancel(&self) -> Result<(), Error> {
        self.vim.call(Call::change("CancelTask", &self.moref, Xml::new()), |_| Ok(())).await
    }
}
