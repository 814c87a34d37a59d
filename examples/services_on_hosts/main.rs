//! Three services, each a process of its own, and a vault that this program embeds: a Linux server is protected through its
//! agent, drilled, failed over, replicated back to its bare disk through a master target, and failed back, over mutual TLS
//! all the way.
//!
//! ```text
//! cargo run --release --example services_on_hosts --features services     # builds all of it
//! sudo target/release/examples/services_on_hosts                          # loop devices and mounts are for root
//!
//!  agent/web-1   <── reads ── process-server/ps-1 ── ships ──> store, here        the way out
//!   127.0.0.2                   127.0.0.3  │  └──── reads ──> recovery site, here  the way back
//!   a loop device                          v
//!        ^─────────── lands ── master-target/mt-1, 127.0.0.4
//!
//!  here, 127.0.0.5: vault, keeper and its power control, authority, store, and a directory as recovery site
//! ```
//!
//! On hosts of their own these programs run with the same settings, but for the addresses. A stand-in is the server's power
//! control, and its rescue system is its agent, started to receive. Not as root it ends with a code that is not 0.

mod ground;
mod power;
mod programs;
mod proof;
mod services;
mod vault_side;

use crate::ground::Ground;
use crate::power::{StandIn, Unplug};
use crate::proof::{digest, digest_of_image, digest_of_point, orders_in, prove};
use crate::services::Services;
use crate::vault_side::VaultSide;
use bytes::Bytes;
use indicatif::HumanBytes;
use site_recovery::state::Direction;
use site_recovery::{
    CommitRequest, Consistency, Delivery, DrillRequest, Error, ErrorKind, Events, FailoverRequest, Force,
    NoticeKind, Policy, ProtectRequest, Replica, ReprotectRequest, Result,
};
use site_recovery_examples::failed;
use site_recovery_physical::power::PowerControl;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The server's site, the server, and what moves its bytes.
const SITE: &str = "hall-1";
const SERVER: &str = "web-1";
const PROCESSING: &str = "ps-1";
/// The recovery site, and the engine.
const CLOUD: &str = "dr";

