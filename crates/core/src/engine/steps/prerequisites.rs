//! What a reprotect needs is waited for, with a bound, and told: agents that register, a discovery that completes, the
//! host of the master target. Azure's tutorial asks the operator to wait for the same.

use crate::engine::context::{Context, Effects};
use crate::engine::events::NoticeKind;
use crate::{Error, ErrorKind, Finding, Item, Request, Result};

/// Waits until nothing is missing, for all members.
pub(super) async fn wait(context: &Context) -> Result<Effects> {
    let shared = &context.shared;
    let began = shared.clock.now();
    loop {
        let mut missing = vec![];
        for item in &context.unit.members {
            missing.extend(missing_for(context, item).await);
        }
        if missing.is_empty() {
            return context.each(async |m| Ok(m.progress.into())).await;
        }
        let what = format!("waits for: {}", missing.join("; "));
        if shared.clock.now().since(began) >= shared.deadlines.prerequisites {
            let message = format!("after {:?} still {what}", shared.deadlines.prerequisites);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let kind = NoticeKind::Job { job: context.run.id.clone(), what };
        shared.bus.publish(shared.clock.now(), &context.unit.id, None, kind);
        shared.clock.sleep(shared.deadlines.retry_after).await;
    }
}

async fn missing_for(context: &Context, item: &Item) -> Vec<String> {
    let (shared, far) = (&context.shared, &context.far);
    let mut missing = vec![];
    let names = [far.source.name(), far.replica.name()];
    let knows = far.process_server.knows(&names);
    match shared.within(shared.deadlines.recovery_site, "knows", knows).await {
        Ok(found) => missing.extend(found.iter().filter(|f| f.blocks()).map(told)),
        Err(error) => missing.push(format!("{}: {error}", far.process_server.name())),
    }
    let asked = match &context.run.request {
        Request::Reprotect(request) => request.settings.as_ref(),
        _ => None,
    };
    let settings = far.settings_by(item, asked);
    let check = far.recovery_site.check(&item.machine, &settings);
    match shared.within(shared.deadlines.recovery_site, "check", check).await {
        Ok(found) => missing.extend(found.iter().filter(|f| f.blocks()).map(told)),
        Err(error) => missing.push(format!("{}: {error}", far.recovery_site.name())),
    }
    if let Err(error) = shared.within(shared.deadlines.source, "discover", far.source.discover()).await {
        missing.push(format!("{}: {error}", far.source.name()));
    }
    missing
}

fn told(finding: &Finding) -> String {
    format!("{}; {}", finding.cause, finding.remedy)
}
