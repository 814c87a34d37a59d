//! Takes a run's actions: programs, ports, verdicts, and the wait for a person.

use crate::actions::{Command, Output};
use crate::change::Change;
use crate::driver::{Driver, going};
use crate::plan::{Action, Does, Part};
use crate::port;
use crate::resolve::machine_id;
use crate::run::{ActionRun, ActionState, Course, MachineRun, PlanRun, Stage};
use serde::Serialize;
use site_recovery::workflow::Failure;
use site_recovery::{Error, ErrorKind, PointId, Result, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// What an action came to.
struct Came {
    exit: Option<i32>,
    output: String,
    error: Option<Error>,
}

impl From<Result<()>> for Came {
    fn from(done: Result<()>) -> Self {
        Self { exit: None, output: String::new(), error: done.err() }
    }
}

/// What a program is told of a machine.
#[derive(Serialize)]
struct MachineContext<'a> {
    member: &'a str,
    machine: &'a str,
    /// Empty until it is booted.
    addresses: &'a [String],
    point: Option<PointId>,
}

/// What a program reads.
#[derive(Serialize)]
struct Context<'a> {
    plan: &'a str,
    run: &'a str,
    kind: String,
    direction: String,
    group: &'a str,
    action: &'a str,
    machines: BTreeMap<&'a str, MachineContext<'a>>,
}

impl Driver {
    /// Takes the actions of a stage in order, until one fails that stops the run, or needs a person.
    ///
    /// # Errors
    /// As [`Driver::drive`].
    pub(crate) async fn act(&self, run: &PlanRun, stage: Stage) -> Result<()> {
        use ActionState::{Done, Dropped, Failed, PassedOver, Running, Waiting};
        for action in run.actions_of(stage) {
            let run = self.slot.run();
            if run.course != Course::Forward {
                return Ok(());
            }
            let known = run.action(&action.name).map(|known| known.state);
            match (known, &action.does) {
                // One that failed and is to be taken again is not in the record any more.
                (Some(Done | PassedOver | Failed | Dropped), _) => {}
                (Some(Waiting), _) => return Ok(()),
                (None, Does::Manual { .. }) => return self.wait_for_somebody(action, None).await,
                // The engine that ran it died meanwhile.
                (Some(Running), Does::Command { again: false, .. }) => {
                    let message =
                        "it had begun when its engine died, and nobody knows how it ended: see to it";
                    let why = Error::new(ErrorKind::Cancelled, message);
                    return self.wait_for_somebody(action, Some(&why)).await;
                }
                _ => self.take_one(action, stage).await?,
            }
        }
        Ok(())
    }

    async fn wait_for_somebody(&self, action: &Action, why: Option<&Error>) -> Result<()> {
        let (name, why, now) = (action.name.clone(), why.map(Failure::from), self.shared.clock.now());
        self.change(move |run| {
            let known = run.action(&name).cloned();
            let begun = known.unwrap_or_else(|| ActionRun::begun(&name, now));
            going(run, Change::Action(ActionRun { state: ActionState::Waiting, error: why, ..begun }))
        })
        .await
        .map(drop)
    }

    async fn take_one(&self, action: &Action, stage: Stage) -> Result<()> {
        let begun = ActionRun::begun(&action.name, self.shared.clock.now());
        let intent = begun.clone();
        let run = self.change(move |run| going(run, Change::Action(intent))).await?;
        if run.course != Course::Forward {
            return Ok(());
        }
        let came = self.perform(&run, action, stage).await;
        let ended = ActionRun {
            state: if came.error.is_none() { ActionState::Done } else { ActionState::Failed },
            ended: Some(self.shared.clock.now()),
            exit: came.exit,
            output: came.output,
            error: came.error.as_ref().map(Failure::from),
            ..begun
        };
        self.change(move |run| {
            let stopped = ended.error.clone().filter(|_| run.stops() && run.course == Course::Forward);
            let stopped = stopped.map(|why| {
                let message = format!("action {}: {}", ended.name, why.message);
                Change::Stopped(Failure { message, ..why })
            });
            Ok([Change::Action(ended)].into_iter().chain(stopped).collect())
        })
        .await
        .map(drop)
    }

