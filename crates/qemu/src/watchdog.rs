//! A frozen or paused guest goes on even when this process is killed: a shell that holds the connections, and says the word
//! when we fall silent.
//!
//! The shell has the guest agent's connection as its output and the monitor's as its error output. Since it holds them,
//! QEMU does not drop what this process had queued when it dies.

use site_recovery::{Error, ErrorKind, Result};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Waits for a word, for the end of its input, or for its limit. `on` ends it; at everything else it lets the guest go on. A
/// byte 0xFF makes both parsers forget half a message that we may have died in.
///
/// Then it holds the connections until both have answered: QEMU forgets what a client asked for that has gone, and an agent
/// that finds nobody to answer does nothing else until somebody comes. At `thaw` we live, and use the monitor ourselves. Last
/// it takes the sleepers of its group along.
const SCRIPT: &str = r#"
thaw() { printf '\377{"execute":"guest-fsfreeze-thaw"}\n'; }
cont() { printf '\377{"execute":"cont","id":"dr-watchdog"}\n' >&2; }
answered() {
    while read -r line; do case $line in *"$1"*) break ;; esac; done
}
(sleep "$1" </dev/null >/dev/null 2>&1; thaw; cont) &
limit=$!
read -r word || word=gone
if [ "$word" != on ]; then
    kill "$limit" 2>/dev/null
    thaw
    printf '{"execute":"guest-sync","arguments":{"id":%s}}\n' "$3"
    (sleep "$2"; kill -9 0) </dev/null >/dev/null 2>&1 &
    if [ "$word" = gone ]; then cont; answered dr-watchdog <&2; fi
    exec 2>/dev/null
    answered "$3" <&1
fi
trap '' TERM
kill 0
"#;

/// How long the shell waits for answers: longer than an agent's hooks take, which it does not end.
const ANSWER: Duration = Duration::from_secs(600);
/// In the agent's last answer, and in nothing else that it says.
const LAST: &str = "731205887104223";

/// Stands while a guest is held.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Option<Child>,
    word: Option<ChildStdin>,
    /// Whether it watches over an agent, whose answer may take long.
    freezes: bool,
}

impl Watchdog {
    /// Watches from now on. Without a connection, that part is not watched.
    ///
    /// # Errors
    /// `Unavailable` where no shell can be started: then nothing may be held.
    pub(crate) fn over(
        launcher: &[String],
        agent: Option<OwnedFd>,
        monitor: Option<OwnedFd>,
        limit: Duration,
    ) -> Result<Self> {
        let seconds = |span: Duration| format!("{}.{:03}", span.as_secs(), span.subsec_millis());
        let end = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let freezes = agent.is_some();
        let mut words = launcher.iter().map(String::as_str).chain(["/bin/sh"]);
        let mut shell = Command::new(words.next().expect("a word"))
            .args(words)
            .args(["-c", SCRIPT, "watchdog", &seconds(limit), &seconds(ANSWER), LAST])
            .stdin(Stdio::piped())
            .stdout(end(agent))
            .stderr(end(monitor))
            .process_group(0) // what is meant for our group does not reach it, nor the other way round
            .spawn()
            .map_err(|e| {
                Error::new(ErrorKind::Unavailable, "no shell can watch over the guest").caused_by(e)
            })?;
        let word = shell.stdin.take();
        Ok(Self { shell: Some(shell), word, freezes })
    }

    /// The guest goes on by our own hand: the shell ends, and lets the connections go.
    pub(crate) fn release(mut self) {
        self.say("on\n");
        self.wait();
    }

    fn say(&mut self, what: &str) {
        if let Some(mut word) = self.word.take() {
            let _it_has_acted = word.write_all(what.as_bytes());
        }
    }

    fn wait(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            let _ended = shell.wait();
        }
    }
}

