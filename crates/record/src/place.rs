use site_recovery::{DiskId, Hash, MachineId, Run};

/// Where a record belongs, and the checksum of what it holds. A frame is bound to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) machine: &'a MachineId,
    pub(crate) disk: &'a DiskId,
    pub(crate) run: Run,
    pub(crate) checksum: Hash,
}

impl Place<'_> {
    /// As bytes. Lengths stand before names, so that no two places read the same.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let names = [self.machine.as_str(), self.disk.as_str()];
        let mut bytes = Vec::with_capacity(48 + names[0].len() + names[1].len());
        for name in names {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes.extend(self.run.start.to_le_bytes());
        bytes.extend(self.run.len.to_le_bytes());
        bytes.extend(self.checksum.to_le_bytes());
        bytes
    }
}
