//! A person at a terminal: a pseudo-terminal of the kernel's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::Child;
use support::Ground;

/// A command on a terminal of its own.
struct Session {
    terminal: File,
    child: Option<Child>,
    seen: String,
}

impl Session {
    fn start(ground: &Ground, words: &str) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, vec![]).unwrap().into_string().unwrap();
        let side = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let mut command = ground.command(words);
        command.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
        let child = command.spawn().unwrap();
        // The command's copies of the other side go with it.
        drop(command);
        Self { terminal: controller.into(), child: Some(child), seen: String::new() }
    }

    /// Reads on until this was said.
    #[track_caller]
    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(self.more(), "{text:?} was not said: {}", self.seen);
        }
    }

    fn more(&mut self) -> bool {
        let mut waited_for = [PollFd::new(&self.terminal, PollFlags::IN)];
        let came = poll(&mut waited_for, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap();
        assert!(came > 0, "nothing was said for a minute after: {}", self.seen);
        let mut piece = [0; 4096];
        match self.terminal.read(&mut piece) {
            Ok(count) if count > 0 => {
                self.seen += &String::from_utf8_lossy(&piece[..count]);
                true
            }
            _ => false,
        }
    }

    fn say(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn end(mut self) -> (i32, String) {
        while self.more() {}
        let ended = self.child.take().unwrap().wait().unwrap();
        (ended.code().unwrap_or(-1), self.seen)
    }
}

#[test]
fn a_person_sees_the_plan_and_is_asked_before_what_is_final() {
    let ground = Ground::new();
    ground.machine("web", 1);
    for words in ["protect web", "failover web"] {
        ground.run(words).with(0);
    }
    let mut no = Session::start(&ground, "commit web");
    no.until("Type yes:");
    no.say("no\n");
    let (code, seen) = no.end();
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("Commit would do this") && seen.contains("nothing was done"), "{seen}");
    assert_eq!(ground.phase("web"), "PlannedFailoverCompleted");

    let mut yes = Session::start(&ground, "commit web");
    yes.until("Type yes:");
    yes.say("yes\n");
    let (code, seen) = yes.end();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(ground.phase("web"), "CommitFailoverCompleted");
}

#[test]
fn who_answers_by_name_is_asked_why() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    let mut over = Session::start(&ground, "failover web --unplanned");
    over.until("Why is it right?");
    over.say("the hall is dark\n");
    over.until("Type yes:");
    over.say("yes\n");
    let (code, seen) = over.end();
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("are lost"), "the plan told the loss: {seen}");
    assert_eq!(ground.phase("web"), "UnplannedFailoverCompleted");
}

#[test]
fn ctrl_c_at_a_question_does_nothing() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    let mut over = Session::start(&ground, "failover web --unplanned --yes");
    over.until("Why is it right?");
    support::signal(over.child.as_ref().unwrap(), rustix::process::Signal::INT);
    let (code, seen) = over.end();
    assert_eq!(code, 1, "{seen}");
    assert_eq!(ground.phase("web"), "Protected");
}

#[test]
fn progress_is_drawn_on_a_terminal_and_told_in_lines_elsewhere() {
    let ground = Ground::new();
    ground.machine("web", 64);
    let (code, seen) = Session::start(&ground, "protect web").end();
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("\u{1b}["), "drawn by moving about: {seen:?}");
    assert!(seen.contains("of 65.00 MiB"), "{seen:?}");
    let plain = ground.run("failover web").with(0);
    assert!(!plain.err.contains('\u{1b}') && !plain.out.contains('\u{1b}'));
    assert!(plain.err.lines().any(|line| line.ends_with(": Fence")), "{}", plain.err);
}
