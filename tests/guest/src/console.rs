use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a guest said, in the file that its serial port writes to.
#[derive(Debug, Clone)]
pub struct Console(PathBuf);

impl Console {
    /// The file may not be there yet.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self(file.into())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The lines that are whole, without what moves a cursor.
    pub fn lines(&self) -> Vec<String> {
        let bytes = fs::read(&self.0).unwrap_or_default();
        let whole = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        String::from_utf8_lossy(&bytes[..whole]).split('\n').map(plain).collect()
    }

    /// How many records the guest has said to be durable.
    pub fn acknowledged(&self) -> u64 {
        let last = self.lines().iter().rev().find_map(|line| line.strip_prefix("ACK ")?.parse::<u64>().ok());
        last.map_or(0, |number| number + 1)
    }

    /// The first line that is wanted, as soon as it is there. Blocks the thread.
    ///
    /// # Errors
    /// What the guest said instead, when it took longer than that.
    pub fn wait_for(&self, bound: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        const TURN: Duration = Duration::from_millis(20);
        for _ in 0..=bound.as_millis() / TURN.as_millis() {
            if let Some(line) = self.lines().into_iter().find(|line| wanted(line)) {
                return Ok(line);
            }
            std::thread::sleep(TURN);
        }
        let (acks, rest): (Vec<_>, Vec<_>) = self.lines().into_iter().partition(|l| l.starts_with("ACK "));
        let (acks, end) = (acks.len(), rest[rest.len().saturating_sub(30)..].join("\n"));
        Err(format!("not on the console within {bound:?}; beside {acks} acknowledgements, its end:\n{end}"))
    }
}

/// Without escape sequences and carriage returns.
fn plain(line: &str) -> String {
    let mut kept = String::new();
    let mut chars = line.chars().filter(|c| *c != '\r');
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            kept.push(c);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_without_marks() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::new(dir.path().join("console"));
        assert_eq!((console.lines().len(), console.acknowledged()), (1, 0));
        fs::write(console.path(), "\x1b[H\x1b[J\x1b[1;1HGUEST A\r\nACK 0\r\nACK 1\r\nHOOK freeze\r\nACK 2")
            .unwrap();
        assert_eq!(console.lines(), ["GUEST A", "ACK 0", "ACK 1", "HOOK freeze"]);
        assert_eq!(console.acknowledged(), 2);
        assert_eq!(console.wait_for(Duration::ZERO, |l| l.starts_with("ACK")).unwrap(), "ACK 0");
        assert!(console.wait_for(Duration::ZERO, |l| l == "ACK 2").unwrap_err().contains("HOOK freeze"));
    }
}