fn main() -> ExitCode {
    match tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story until its end, or until a signal: then it is dropped, and with it all that it started.
fn tell() -> Result<()> {
    let programs = programs::built()?;
    if !rustix::process::geteuid().is_root() {
        let own = std::env::args().next().unwrap_or_default();
        let message = format!("loop devices and mounts are for root alone; start it once more: sudo {own}");
        return Err(Error::new(ErrorKind::Denied, message));
    }
    let runtime = Runtime::new().map_err(|e| failed("start", Path::new("threads"), e))?;
    let interrupted = runtime.block_on(async { interrupted() })?;
    let ground = Ground::new()?;
    let told = runtime.block_on(async {
        tokio::select! {
            told = story(&ground, Services { programs, dir: ground.dir() }) => told,
            () = interrupted => Err(Error::new(ErrorKind::Cancelled, "interrupted")),
        }
    });
    // An engine that was interrupted writes into the ground still.
    runtime.shutdown_timeout(Duration::from_secs(60));
    match &told {
        Ok(()) => {
            println!(
                "\nPROVEN: three services carried a server over and back, and all but the first time only what changed"
            )
        }
        Err(_) => programs::show_logs(ground.dir()),
    }
    told
}

async fn story(ground: &Ground, services: Services<'_>) -> Result<()> {
    println!("\nThree services join, each by a token that works once; the third starts on the way back");
    let vault_side = VaultSide::open(ground.dir()).await?;
    let agent = services.agent(&ground.disk)?;
    let process_server = services.process_server()?;
    let master_target = services.master_target(&ground.on_disk().join("retention"))?;

    let server = ground.dir().join("root-of-web-1");
    let power = StandIn::new(&ground.disk.device, &server, agent.clone());
    let _unplug = Unplug(power.clone());
    for program in [&agent, &process_server, &master_target] {
        vault_side.enrol(program).await?;
    }
    power.on().await?;
    let keeper = vault_side.keeper(&agent, &power)?;
    let (way_back, _renewal) = vault_side.serve_way_back(&keeper, &agent).await?;
    let process_server_runs = process_server.start().await?;
    let vault = vault_side.vault(&keeper, &process_server, &master_target).await?;
    let mut moved = Moved(vault.events());

    println!("\nProtect: everything is copied once");
    let installed = install(&server)?;
    take_order(&server, 1)?;
    let policy = Policy::every(Duration::from_secs(300));
    let web = vault.protect(ProtectRequest::machine(SERVER).policy(policy)).await?;
    web.until_done().await?;
    let first = moved.told("first copy");

    println!("\nReplicate twice, while the server goes on: only what changed");
    for order in 2..=3 {
        take_order(&server, order)?;
        vault.take_point(web.id(), Consistency::FileSystem).await?;
        let delta = moved.told(&format!("order {order}"));
        prove(delta > 0 && delta < first / 4, "a small part of the disk")?;
    }

    println!("\nThe server writes nothing for a moment, so that both sides can be compared");
    remount(&server, "ro")?;
    vault.replicate_now(web.id()).await?;
    moved.told("the rest");
    let here = digest(&ground.disk.bytes()?);
    remount(&server, "rw")?;
    let newest = web.points().await?.pop().ok_or_else(|| missing("a point"))?;
    let there = digest_of_point(&vault_side.points.open(web.id(), newest.id).await?).await?;
    println!("    the server's disk  {here}\n    its newest point   {there}");
    prove(here == there, "the newest point has every byte of the server's disk")?;

    println!("\nDrill, beside the running server");
    web.test_failover(DrillRequest::default()).await?.done().await?;
    let drill = web.item()?.drill.and_then(|drill| drill.armed).ok_or_else(|| missing("a drill"))?;
    let drilled = orders_in(&vault_side.image(&drill.instance.name)?)?;
    prove(drilled == orders(3), "the drill has orders 1 to 3, on a file system that is whole")?;
    take_order(&server, 4)?;
    web.clean_up_test().await?.done().await?;

    println!("\nFail over, unplanned: the (stand-in for a) power control switches the server off first");
    let force = Force::by("the example", "the hall burns");
    web.failover(FailoverRequest::unplanned(Direction::PrimaryToRecovery, force)).await?.done().await?;
    let item = web.item()?;
    prove(item.unproven.is_empty(), "the server is off, and held off: nobody had to be believed")?;
    let recovered = vault_side.image(SERVER)?;
    prove(digest_of_image(&recovered)? == there, "the recovered disk has every byte of the newest point")?;
    prove(orders_in(&recovered)? == orders(3), "order 4 is lost, as it came after that point")?;
    web.commit(CommitRequest::default()).await?.done().await?;

    println!("\nReprotect: back to the bare disk of the server, which starts its rescue system");
    power.press_button().await?;
    let master_target_runs = master_target.start().await?;
    let losing = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    web.reprotect(losing).await?.done().await?;
    let back = moved.told("what differs");
    // In a block that its file system does not use.
    let disk = item.machine.disks.first().ok_or_else(|| missing("a disk"))?;
    let written = Bytes::from(vec![5; 4096]);
    vault_side.cloud.write_disk(SERVER, &disk.id, ground::DISK - (1 << 20), written).await?;
    vault.replicate_now(web.id()).await?;
    let delta = moved.told("4 KiB that were written there");
    prove(back < first / 4 && delta < first / 4, "a small part of the disk each")?;
    let newest = web.points().await?.pop().ok_or_else(|| missing("a point"))?;
    let landed = vault_side.master_target(&master_target)?;
    let landed = digest_of_point(&landed.open(web.id(), newest.id).await?).await?;
    let there = digest_of_image(&recovered)?;
    println!("    the recovered disk {there}\n    what has landed    {landed}");
    prove(there == landed, "what has landed has every byte of the machine that runs there")?;

    println!(
        "\nFail back, planned: nothing is lost; the rescue system is left, and the server's own system runs again"
    );
    web.failover(FailoverRequest::planned(Direction::RecoveryToPrimary)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    let read = |name| fs::read(server.join(name)).map_err(|e| failed("read", &server.join(name), e));
    prove(digest(&read("installed")?) == installed, "what was installed on the server is there")?;
    prove(read("orders")? == orders(3).into_bytes(), "its orders are there")?;
    moved.told("last changes");
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    let again = moved.told("the way out again");
    prove(again < first / 4, "a small part of the disk")?;

    println!("\nAll are asked to end, and do");
    drop(vault);
    way_back.stop(Duration::from_secs(10)).await;
    power.off(Duration::ZERO).await?;
    process_server_runs.stop().await?;
    master_target_runs.stop().await?;
    vault_side.stop().await;
    Ok(())
}

/// What the server has that never changes: 8 MiB that nothing compresses. Returns their digest.
fn install(server: &Path) -> Result<String> {
    let file = server.join("installed");
    let installed = File::open("/dev/urandom").and_then(|mut random| {
        let mut bytes = vec![0; 8 << 20];
        random.read_exact(&mut bytes)?;
        let mut installed = File::create(&file)?;
        installed.write_all(&bytes)?;
        installed.sync_all()?;
        Ok(digest(&bytes))
    });
    installed.map_err(|e| failed("write", &file, e))
}

/// An application on the server takes an order, and it is on the disk when this returns.
fn take_order(server: &Path, number: u32) -> Result<()> {
    let file = server.join("orders");
    let opened = OpenOptions::new().create(true).append(true).open(&file);
    let taken = opened.and_then(|mut orders| {
        writeln!(orders, "order {number}")?;
        orders.sync_all()
    });
    taken.map_err(|e| failed("write", &file, e))
}

/// What the file says after so many.
fn orders(count: u32) -> String {
    (1..=count).map(|number| format!("order {number}\n")).collect()
}

fn remount(server: &Path, how: &str) -> Result<()> {
    let how = format!("remount,{how}");
    ground::tool("mount", ["-o".as_ref(), how.as_ref()], server).map(drop)
}

/// What crosses to the other side.
struct Moved(Events);

impl Moved {
    /// Says, and returns, how many bytes changed in the points that were sealed since the last time.
    fn told(&mut self, what: &str) -> u64 {
        let (mut all, mut sent) = (0, 0);
        while let Some(Delivery::Notice(notice)) = self.0.try_next() {
            if let NoticeKind::Sealed { changed, shipped, .. } = &notice.kind {
                all += changed;
                sent += shipped;
            }
        }
        println!("    {what}: {} changed, {} shipped", HumanBytes(all), HumanBytes(sent));
        all
    }
}

/// Is over when somebody ends the program: heard from now on.
fn interrupted() -> Result<impl Future<Output = ()>> {
    let deaf = |e| failed("hear", Path::new("signals"), e);
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn missing(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no such thing: {what}"))
}
