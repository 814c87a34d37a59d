//! What a verb does. The same code serves the process that asks, and whoever asks it over the control socket.

mod begin;
mod export;
mod follow;
mod look;
mod page;
mod plan;
mod plan_page;
mod protect;
mod words;

use crate::answer::{AdoptedPage, Answer, DonePage, Failed, ScrubPage, Told};
use crate::args::Asked;
use crate::engine::{Engine, Unit, called};
use begin::Wish;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Force, ItemHandle, PointId, Result};
use tokio::sync::{mpsc, watch};

pub(crate) use follow::resume;
pub(crate) use plan_page::because;

/// What is asked, by whom, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Who asks.
    pub(crate) operator: String,
    /// Why, where somebody answers for it by name.
    pub(crate) reason: Option<String>,
    /// SHA-256 of the settings that who asks has read.
    pub(crate) settings: String,
    /// What.
    pub(crate) asked: Asked,
}

/// Where a verb tells what it does, and hears that it shall stop.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    told: mpsc::UnboundedSender<Told>,
    stop: watch::Receiver<bool>,
}

impl Out {
    pub(crate) fn new(told: mpsc::UnboundedSender<Told>, stop: watch::Receiver<bool>) -> Self {
        Self { told, stop }
    }

    /// Tells it, where somebody still listens.
    pub(crate) fn tell(&self, told: Told) {
        let _ = self.told.send(told);
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.tell(Told::Note(text.into()));
    }

    /// Ends once it is asked to stop. Never, where nobody can ask any more.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Request {
    /// Who answers by name, and why.
    ///
    /// # Errors
    /// `Invalid` without a reason.
    pub(crate) fn force(&self) -> Result<Force> {
        match self.reason.as_deref().map(str::trim) {
            Some(reason) if !reason.is_empty() => Ok(Force::by(&self.operator, reason)),
            _ => Err(Error::invalid("reason", "absent", "who answers by name says why", "give --reason")),
        }
    }
}

/// Does what is asked.
///
/// # Errors
/// Why it was not done; of what the state refuses, with what is allowed instead.
pub(crate) async fn execute(
    engine: &Engine,
    request: &Request,
    out: &Out,
) -> std::result::Result<Answer, Failed> {
    if request.settings != engine.settings.digest {
        out.note("this is done by a process that read other settings; start it again to have these");
    }
    // What looks on leaves alone what a crash interrupted: nobody who looks wants a machine to start.
    if request.asked.only_looks() {
        let interrupted = follow::interrupted(engine);
        if interrupted > 0 {
            out.note(format!("{interrupted} jobs were interrupted; any verb that does something, or `run`, goes on with them"));
        }
    } else {
        resume(engine, out).await;
    }
    match verb(engine, request, out).await {
        Ok(answer) => Ok(answer),
        Err(error) => {
            let refused =
                matches!(error.kind(), ErrorKind::Refused | ErrorKind::Busy | ErrorKind::Unsupported);
            let mut failed = Failed::from(error);
            if refused && let Some(name) = name_of(&request.asked) {
                failed.allowed = allowed(engine, name);
            }
            Err(failed)
        }
    }
}

async fn verb(engine: &Engine, request: &Request, out: &Out) -> Result<Answer> {
    let unit = |name: &str| engine.unit(name, &request.operator);
    match &request.asked {
        Asked::Protect(told) => protect::protect(engine, request, told, out).await,
        Asked::List => Ok(Answer::Items(page::lines(engine.vault.items()).await)),
        Asked::Show(told) => look::show(&unit(&told.name)?).await,
        Asked::Ready(told) => look::ready(&unit(&told.name)?).await,
        Asked::Points(told) => look::points(&unit(&told.name)?).await,
        Asked::Jobs(told) => look::jobs(engine, told.name.as_deref()),
        Asked::Audit(told) => look::audit(engine, &unit(&told.name)?).await,
        Asked::Export(told) => export::export(engine, told, out).await,
        Asked::Replicate(told) => replicate(engine, &unit(&told.name)?).await,
        Asked::Adopt(told) => adopt(engine, &told.leg).await,
        Asked::Plan(told) => plan::plan(engine, request, told, out).await,
        Asked::Leave(told) => leave(engine, request, &told.name).await,
        Asked::Cancel(told) => cancel(engine, &unit(&told.name)?, out).await,
        Asked::Verify(told) if told.scrub.is_some() => scrub(engine, told, request).await,
        other => {
            let (name, wish) = Wish::of(other, request)?;
            let unit = unit(name)?;
            if other.is_dry() {
                return wish.plan(&unit).await;
            }
            follow::begun(engine, &unit, out, wish.begin(&unit)).await
        }
    }
}

