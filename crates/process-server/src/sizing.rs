//! How large a host a process server needs, by the tables of Azure's capacity planning for an additional process server
//! (processors, memory, cache; machines, changes a day).

use site_recovery::{Finding, Severity};

const GB: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;

/// A host, or what is needed of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Processors.
    pub processors: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of the spool.
    pub spool: u64,
}

/// Work: machines, and bytes that change a day over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Machines.
    pub machines: u64,
    /// Bytes.
    pub changes_a_day: u64,
}

const TABLE: [(Work, Size); 3] = [
    (
        Work { machines: 85, changes_a_day: 250 * GB },
        Size { processors: 4, memory: 8 * GIB, spool: 300 * GB },
    ),
    (
        Work { machines: 150, changes_a_day: 1_000 * GB },
        Size { processors: 8, memory: 12 * GIB, spool: 600 * GB },
    ),
    (
        Work { machines: 225, changes_a_day: 2_000 * GB },
        Size { processors: 12, memory: 24 * GIB, spool: 1_000 * GB },
    ),
];

/// The smallest host of the table that is enough; `None` where the work is for several process servers.
pub fn enough_for(work: Work) -> Option<Size> {
    let fits = |most: &Work| work.machines <= most.machines && work.changes_a_day <= most.changes_a_day;
    TABLE.iter().find(|(most, _)| fits(most)).map(|(_, size)| *size)
}

/// What an operator should see to about a host that does this work. Memory counts with a tolerance of a tenth, since a
/// system tells less than it has.
pub fn findings(host: Size, work: Work) -> Vec<Finding> {
    let Some(size) = enough_for(work) else {
        let cause = format!(
            "{} machines with {} GB of changes a day are more than one process server is made for",
            work.machines,
            work.changes_a_day / GB
        );
        let remedy = "move machines to another process server";
        return vec![Finding::new("process_server.size", Severity::Warning, cause, remedy)];
    };
    let short = [
        ("processors", host.processors, size.processors, 1),
        ("GiB of memory", host.memory + host.memory / 10, size.memory, GIB),
        ("GB of spool", host.spool, size.spool, GB),
    ];
    let short: Vec<String> = short
        .into_iter()
        .filter(|(_, has, needs, _)| has < needs)
        .map(|(what, has, needs, unit)| format!("{} {what} where {} are enough", has / unit, needs / unit))
        .collect();
    if short.is_empty() {
        return vec![];
    }
    let cause = format!("for {} machines this host has {}", work.machines, short.join(", "));
    let remedy = "give it more, or move machines to another process server";
    vec![Finding::new("process_server.size", Severity::Info, cause, remedy)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(machines: u64, gb: u64) -> Work {
        Work { machines, changes_a_day: gb * GB }
    }

    #[test]
    fn the_table_has_its_rows() {
        let processors = |machines, gb| enough_for(work(machines, gb)).map(|size| size.processors);
        assert_eq!(processors(1, 0), Some(4));
        assert_eq!(
            (processors(85, 250), processors(86, 250), processors(85, 251)),
            (Some(4), Some(8), Some(8))
        );
        assert_eq!((processors(150, 1_000), processors(225, 2_000)), (Some(8), Some(12)));
        assert_eq!((processors(226, 1), processors(1, 2_001)), (None, None));
    }

    #[test]
    fn what_is_short_is_named() {
        let fine = Size { processors: 4, memory: 8 * GIB - GIB / 2, spool: 300 * GB };
        assert_eq!(findings(fine, work(10, 10)), []);
        let told = findings(Size { processors: 2, spool: 20 * GB, ..fine }, work(10, 10));
        assert_eq!((told[0].code.as_str(), told[0].severity), ("process_server.size", Severity::Info));
        assert!(told[0].cause.contains("2 processors where 4") && told[0].cause.contains("20 GB of spool"));
        assert_eq!(findings(fine, work(300, 0))[0].severity, Severity::Warning);
    }
}