    /// Does it, within its limit, unless the run is cancelled meanwhile.
    async fn perform(&self, run: &PlanRun, action: &Action, stage: Stage) -> Came {
        let (output, limit) = (Output::default(), Duration::from_secs(action.limit));
        let done = async {
            match &action.does {
                Does::Command { program, .. } => self.command(run, action, stage, program, &output).await,
                Does::Port { machine, port } => self.port(run, machine, *port).await.into(),
                Does::Probe { machine } => self.probe(run, machine).into(),
                Does::Manual { .. } => Err(Error::new(ErrorKind::Refused, "a person does it")).into(),
            }
        };
        let ended = |kind, message: String| Came {
            exit: None,
            output: output.text(),
            error: Some(Error::new(kind, message)),
        };
        tokio::select! {
            done = done => done,
            () = self.shared.clock.sleep(limit) => {
                ended(ErrorKind::Unavailable, format!("it was not done within {} s", action.limit))
            }
            () = self.slot.turned_back() => ended(ErrorKind::Cancelled, "the run was cancelled".into()),
        }
    }

    async fn command(
        &self,
        run: &PlanRun,
        action: &Action,
        stage: Stage,
        program: &[String],
        output: &Output,
    ) -> Came {
        let command = command(run, action, stage, program);
        let ran = self.shared.actions.run(&command, output).await;
        let output = output.text();
        match ran {
            Ok(Some(0)) => Came { exit: Some(0), output, error: None },
            Ok(exit) => {
                let how = exit.map_or("by a signal".to_owned(), |code| format!("with {code}"));
                let error = Some(Error::new(ErrorKind::Refused, format!("{} ended {how}", program[0])));
                Came { exit, output, error }
            }
            Err(error) => Came { exit: None, output, error: Some(error) },
        }
    }

    /// Tries until it is open; the action's limit ends it.
    async fn port(&self, run: &PlanRun, name: &str, number: u16) -> Result<()> {
        let reach = &self.machine(run, name)?.reach;
        let hosts = port::hosts(reach);
        if hosts.is_empty() {
            let message = format!("no address of {name} is known: its site told {reach:?}");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        port::opens(&*self.shared.actions, &*self.shared.clock, &hosts, number).await;
        Ok(())
    }

    fn probe(&self, run: &PlanRun, name: &str) -> Result<()> {
        let message = match &self.machine(run, name)?.verdict {
            Some(Verdict::Good) => return Ok(()),
            Some(Verdict::Bad { reason }) => format!("{name} is not as it should be: {reason}"),
            None => format!("nobody has looked at {name}: it has not booted, or the vault has no validation"),
        };
        Err(Error::new(ErrorKind::Refused, message))
    }

    fn machine<'a>(&self, run: &'a PlanRun, name: &str) -> Result<&'a MachineRun> {
        let id = machine_id(&self.shared.vault, name)?;
        let mut machines = run.members.iter().flat_map(|m| &m.machines);
        machines
            .find(|m| m.machine == id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{name} is no member of the run")))
    }
}

impl ActionRun {
    fn begun(name: &str, now: site_recovery::Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            state: ActionState::Running,
            started: now,
            ended: None,
            exit: None,
            output: String::new(),
            error: None,
            note: None,
            completed_by: None,
        }
    }
}

fn command(run: &PlanRun, action: &Action, stage: Stage, program: &[String]) -> Command {
    let kind = run.kind().map(|kind| format!("{kind:?}")).unwrap_or_default();
    let direction = format!("{:?}", run.direction);
    let group = match stage {
        Stage::Before(part) | Stage::After(part) => match part {
            Part::Shutdown => "shutdown".to_owned(),
            Part::Failover => "failover".to_owned(),
            Part::Group(number) => number.to_string(),
        },
        _ => String::new(),
    };
    let machines = run.members.iter().flat_map(|member| {
        member.machines.iter().map(|machine| {
            let context = MachineContext {
                member: &member.name,
                machine: machine.machine.as_str(),
                addresses: &machine.reach,
                point: machine.point,
            };
            (machine.name.as_str(), context)
        })
    });
    let context = Context {
        plan: &run.plan,
        run: &run.id,
        kind: kind.clone(),
        direction: direction.clone(),
        group: &group,
        action: &action.name,
        machines: machines.collect(),
    };
    let input = serde_json::to_vec(&context).expect("plain data serialises");
    let environment = [
        ("SITE_RECOVERY_PLAN", run.plan.clone()),
        ("SITE_RECOVERY_RUN", run.id.clone()),
        ("SITE_RECOVERY_KIND", kind),
        ("SITE_RECOVERY_DIRECTION", direction),
        ("SITE_RECOVERY_GROUP", group),
        ("SITE_RECOVERY_ACTION", action.name.clone()),
    ];
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Command { program: program.to_vec(), environment, input }
}
