//! Bytes as they come, cut into lines.

use std::fmt;

/// A line is longer than is taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Bytes that came and were not taken as lines yet.
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where no end of a line was found.
    looked: usize,
    most: usize,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(crate) fn of_at_most(most: usize) -> Self {
        Self { bytes: vec![], start: 0, looked: 0, most }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end (`\n` or `\r\n`); nothing while there is none.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let end = self.bytes[self.looked..].iter().position(|b| *b == b'\n').map(|at| self.looked + at);
        self.looked = end.unwrap_or(self.bytes.len());
        let stretch = self.start..self.looked;
        if stretch.len() > self.most {
            return Err(TooLong);
        }
        if end.is_none() {
            return Ok(None);
        }
        self.start = stretch.end + 1;
        self.looked = self.start;
        let line = &self.bytes[stretch];
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// What came and is not a whole line yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether more is taken before lines are.
    pub(crate) fn has_room(&self) -> bool {
        self.rest().len() <= self.most
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Forgets the line that is too long, as far as it came.
    pub(crate) fn forget(&mut self) {
        self.start = self.looked;
    }
}

impl fmt::Debug for Lines {
    /// Without the bytes: they may hold what no log should.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({} bytes)", self.rest().len())
    }
}
