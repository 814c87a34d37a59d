//! Does a verb: here, where nobody else works, or by whoever does.

use crate::answer::{Answer, Failed, Told};
use crate::control::{self, Asked, Desk, Lock};
use crate::engine::Engine;
use crate::execute::{Out, Request, execute};
use crate::interrupts::Interrupts;
use crate::screen::Screen;
use crate::settings::Settings;
use site_recovery::{Clock, Error, ErrorKind, SystemClock};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a holder that does not answer is waited for: it may just begin, or end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Others' jobs are waited for to their end: a verb that leaves them would interrupt them.
const FOR_OTHERS: Duration = Duration::from_secs(7 * 86_400);

/// Does what is asked, tells it on the screen, and hears Ctrl-C: once it asks the verb to turn back or stop, twice it leaves.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn work(settings: Settings, request: &Request, screen: &mut Screen) -> Result<Answer, Failed> {
    let (told, mut to_show) = mpsc::unbounded_channel::<Told>();
    let (stop, stopped) = watch::channel(false);
    let mut interrupts = Interrupts::heard()?;
    let out = Out::new(told, stopped);
    let doing = async move {
        let end = here_or_there(settings, request, &out).await;
        drop(out);
        end
    };
    tokio::pin!(doing);
    let mut end = None;
    loop {
        tokio::select! {
            done = &mut doing, if end.is_none() => end = Some(done),
            told = to_show.recv() => match told {
                Some(told) => screen.show(told),
                None => break,
            },
            () = interrupts.next() => match stop.send_replace(true) {
                false => screen.show(Told::Note("stopping; Ctrl-C again leaves at once".into())),
                true => screen.leave(),
            },
        }
    }
    screen.rest();
    end.unwrap_or_else(|| Err(Error::new(ErrorKind::Cancelled, "it ended without a word").into()))
}

async fn here_or_there(settings: Settings, request: &Request, out: &Out) -> Result<Answer, Failed> {
    let state = settings.vault.state.clone();
    let since = SystemClock.now();
    loop {
        if let Some(lock) = Lock::take(&state)? {
            return here(lock, settings, request, out).await;
        }
        match control::ask(&state, request, out).await {
            Asked::Ended(end) => return end,
            Asked::Nobody if SystemClock.now().since(since) > PATIENCE => {
                let pid = Lock::holder(&state).map_or_else(String::new, |pid| format!(", process {pid},"));
                let message = format!("another process{pid} holds the vault and does not answer: end it, or wait");
                return Err(Error::new(ErrorKind::Busy, message).into());
            }
            Asked::Nobody => SystemClock.sleep(PAUSE).await,
        }
    }
}

async fn here(lock: Lock, settings: Settings, request: &Request, out: &Out) -> Result<Answer, Failed> {
    let desk = Desk::open(&settings.vault.state)?;
    let engine = Arc::new(Engine::open(settings).await?);
    let end = desk.until(&engine, execute(&engine, request, out), out, FOR_OTHERS).await;
    drop(engine);
    drop(lock);
    end
}