impl Drop for Watchdog {
    /// Without the word it lets the guest go on. Waits for that, but not for an agent, which may be in a hook that hangs: the
    /// shell thaws it when it comes back.
    fn drop(&mut self) {
        if !self.freezes {
            self.word = None;
            return self.wait();
        }
        self.say("thaw\n");
        if let Some(mut shell) = self.shell.take() {
            std::thread::spawn(move || shell.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    const THAW: &[u8] = b"\xff{\"execute\":\"guest-fsfreeze-thaw\"}\n";
    const CONT: &[u8] = b"\xff{\"execute\":\"cont\",\"id\":\"dr-watchdog\"}\n";
    const SYNC: &[u8] = b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":731205887104223}}\n";
    /// Longer than any test may take.
    const LONG: Duration = Duration::from_secs(60);

    /// A watchdog over both ends of a guest, and what the guest hears.
    fn over(limit: Duration) -> (Watchdog, UnixStream, UnixStream) {
        let (agent, heard_by_agent) = UnixStream::pair().unwrap();
        let (monitor, heard_by_monitor) = UnixStream::pair().unwrap();
        for heard in [&heard_by_agent, &heard_by_monitor] {
            heard.set_read_timeout(Some(LONG)).unwrap();
        }
        let watchdog = Watchdog::over(&[], Some(agent.into()), Some(monitor.into()), limit).unwrap();
        (watchdog, heard_by_agent, heard_by_monitor)
    }

    fn hears(heard: &mut UnixStream, word: &[u8]) {
        let mut words = vec![0; word.len()];
        heard.read_exact(&mut words).unwrap();
        assert_eq!(words, word);
    }

    /// The connection is over, and nothing more was said.
    fn is_let_go(mut heard: UnixStream) {
        let mut words = vec![];
        heard.read_to_end(&mut words).unwrap();
        assert_eq!(String::from_utf8_lossy(&words), "");
    }

    fn is_held(heard: &UnixStream) {
        heard.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let nothing = (&mut &*heard).read(&mut [0]).unwrap_err();
        assert_eq!(
            nothing.kind(),
            std::io::ErrorKind::WouldBlock,
            "the connection is over: QEMU forgets what was asked"
        );
        heard.set_read_timeout(Some(LONG)).unwrap();
    }

    fn living(group: u32) -> usize {
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
        let of_group = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let rest: Vec<String> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
            (rest[2] == group.to_string() && rest[0] != "Z" && rest[0] != "X").then_some(())
        };
        processes.filter_map(|p| of_group(&p)).count()
    }

    /// A moment is given to those that were told to end.
    fn nobody_is_left(group: u32) {
        let looked = crate::deadline::within(LONG, Duration::from_millis(5), || {
            Ok::<_, std::convert::Infallible>(living(group) == 0)
        });
        assert_eq!(looked, Ok(true), "a process of the watchdog is left");
    }

    #[test]
    fn at_its_limit_the_guest_goes_on_while_we_still_hold_it() {
        let (watchdog, mut agent, mut monitor) = over(Duration::from_millis(50));
        let group = watchdog.shell.as_ref().unwrap().id();
        hears(&mut agent, THAW);
        hears(&mut monitor, CONT);
        watchdog.release();
        is_let_go(agent);
        is_let_go(monitor);
        nobody_is_left(group);
    }

    #[test]
    fn when_we_end_without_a_word_the_guest_goes_on_and_is_held_until_it_has_answered() {
        let (mut watchdog, mut agent, mut monitor) = over(LONG);
        let group = watchdog.shell.as_ref().unwrap().id();
        watchdog.word = None; // as the kernel closes it when we are killed
        hears(&mut agent, THAW);
        hears(&mut monitor, CONT);
        monitor.write_all(b"{\"error\": {}}\n{\"event\": \"RESUME\"}\n").unwrap();
        is_held(&monitor);
        monitor.write_all(b"{\"return\": {}, \"id\": \"dr-watchdog\"}\n").unwrap();
        is_let_go(monitor);
        hears(&mut agent, SYNC);
        // A freeze that comes late is answered, then what we broke off, then the thaw.
        for answer in ["{\"return\": 2}\n", "{\"error\": {}}\n", "{\"return\": 2}\n"] {
            agent.write_all(answer.as_bytes()).unwrap();
            is_held(&agent);
        }
        agent.write_all(b"{\"return\": 731205887104223}\n").unwrap();
        is_let_go(agent);
        drop(watchdog);
        nobody_is_left(group);
    }

    #[test]
    fn dropped_it_thaws_and_holds_the_agent_alone_and_nobody_waits_for_that() {
        let (watchdog, mut agent, monitor) = over(LONG);
        let group = watchdog.shell.as_ref().unwrap().id();
        drop(watchdog);
        is_let_go(monitor);
        hears(&mut agent, THAW);
        hears(&mut agent, SYNC);
        is_held(&agent);
        agent.write_all(b"{\"return\": 731205887104223}\n").unwrap();
        is_let_go(agent);
        nobody_is_left(group);
    }

    #[test]
    fn a_guest_that_is_gone_is_not_waited_for() {
        let (watchdog, mut agent, monitor) = over(LONG);
        let group = watchdog.shell.as_ref().unwrap().id();
        for end in [&agent, &monitor] {
            end.shutdown(Shutdown::Write).unwrap();
        }
        drop(watchdog);
        hears(&mut agent, THAW);
        hears(&mut agent, SYNC);
        is_let_go(agent);
        is_let_go(monitor);
        nobody_is_left(group);
    }

    #[test]
    fn released_it_says_nothing_and_lets_the_connections_go() {
        let (watchdog, agent, monitor) = over(LONG);
        let group = watchdog.shell.as_ref().unwrap().id();
        watchdog.release();
        is_let_go(agent);
        is_let_go(monitor);
        nobody_is_left(group);
    }

    #[test]
    fn without_an_agent_the_monitor_alone_hears() {
        let (monitor, mut heard) = UnixStream::pair().unwrap();
        heard.set_read_timeout(Some(LONG)).unwrap();
        heard.shutdown(Shutdown::Write).unwrap();
        drop(Watchdog::over(&[], None, Some(monitor.into()), LONG).unwrap());
        hears(&mut heard, CONT);
        is_let_go(heard);
    }
}
