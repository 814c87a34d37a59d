//! What is left on disk of each drill, failover and failback: `<state>/reports/`.

use crate::answer::JobPage;
use crate::execute::Out;
use crate::settings::Settings;

/// Operations that are reported.
const REPORTED: [&str; 8] = [
    "TestFailover",
    "TestFailoverCleanup",
    "PlannedFailover",
    "UnplannedFailover",
    "PromoteTestFailover",
    "PromoteOther",
    "UndoFailover",
    "VerifyBoot",
];

/// Writes what a job came to, as JSON, under the job's name. A report that cannot be written is told, and fails nothing: the
/// journal has it all.
pub(crate) fn write(settings: &Settings, page: &JobPage, out: &Out) {
    if !REPORTED.contains(&page.operation.as_str()) {
        return;
    }
    let dir = settings.reports();
    let file = dir.join(format!("{}.json", plain(&page.job)));
    let text = serde_json::to_vec_pretty(page).unwrap_or_default();
    let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&file, text));
    if let Err(error) = written {
        out.note(format!("the report {} cannot be written: {error}", file.display()));
    }
}

/// A job's name as a file's.
fn plain(job: &str) -> String {
    job.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}
