//! What this program does when it is started as `--child`: a store that is served, a writer, a tracer.

use crate::Outcome;
use site_recovery::SystemClock;
use site_recovery_physical::tracking::{Hint, Means, Written, trace::Trace};
use site_recovery_points::Points;
use site_recovery_process_server::{Key, Keyring};
use site_recovery_transport::enrol::{Credentials, JoinToken, RoleKind, ServedRole, ServiceKind, Stated};
use site_recovery_transport::{Client, Machines, Server};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// The name of the store.
pub(crate) const STORE: &str = "points";
const BLOCK: usize = 4096;

pub(crate) async fn run(words: &[String]) -> Outcome<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["store", address, token, state, key] => {
            store(address, Path::new(token), Path::new(state), Path::new(key)).await
        }
        ["write", device, count, traced] => {
            let (device, count) = (device.to_owned(), count.parse()?);
            let traced = traced == "traced";
            tokio::task::spawn_blocking(move || write(Path::new(&device), count, traced)).await?
        }
        ["trace", device] => {
            let device = device.to_owned();
            tokio::task::spawn_blocking(move || trace(Path::new(&device))).await?
        }
        _ => Err(format!("{words:?} is no run of a child").into()),
    }
}

/// Joins by a token, and keeps points for whoever comes, until it is killed. A key of no name is none.
async fn store(address: &str, token: &Path, state: &Path, key: &Path) -> Outcome<()> {
    let roles = vec![ServedRole::new(RoleKind::Store, STORE)];
    let stated = Stated { address: Some(address.to_owned()), roles };
    let token: JoinToken = std::fs::read_to_string(token)?.trim().parse()?;
    let credentials = Credentials::at(state.join("credentials")).states(stated).join(&token).await?;
    let keys =
        if key.as_os_str() == "-" { Keyring::new() } else { Keyring::new().seal_with(Key::read(key)?) };
    let points = Points::directory(STORE.into(), state.join("points"), Arc::new(SystemClock))?;
    let server = Server::builder(credentials.server_tls()).store(Arc::new(points.with_keys(keys)));
    let server = [ServiceKind::Engine, ServiceKind::ProcessServer]
        .into_iter()
        .fold(server, |server, kind| server.allow(Client::kind(kind), Machines::All));
    let _server = server.listen(address.parse()?).await?;
    println!("points serving {address}");
    std::future::pending().await
}

/// Writes blocks of 4 KiB at random, each past the page cache, before the next one.
fn write(device: &Path, count: u64, traced: bool) -> Outcome<()> {
    let file =
        OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32).open(device)?;
    let blocks = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))? / BLOCK as u64;
    let mut tracer = if traced { Some(started(device)?) } else { None };
    let (room, mut dice) = (vec![0x5a_u8; 2 * BLOCK], 0x9e37_79b9_7f4a_7c15_u64);
    let at = room.as_ptr().align_offset(BLOCK);
    for _ in 0..count {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        file.write_all_at(&room[at..at + BLOCK], dice % blocks * BLOCK as u64)?;
    }
    tracer.as_mut().map_or(Ok(()), saw)
}

/// Traces a disk until its standard input is closed.
fn trace(device: &Path) -> Outcome<()> {
    let mut tracer = started(device)?;
    println!("tracing");
    std::io::stdin().read_to_end(&mut vec![])?;
    saw(&mut tracer)
}

fn started(device: &Path) -> Outcome<Trace> {
    let mut tracer = Trace::start(device, &format!("sr-bench-{}", std::process::id()))?;
    tracer.cut();
    Ok(tracer)
}

/// A tracer that lost events measures nothing.
fn saw(tracer: &mut Trace) -> Outcome<()> {
    match tracer.cut() {
        Written::Told(Hint::Blocks(_)) => Ok(()),
        other => Err(format!("the tracer saw {other:?}").into()),
    }
}
