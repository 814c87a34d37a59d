//! The holder's side: what others ask is done here.

use super::{Heard, LONGEST, Said, line};
use crate::answer::Failed;
use crate::args::Asked;
use crate::engine::Engine;
use crate::execute::{Out, execute};
use site_recovery::{Clock, Error, ErrorKind, Result, SystemClock};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The socket of a state directory.
pub(super) fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// Where others ask. Only the holder of the lock opens one.
#[derive(Debug)]
pub(crate) struct Desk {
    listener: UnixListener,
    path: PathBuf,
    uid: u32,
}

impl Desk {
    /// Opens it, in place of one that a crash left.
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` for a path that is too long for a socket.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let path = socket(state);
        let failed = |e: std::io::Error| {
            let kind = match e.kind() {
                std::io::ErrorKind::InvalidInput => ErrorKind::Invalid,
                std::io::ErrorKind::StorageFull => ErrorKind::OutOfSpace,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("cannot listen at {}", path.display())).caused_by(e)
        };
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let uid = std::fs::metadata(&path).map_err(failed)?.uid();
        Ok(Self { listener, path, uid })
    }

    /// Does what others ask, until `work` is over and what they have begun by then is, too; `patience` is how long that is
    /// waited for.
    pub(crate) async fn until<T>(
        self,
        engine: &Arc<Engine>,
        work: impl Future<Output = T>,
        out: &Out,
        patience: Duration,
    ) -> T {
        let mut others = JoinSet::new();
        let (leave, leaving) = watch::channel(false);
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = others.join_next(), if !others.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if self.is_ours(&stream) => {
                        others.spawn(serve(Arc::clone(engine), stream, leaving.clone()));
                    }
                    Ok(_) => tracing::warn!("somebody else's request was refused"),
                    Err(error) => tracing::warn!(%error, "a request did not come about"),
                },
            }
        };
        drop(self);
        leave.send_replace(true);
        while others.try_join_next().is_some() {}
        if !others.is_empty() {
            out.note(format!("waiting for {} that others asked for here", others.len()));
        }
        let all = async { while others.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = SystemClock.sleep(patience) => out.note("not waiting any longer: the next start goes on"),
        }
        done
    }

    /// Of the owner of the vault, or of root.
    fn is_ours(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == self.uid || peer.uid() == 0)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One request, to its end. Whoever asked may leave: a job goes on, and what is only for them is stopped.
async fn serve(engine: Arc<Engine>, stream: UnixStream, mut leaving: watch::Receiver<bool>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(LONGEST)).lines();
    let request = match hear(&mut lines).await {
        Some(Ok(Said::Ask(request))) => request,
        Some(_) => {
            let message = "the holder of the vault is of another version: end it, and start it anew";
            let failed = Failed::from(Error::new(ErrorKind::Unsupported, message));
            let _ = writer.write_all(&line(&Heard::Failed(failed))).await;
            return;
        }
        None => return,
    };
    let pid = std::process::id();
    if writer.write_all(&line(&Heard::Accepted { pid })).await.is_err() {
        return;
    }
    let (told, mut to_tell) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let out = Out::new(told, stopped);
    let for_them_alone = matches!(request.asked, Asked::Export(_));
    let work = async move {
        let end = execute(&engine, &request, &out).await;
        drop(out);
        end
    };
    tokio::pin!(work);
    let (mut listens, mut end) = (true, None);
    loop {
        tokio::select! {
            done = &mut work, if end.is_none() => end = Some(done),
            () = left(&mut leaving), if for_them_alone && !*stop.borrow() => {
                stop.send_replace(true);
            }
            told = to_tell.recv() => match told {
                Some(told) => {
                    let _ = writer.write_all(&line(&Heard::Told(told))).await;
                }
                None => break,
            },
            said = hear(&mut lines), if listens => match said {
                Some(_) => {
                    stop.send_replace(true);
                }
                None => {
                    listens = false;
                    if for_them_alone {
                        stop.send_replace(true);
                    }
                }
            },
        }
    }
    let end = match end {
        Some(Ok(answer)) => Heard::Answer(Box::new(answer)),
        Some(Err(failed)) => Heard::Failed(failed),
        None => Heard::Failed(Failed::from(Error::new(ErrorKind::Cancelled, "it ended without a word"))),
    };
    let _ = writer.write_all(&line(&end)).await;
    let _ = writer.shutdown().await;
}

/// Ends when the holder ends.
async fn left(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

/// The next line; none at the end.
async fn hear(lines: &mut Lines<impl AsyncBufRead + Unpin>) -> Option<serde_json::Result<Said>> {
    let text = lines.next_line().await.ok().flatten()?;
    Some(serde_json::from_str(&text))
}
