use crate::Fault;
use crate::fault::is;
use async_trait::async_trait;
use site_recovery::{Append, ErrorKind, Journal, Result};
use std::sync::{Arc, Mutex};

pub(crate) const FAULTS: &[Fault] = &[
    ("JRN-1", "an append of several subjects waits for a flush"),
    ("JRN-2", "append stops at the first wrong count"),
    ("JRN-2", "append takes the count that it finds"),
    ("JRN-3", "load skips a damaged entry"),
    ("JRN-3", "load tells the newest entry first"),
    ("JRN-4", "fold begins the count anew"),
    ("JRN-4", "fold takes the count that it finds"),
    ("JRN-5", "a newer version is opened"),
];

#[derive(Debug)]
pub(crate) struct BrokenJournal {
    honest: Arc<dyn Journal>,
    waiting: Mutex<Vec<Vec<Append>>>,
}

impl BrokenJournal {
    pub(crate) fn new(honest: Arc<dyn Journal>) -> Self {
        Self { honest, waiting: Mutex::default() }
    }

    async fn flush(&self) -> Result<()> {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        for all in waiting {
            self.honest.append(&all).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for BrokenJournal {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.flush().await?;
        self.honest.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.flush().await?;
        let mut loaded = self.honest.load(subject).await;
        if is("load skips a damaged entry")
            && let Err(error) = &loaded
            && error.kind() == ErrorKind::Corrupt
        {
            loaded = Ok((3, vec![b"two".to_vec(), b"three".to_vec()]));
        }
        let (mut count, mut entries) = loaded?;
        if is("load tells the newest entry first") {
            entries.reverse();
        }
        if is("fold begins the count anew") && entries.first().is_some_and(|e| e == b"both") {
            count = entries.len() as u64;
        }
        Ok((count, entries))
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        if is("an append of several subjects waits for a flush") && all.len() > 1 {
            self.flush().await?;
            for append in all {
                if self.honest.load(&append.subject).await?.0 != append.expect {
                    return self.honest.append(all).await;
                }
            }
            self.waiting.lock().unwrap().push(all.to_vec());
            return Ok(());
        }
        if is("append stops at the first wrong count") {
            for one in all {
                self.honest.append(std::slice::from_ref(one)).await?;
            }
            return Ok(());
        }
        if is("append takes the count that it finds") {
            for one in all {
                let expect = self.honest.load(&one.subject).await?.0;
                self.honest.append(&[Append { expect, ..one.clone() }]).await?;
            }
            return Ok(());
        }
        self.honest.append(all).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.flush().await?;
        let found = self.honest.load(subject).await?.0;
        let expect = if is("fold takes the count that it finds") { found } else { expect };
        self.honest.fold(subject, expect, snapshot).await
    }
}
