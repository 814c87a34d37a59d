//! Asks the holder.

use super::{Heard, Said, line};
use crate::answer::{Answer, Failed};
use crate::execute::{Out, Request};
use site_recovery::{Error, ErrorKind};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The holder took it, and this is the end.
    Ended(Result<Answer, Failed>),
    /// Nobody took it: the holder begins or ends just now.
    Nobody,
}

/// Asks whoever holds the vault of this state directory.
///
/// # Cancel safety
/// Dropping the future leaves; a job that was begun goes on at the holder.
pub(crate) async fn ask(state: &Path, request: &Request, out: &Out) -> Asked {
    let Ok(stream) = UnixStream::connect(super::serve::socket(state)).await else { return Asked::Nobody };
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    if writer.write_all(&line(&Said::Ask(Box::new(request.clone())))).await.is_err() {
        return Asked::Nobody;
    }
    let (mut accepted, mut stopped) = (false, false);
    loop {
        let heard = tokio::select! {
            heard = lines.next_line() => heard,
            () = out.stopped(), if !stopped => {
                stopped = true;
                let _ = writer.write_all(&line(&Said::Stop)).await;
                continue;
            }
        };
        let Some(text) = heard.ok().flatten() else { break };
        match serde_json::from_str(&text) {
            Ok(Heard::Accepted { pid }) => {
                accepted = true;
                tracing::debug!(pid, "done by the holder");
            }
            Ok(Heard::Told(told)) => out.tell(told),
            Ok(Heard::Answer(answer)) => return Asked::Ended(Ok(*answer)),
            Ok(Heard::Failed(failed)) => return Asked::Ended(Err(failed)),
            Err(error) => {
                let message = "the holder of the vault speaks another version: end it, and start it anew";
                return Asked::Ended(Err(Error::new(ErrorKind::Unsupported, message).caused_by(error).into()));
            }
        }
    }
    if !accepted {
        return Asked::Nobody;
    }
    let message = "the process that did this ended in the middle; the next start goes on with what was begun";
    Asked::Ended(Err(Error::new(ErrorKind::Unavailable, message).into()))
}

