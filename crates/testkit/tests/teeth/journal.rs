use crate::Fault;
use crate::fault::is;
use async_trait::async_trait;
use site_recovery::{Append, ErrorKind, Journal, LastEntry, Result};
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
    ("JRN-6", "last entries are those of the fold"),
    ("JRN-6", "a page of last entries begins with the one before"),
    ("JRN-6", "last entries are more than asked for"),
    ("JRN-6", "last entries are capped"),
    ("JRN-6", "last entries are chosen before they are sorted"),
    ("JRN-6", "last entries are by name without case"),
    ("JRN-6", "last entries of other prefixes come along"),
    ("JRN-6", "a damaged last entry is left out"),
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

    async fn last_entries(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<LastEntry>> {
        self.flush().await?;
        if is("a damaged last entry is left out") {
            let mut whole = vec![];
            for subject in self.honest.subjects().await? {
                whole.extend(self.honest.last_entries(&subject, "", most).await.unwrap_or_default());
            }
            whole.retain(|last| last.subject.starts_with(prefix));
            return Ok(whole);
        }
        if is("last entries of other prefixes come along") {
            return self.honest.last_entries(prefix.trim_end_matches('/'), after, most).await;
        }
        if is("a page of last entries begins with the one before") && !after.is_empty() {
            let mut all = self.honest.last_entries(prefix, "", usize::MAX).await?;
            all.retain(|last| last.subject.as_str() >= after);
            all.truncate(most);
            return Ok(all);
        }
        if is("last entries are capped") {
            return self.honest.last_entries(prefix, after, most.min(256)).await;
        }
        if is("last entries are chosen before they are sorted") {
            let mut all = self.honest.last_entries(prefix, after, usize::MAX).await?;
            all.sort_by_key(|last| std::cmp::Reverse(last.count));
            all.truncate(most);
            all.sort_by(|a, b| a.subject.cmp(&b.subject));
            return Ok(all);
        }
        if is("last entries are by name without case") {
            let mut all = self.honest.last_entries(prefix, "", usize::MAX).await?;
            all.sort_by_key(|last| last.subject.to_lowercase());
            all.retain(|last| last.subject.to_lowercase() > after.to_lowercase());
            all.truncate(most);
            return Ok(all);
        }
        if is("last entries are more than asked for") {
            return self.honest.last_entries(prefix, after, usize::MAX).await;
        }
        let mut all = self.honest.last_entries(prefix, after, most).await?;
        if is("last entries are those of the fold") {
            for last in &mut all {
                last.entry = self.honest.load(&last.subject).await?.1.remove(0);
            }
        }
        Ok(all)
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
