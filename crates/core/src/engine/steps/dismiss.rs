use crate::engine::context::{Context, Effect, Effects};
use crate::{DisableRequest, Force, Request, Result, Start};
use std::time::Duration;

/// Leaves the machine as it runs, takes marks away, and says what stays blocked, pinned or owed. A start block is lifted
/// only where nobody else may run, or by name.
pub(super) async fn dismiss(context: &Context) -> Result<Effects> {
    let request = match &context.run.request {
        Request::Disable(request) => request.clone(),
        _ => DisableRequest::default(),
    };
    let purge = context.run.operation == crate::Operation::Purge;
    context
        .each(async |mut m| {
            let shared = &context.shared;
            for instance in &m.item.instances {
                let Some(source) = shared.sources.get(&instance.site) else {
                    m.progress
                        .notes
                        .push(format!("{} stays as it is: its site is not known here", instance.name));
                    continue;
                };
                let active = instance.is(m.item.active());
                if !active && !request.unblock.contains(&instance.name) {
                    m.progress.notes.push(format!("{} stays blocked from starting", instance.name));
                    continue;
                }
                let op = m.op.part(&instance.name);
                let lifted = async {
                    if !shared.runs(instance).await? {
                        // By name: the active one runs on and is asked for nothing.
                        let named = Force::by(context.run.who.as_str(), "unblocked by name");
                        let runs = [m.item.active().clone()];
                        let (silent, force) =
                            if active { (&[][..], None) } else { (&runs[..], Some(&named)) };
                        let clearance =
                            shared.clear(&op, &m.item, Some(instance), silent, force, Duration::ZERO).await?;
                        source.unfence(&op, instance, clearance.permit, Start::Stay).await?;
                    }
                    source.dismiss(&op, instance).await
                };
                match shared.within(shared.deadlines.source, "dismiss", lifted).await {
                    Err(e) if purge => {
                        m.progress.notes.push(format!("{} keeps its marks: {e}", instance.name))
                    }
                    other => other?,
                }
            }
            for owed in &m.item.owed {
                m.progress.notes.push(format!("owed: {owed:?}"));
            }
            for leg in [&context.leg, &context.far] {
                if request.delete_points {
                    match leg.replica.delete(&m.op.part(leg.replica.name().as_str()), m.item.id()).await {
                        Err(e) if purge || e.kind() == crate::ErrorKind::NotFound => {}
                        other => other?,
                    }
                    continue;
                }
                let points = leg.replica.points(m.item.id()).await.unwrap_or_default();
                if !points.is_empty() {
                    let pinned = points.iter().filter(|p| !p.pins.is_empty()).count();
                    m.progress.notes.push(format!(
                        "{} points stay at {}, {pinned} of them pinned",
                        points.len(),
                        leg.replica.name()
                    ));
                }
            }
            Ok(Effect::and(m.progress, vec![]))
        })
        .await
}