async fn replicate(engine: &Engine, unit: &Unit) -> Result<Answer> {
    let first = unit.items().into_iter().next();
    let first = first.ok_or_else(|| Error::new(ErrorKind::NotFound, "the group has no member"))?;
    engine.vault.replicate_now(first.id()).await?;
    done("a point is sealed", unit.items()).await
}

async fn adopt(engine: &Engine, leg: &str) -> Result<Answer> {
    let adopted = engine.vault.adopt(leg).await?;
    let name = |id: &site_recovery::MachineId| {
        engine.vault.item(id).and_then(|handle| handle.item()).map_or(id.to_string(), called)
    };
    let machines = adopted.machines.iter().map(name).collect();
    Ok(Answer::Adopted(AdoptedPage { machines, questions: adopted.questions }))
}

async fn leave(engine: &Engine, request: &Request, name: &str) -> Result<Answer> {
    let item = engine.item(name)?;
    let group = engine.vault.group(item.unit().as_str())?.acting_as(&request.operator);
    let alone = group.leave(item.id()).await?;
    done("it goes on alone", vec![alone]).await
}

async fn cancel(engine: &Engine, unit: &Unit, out: &Out) -> Result<Answer> {
    let under_way = unit.items().first().and_then(ItemHandle::job);
    match (unit.cancel().await?, under_way) {
        (Some(job), _) => follow::follow(engine, job, unit, out).await,
        (None, Some(job)) => {
            let turned = job.wait().await?;
            let said = match turned.outcome {
                site_recovery::Outcome::Unwound { .. } => "it was turned back",
                _ => "it had come to its end before",
            };
            done(said, unit.items()).await
        }
        (None, None) => done("it had come to its end before", unit.items()).await,
    }
}

async fn scrub(engine: &Engine, told: &crate::args::Verify, request: &Request) -> Result<Answer> {
    let item = engine.item(&told.name)?.acting_as(&request.operator);
    let which = told.scrub.unwrap_or(crate::args::Which::Processed);
    let point = words::one_point(&item, which).await?;
    let findings = item.scrub(PointId(point.id.0)).await?;
    Ok(Answer::Scrubbed(ScrubPage { machine: called(item.item()?), point: point.id.0, findings }))
}

async fn done(said: &str, items: Vec<ItemHandle>) -> Result<Answer> {
    Ok(Answer::Done(DonePage { said: said.to_owned(), items: page::lines(items).await }))
}

/// The unit that a verb names.
fn name_of(asked: &Asked) -> Option<&str> {
    Some(match asked {
        Asked::Show(n) | Asked::Ready(n) | Asked::Points(n) | Asked::Cancel(n) | Asked::Resync(n) => &n.name,
        Asked::Replicate(n) | Asked::Leave(n) | Asked::Audit(n) => &n.name,
        Asked::Drill(d) => &d.name,
        Asked::Failover(f) | Asked::Failback(f) => &f.name,
        Asked::ChangePoint(c) => &c.name,
        Asked::Commit(c) => &c.name,
        Asked::Undo(u) => &u.name,
        Asked::Reprotect(r) => &r.name,
        Asked::Retry(r) => &r.name,
        Asked::Disable(d) => &d.name,
        Asked::Export(e) => &e.name,
        Asked::Verify(v) => &v.name,
        Asked::Protect(_) | Asked::List | Asked::Jobs(_) | Asked::Adopt(_) | Asked::Plan(_) => return None,
    })
}

fn allowed(engine: &Engine, name: &str) -> Vec<String> {
    let first = engine.unit(name, "operator").ok().and_then(|unit| unit.items().into_iter().next());
    let summary = first.and_then(|item| item.summary().ok());
    summary.map_or(vec![], |s| words::allowed(&s.allowed, s.state.direction))
}
