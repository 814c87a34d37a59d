use super::drill::existing;
use crate::engine::context::{Context, Effect, Effects, Member};
use crate::engine::job::said;
use crate::{BootProof, Booted, DataLoss, Error, ErrorKind, Event, Probed, Recovery, Result, Verdict};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;

/// Looks whether the guest of a boot proof has come up, and writes down what that came to.
pub(super) async fn probe(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let drill = existing(&m.item)?;
            let probed = match (m.progress.verdict.clone(), &m.progress.booted) {
                (Some(verdict), _) => verdict.into(),
                (None, Some(booted)) if booted.running => look(context, &drill.recovery, booted).await,
                (None, Some(_)) => Probed::bad("it was started, and does not run"),
                (None, None) => return Err(Error::new(ErrorKind::Refused, "nothing was booted")),
            };
            let at = context.shared.clock.now();
            let taken = drill.recovery.taken;
            let loss = m.progress.loss.clone().unwrap_or_else(|| DataLoss::since(taken, at));
            let took = m.progress.boot_asked.map(|asked| at.since(asked));
            let proof = BootProof::new(probed, took, loss, at);
            m.progress.verdict = Some(proof.verdict.clone());
            m.progress.proof = Some(proof.clone());
            let point = drill.recovery.point;
            Ok(Effect::and(m.progress, vec![Event::BootTried { point, proof }]))
        })
        .await
}

/// Asks the embedder. Whatever the answer is, also none, it is a verdict.
async fn look(context: &Context, recovery: &Recovery, booted: &Booted) -> Probed {
    let shared = &context.shared;
    let Some(validation) = &shared.validation else { return Probed::bad("the vault has no validation") };
    let asked = AssertUnwindSafe(validation.probe(recovery, booted)).catch_unwind();
    let answer = async {
        asked.await.unwrap_or_else(|panic| {
            let message = format!("the validation has panicked: {}", said(panic.as_ref()));
            Err(Error::new(ErrorKind::Unsupported, message))
        })
    };
    let answer = shared.within(shared.deadlines.validation, "validation", answer).await;
    answer.unwrap_or_else(|error| Probed::bad(error.to_string()))
}

/// Of a boot proof: an error that speaks of the point, or of how the site takes it, is its verdict. What may pass, what is
/// gone and what was cancelled say nothing of it.
pub(super) fn judged<T>(context: &Context, m: &mut Member, tried: Result<T>) -> Result<Option<T>> {
    use ErrorKind::*;
    match tried {
        Ok(done) => Ok(Some(done)),
        Err(error) => {
            let passes = error.is_temporary()
                || matches!(error.kind(), Cancelled | StaleEpoch | NotFound | OutOfSpace | Denied);
            if passes || context.run.operation != crate::Operation::VerifyBoot {
                return Err(error);
            }
            m.progress.verdict = Some(Verdict::Bad { reason: error.to_string() });
            Ok(None)
        }
    }
}
