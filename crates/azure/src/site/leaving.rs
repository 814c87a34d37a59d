//! A machine that is being removed. Who is broken off in the midst of it finds less of it than there was, which would read as if
//! somebody had started it since.

use super::Site;
use super::mark::{Mark, Marked};
use site_recovery::{Power, Result, StartGuard};
use site_recovery_azure_arm::Disk;

impl Site {
    /// Notes how the machine reads before the first of it goes.
    pub(super) async fn note_leaving(&self, marked: &mut Marked) -> Result<()> {
        if marked.mark.leaving.is_some() {
            return Ok(());
        }
        let Ok(Power::Off { start: StartGuard::Tells(stamp) }) = self.power_of(&marked.mark).await else {
            return Ok(());
        };
        let next = Mark { leaving: Some(stamp), ..marked.mark.clone() };
        self.set_mark(marked, next).await
    }
}

/// How it reads once the machine is gone: as before its removal began, until its mark goes as well.
pub(super) fn leaving(mark: &Mark, disks: &[Disk]) -> Option<Power> {
    let stamp = mark.leaving.clone().filter(|_| disks.iter().all(|disk| disk.managed_by.is_none()))?;
    Some(Power::Off { start: StartGuard::Tells(stamp) })
}
