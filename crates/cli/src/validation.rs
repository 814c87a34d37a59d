//! A command of the operator's that looks at recovered machines and at those of boot proofs.

use crate::settings::ValidationSettings;
use async_trait::async_trait;
use site_recovery::{Booted, Probed, Recovery, Result, Validation, Verdict};
use std::process::Stdio;

/// The longest reason that is kept.
const REASON: usize = 400;

/// Runs a command, without a shell: it ends with 0 where the machine is as it should be. It is told by
/// `SITE_RECOVERY_MACHINE`, the machine's name, `SITE_RECOVERY_REACH`, how to reach it, a line each, and
/// `SITE_RECOVERY_PURPOSE`, `failover` or `proof`.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    words: Vec<String>,
}

impl Command {
    pub(crate) fn new(told: &ValidationSettings) -> Self {
        Self { words: told.command.clone() }
    }

    async fn judge(&self, recovery: &Recovery, booted: &Booted, purpose: &str) -> Verdict {
        let bad = |reason: String| Verdict::Bad { reason };
        let Some((program, arguments)) = self.words.split_first() else {
            return bad("no command is named".into());
        };
        let ended = tokio::process::Command::new(program)
            .args(arguments)
            .env("SITE_RECOVERY_MACHINE", recovery.machine.called())
            .env("SITE_RECOVERY_REACH", booted.reach.join("\n"))
            .env("SITE_RECOVERY_PURPOSE", purpose)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        match ended {
            Ok(output) if output.status.success() => Verdict::Good,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                bad(format!("{program} ended with {}: {}", output.status, shortened(last)))
            }
            Err(error) => bad(format!("{program} cannot be run: {error}")),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(REASON).collect()
}

#[async_trait]
impl Validation for Command {
    async fn validate(&self, recovery: &Recovery, booted: &Booted) -> Result<Verdict> {
        Ok(self.judge(recovery, booted, "failover").await)
    }

    async fn probe(&self, recovery: &Recovery, booted: &Booted) -> Result<Probed> {
        Ok(self.judge(recovery, booted, "proof").await.into())
    }
}
