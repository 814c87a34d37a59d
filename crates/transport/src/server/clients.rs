//! One connection per client: a newer one ends the older, and begins when that is over.
//!
//! So nothing that a client gave up with a connection can strike after what it asked for on the next one.

use crate::fault::{Fault, Result};
use site_recovery::{Error, ErrorKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug)]
struct Entry {
    connection: u64,
    /// Set to end it.
    ended: watch::Sender<bool>,
    /// Closed when it is over.
    over: watch::Receiver<()>,
}

/// A client's place. It is given back when what the connection began is dropped: keep it before that.
#[derive(Debug)]
pub(crate) struct Registered {
    all: Arc<Mutex<HashMap<String, Entry>>>,
    client: String,
    is_ended: watch::Receiver<bool>,
    _alive: watch::Sender<()>,
}

impl Clients {
    /// Waits until an older connection of the same client is over.
    pub(crate) async fn register(&self, client: &str, connection: u64) -> Result<Registered, Fault> {
        loop {
            let mut over = match self.enter(client, connection)? {
                Ok(registered) => return Ok(registered),
                Err(over) => over,
            };
            let _ = over.changed().await;
        }
    }

    fn enter(&self, client: &str, connection: u64) -> Result<Result<Registered, watch::Receiver<()>>, Fault> {
        let mut all = self.0.lock().expect("no panic under this lock");
        if let Some(other) = all.get(client) {
            if other.connection >= connection {
                let older =
                    Error::new(ErrorKind::Conflict, "a newer connection of this client is here already");
                return Err(Fault::Unwelcome(older));
            }
            let _ = other.ended.send(true);
            return Ok(Err(other.over.clone()));
        }
        let ((ended, is_ended), (alive, over)) = (watch::channel(false), watch::channel(()));
        all.insert(client.to_owned(), Entry { connection, ended, over });
        let all = Arc::clone(&self.0);
        Ok(Ok(Registered { all, client: client.to_owned(), is_ended, _alive: alive }))
    }
}

impl Registered {
    /// Ends when a newer connection of the client is here.
    pub(crate) async fn superseded(&self) {
        let _ = self.is_ended.clone().wait_for(|ended| *ended).await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Ok(mut all) = self.all.lock() {
            all.remove(&self.client);
        }
    }
}
