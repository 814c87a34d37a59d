//! S3: what tracing a disk costs those who write to it.
//!
//! The disk is a loop device over a file in memory: nothing slow stands behind it that would hide the cost.

use crate::Outcome;
use crate::group::Group;
use crate::hosts::{Disk, Ground};
use crate::programs::{need, shell};
use crate::report::Report;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SIZE: u64 = 512 << 20;
/// Of 4 KiB, in each run.
const WRITES: u32 = 200_000;
/// Processor time of a write, in microseconds, that tracing may take.
const MOST: f64 = 2.0;
/// The throughput that has to be left, traced.
const LEFT: f64 = 0.90;
const SECONDS: u32 = 5;

pub(crate) fn of_a_disk(report: &Report, pairs: usize) -> Outcome<()> {
    need(&["fio"])?;
    let ground = Ground::new("bench-S3");
    let memory = ground.dir().join("memory");
    std::fs::create_dir(&memory)?;
    // Taken down with the ground.
    shell("mount -t tmpfs -o size=1g tmpfs \"$AT\"", &[("AT", &memory)])?;
    let disk = Disk::over(&ground, &memory.join("disk.raw"), SIZE);
    // Once, so that all of its memory is there.
    cost(disk.device(), "untraced")?;
    let (mut costs, mut rates) = (vec![], vec![]);
    for number in 0..pairs {
        let (traced, untraced) = in_turn(number, |how| cost(disk.device(), how))?;
        costs.push(((traced - untraced) * 1e6 / f64::from(WRITES), MOST));
        println!(
            "       {:.2} us a write traced, {:.2} untraced",
            traced * 1e6 / f64::from(WRITES),
            untraced * 1e6 / f64::from(WRITES)
        );
    }
    for number in 0..pairs {
        let (traced, untraced) = in_turn(number, |how| rate(disk.device(), how))?;
        rates.push((1e6 / traced, 1e6 / untraced));
    }
    report.figures(
        "S3",
        "us of CPU that tracing adds to a write of 4 KiB, against the goal",
        &costs,
        Some(1.0),
    )?;
    report.figures(
        "S3",
        "us from write to write of fio randwrite 4 KiB, traced against not",
        &rates,
        Some(1.0 / LEFT),
    )
}

fn in_turn(number: usize, mut measure: impl FnMut(&str) -> Outcome<f64>) -> Outcome<(f64, f64)> {
    if number.is_multiple_of(2) {
        let traced = measure("traced")?;
        return Ok((traced, measure("untraced")?));
    }
    let untraced = measure("untraced")?;
    Ok((measure("traced")?, untraced))
}

/// Processor seconds of a process that writes and, where it is traced, reads the trace of its writes.
fn cost(device: &Path, how: &str) -> Outcome<f64> {
    let group = Group::new()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", "write"]).arg(device).args([&WRITES.to_string(), how]);
    let status = group.command(&command).status()?;
    if status.success() { group.cpu() } else { Err(format!("{status} of {command:?}").into()) }
}

/// Writes a second, by fio.
fn rate(device: &Path, how: &str) -> Outcome<f64> {
    let tracer = if how == "traced" { Some(Tracer::of(device)?) } else { None };
    let mut fio = Command::new("fio");
    fio.args([
        "--name=write",
        "--rw=randwrite",
        "--bs=4k",
        "--direct=1",
        "--ioengine=libaio",
        "--iodepth=16",
    ]);
    fio.args(["--norandommap", "--time_based", "--output-format=json"]);
    fio.arg(format!("--runtime={SECONDS}")).arg(format!("--filename={}", device.display()));
    let said = fio.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    tracer.map_or(Ok(()), Tracer::end)?;
    if !said.status.success() {
        return Err(format!("{} of {fio:?}", said.status).into());
    }
    let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    Ok(said["jobs"][0]["write"]["iops"].as_f64().ok_or("fio says no iops")?)
}

/// A tracer in a process of its own. Killed when dropped.
struct Tracer(Child);

impl Tracer {
    fn of(device: &Path) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", "trace"]).arg(device);
        let mut this = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let out = this.0.stdout.take().ok_or("it has no output")?;
        let said = BufReader::new(out).lines().map_while(Result::ok).next();
        if said.as_deref() == Some("tracing") { Ok(this) } else { Err("the tracer did not begin".into()) }
    }

    /// An error where it did not see everything.
    fn end(mut self) -> Outcome<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the tracer ended with {status}").into()) }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}
