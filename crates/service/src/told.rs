//! What a person at a terminal is told.

use site_recovery::{Error, Finding};
use std::process::ExitCode;

/// Findings, the worst first: severity, code, cause, remedy.
pub fn tell(findings: &[Finding]) {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for Finding { code, severity, cause, remedy } in findings {
        println!("{severity:?} {code}: {cause}\n    {remedy}");
    }
}

/// An error that ends a program, with all that led to it.
pub fn refused(error: &Error) -> ExitCode {
    eprintln!("{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        eprintln!("    {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}
