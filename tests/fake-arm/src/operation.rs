//! Operations that go on after their answer.

use crate::answer::{Answer, Refusal, Ruled, refuse};
use crate::asked::Asked;
use crate::clock::written;
use crate::place::Kind;
use crate::world::World;
use serde_json::{Value, json};

/// What an operation does at its end; what it hands out.
pub(crate) type Work = Box<dyn FnOnce(&mut World) -> Ruled<Option<Value>> + Send>;

pub(crate) struct Operation {
    /// A part of its address that nobody can guess.
    secret: String,
    keys: Vec<String>,
    /// Whether its end is the `provisioningState` of what it changes.
    marks: bool,
    left: u32,
    work: Option<Work>,
    fails: Option<Refusal>,
    outcome: Option<Ruled<Option<Value>>>,
    deletes: bool,
    began: u64,
    ended: u64,
}

/// How an operation is begun.
pub(crate) struct Begin {
    /// What it changes: nothing else may begin there.
    pub(crate) keys: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) location: String,
    /// See [`Operation::marks`].
    pub(crate) marks: bool,
}

impl World {
    /// Begins one, and gives the headers by which it is followed.
    pub(crate) fn begin(&mut self, asked: &Asked, begin: Begin, work: Work) -> Vec<(String, String)> {
        let (id, secret) = (crate::random::uuid(), crate::random::token());
        for key in &begin.keys {
            if let Some(thing) = self.things.get_mut(key) {
                thing.busy = Some(id.clone());
            }
        }
        let operation = Operation {
            secret: secret.clone(),
            keys: begin.keys,
            marks: begin.marks,
            left: self.config.looks,
            work: Some(work),
            fails: asked.fails.clone(),
            outcome: None,
            deletes: asked.method == "DELETE",
            began: self.clock.tick(),
            ended: 0,
        };
        self.operations.insert(id.clone(), operation);
        let what =
            if matches!(begin.kind, Kind::Disk | Kind::Snapshot) { "DiskOperations" } else { "operations" };
        let results = if begin.kind.provider() == "Microsoft.Network" { "operationResults" } else { what };
        let place = format!(
            "{}/subscriptions/{}/providers/{}/locations/{}",
            asked.base,
            asked.target.subscription(),
            begin.kind.provider(),
            begin.location
        );
        let query = format!("p={}&api-version={}&s={secret}", crate::random::uuid(), asked.version());
        vec![
            ("Azure-AsyncOperation".into(), format!("{place}/{what}/{id}?{query}")),
            ("Location".into(), format!("{place}/{results}/{id}?{query}&monitor=true")),
            ("Retry-After".into(), self.config.retry_after.to_string()),
        ]
    }

    /// One look at an operation: it comes one step nearer to its end.
    pub(crate) fn look(&mut self, id: &str) {
        match self.operations.get_mut(id) {
            Some(operation) if operation.work.is_some() && operation.left > 0 => operation.left -= 1,
            Some(_) => self.finish(id),
            None => {}
        }
    }

    /// One look at what an operation changes.
    pub(crate) fn look_at(&mut self, key: &str) {
        if let Some(id) = self.things.get(key).and_then(|thing| thing.busy.clone()) {
            self.look(&id);
        }
    }

    /// Lets what changes a thing go on for more looks.
    pub(crate) fn goes_on_for(&mut self, key: &str, looks: u32) {
        let id = self.things.get(key).and_then(|thing| thing.busy.clone());
        if let Some(operation) = id.and_then(|id| self.operations.get_mut(&id)) {
            operation.left += looks;
        }
    }

    /// Brings an operation to its end.
    pub(crate) fn finish(&mut self, id: &str) {
        let Some(operation) = self.operations.get_mut(id) else { return };
        let Some(work) = operation.work.take() else { return };
        let (keys, marks, fails) = (operation.keys.clone(), operation.marks, operation.fails.clone());
        let outcome = match fails {
            Some(refusal) => Err(refusal),
            None => work(self),
        };
        for key in keys {
            if let Some(thing) = self.things.get_mut(&key) {
                thing.busy = None;
                if marks {
                    thing.state(if outcome.is_ok() { "Succeeded" } else { "Failed" });
                }
            }
        }
        let now = self.clock.tick();
        if let Some(operation) = self.operations.get_mut(id) {
            operation.outcome = Some(outcome);
            operation.ended = now;
        }
    }

    /// Brings all to their end.
    pub(crate) fn finish_all(&mut self) {
        for id in self.operations.keys().cloned().collect::<Vec<_>>() {
            self.finish(&id);
        }
    }

    /// Ids of those that go on.
    pub(crate) fn under_way(&self) -> Vec<String> {
        let going = self.operations.iter().filter(|(_, operation)| operation.work.is_some());
        going.map(|(id, _)| id.clone()).collect()
    }

    /// The answer to a look by a client.
    pub(crate) fn operation(&mut self, asked: &Asked, id: &str) -> Ruled<Answer> {
        let secret = asked.query.get("s").cloned().unwrap_or_default();
        if self.operations.get(id).is_none_or(|operation| operation.secret != secret) {
            return Err(refuse(
                404,
                "ResourceNotFound",
                format!("The entity was not found. Activity id: {id}"),
            ));
        }
        self.look(id);
        let again = ("Retry-After".to_owned(), self.config.retry_after.to_string());
        let Some(operation) = self.operations.get(id) else { return Ok(Answer::empty(404)) };
        let monitors = asked.query.contains_key("monitor");
        let ended = operation.outcome.as_ref();
        if monitors {
            return Ok(match ended {
                None => {
                    let query: Vec<_> =
                        asked.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    let here = format!("{}{}?{}", asked.base, asked.path, query.join("&"));
                    Answer::empty(202).with(vec![("Location".into(), here), again])
                }
                Some(Err(refusal)) => refusal.answer(),
                Some(Ok(Some(value))) => Answer::new(200, value.clone()),
                Some(Ok(None)) => Answer::empty(if operation.deletes { 204 } else { 200 }),
            });
        }
        let mut body = json!({ "startTime": written(operation.began), "name": id, "status": "InProgress" });
        match ended {
            None => return Ok(Answer::new(200, body).with(vec![again])),
            Some(Err(refusal)) => {
                body["status"] = "Failed".into();
                body["error"] = refusal.error();
            }
            Some(Ok(output)) => {
                body["status"] = "Succeeded".into();
                if let Some(output) = output {
                    body["properties"] = json!({ "output": output });
                }
            }
        }
        body["endTime"] = written(operation.ended).into();
        Ok(Answer::new(200, body))
    }
}
