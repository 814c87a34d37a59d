//! A point as a block device, for as long as somebody wants it.

use super::Out;
use crate::answer::Answer;
use crate::args::Export;
use crate::engine::Engine;
use site_recovery::Result;

#[cfg(feature = "nbd")]
pub(super) async fn export(engine: &Engine, told: &Export, out: &Out) -> Result<Answer> {
    use crate::engine::called;
    use site_recovery_nbd::{Export as Served, Server};
    use std::time::Duration;

    let item = engine.item(&told.name)?;
    let point = super::words::one_point(&item, told.point).await?;
    let kept = item.item()?;
    let disks = engine.leg_of(&kept)?.replica.open(item.id(), point.id).await?;
    let machine = called(kept);
    let (mut server, mut names) = (Server::builder(), vec![]);
    for (disk, opened) in disks {
        let name = format!("{machine}/{disk}@{}", point.id);
        server = server.export(Served::read_only(&name, opened));
        names.push(name);
    }
    let server = server.listen(address(told.listen.as_deref())?).await?;
    for name in names {
        out.note(format!("serving {}", server.address().uri(&name)));
    }
    out.note("until Ctrl-C");
    out.stopped().await;
    let stopped = server.stop(Duration::from_secs(10)).await;
    let said = match stopped.cut {
        0 => "nobody is served any more".to_owned(),
        cut => format!("{cut} connections were cut"),
    };
    Ok(Answer::Done(crate::answer::DonePage { said, items: vec![] }))
}

#[cfg(feature = "nbd")]
fn address(told: Option<&str>) -> Result<site_recovery_nbd::Address> {
    use site_recovery_nbd::Address;
    match told {
        None => Ok(Address::loopback()),
        Some(path) if path.contains('/') => Ok(Address::Unix(path.into())),
        Some(text) => text.parse().map(Address::Tcp).map_err(|_| {
            let rule = "it is the path of a socket, with a slash, or an address and a port";
            site_recovery::Error::invalid("listen", text, rule, "as in ./point.sock or 127.0.0.1:10809")
        }),
    }
}

#[cfg(not(feature = "nbd"))]
pub(super) async fn export(_: &Engine, _: &Export, _: &Out) -> Result<Answer> {
    let message = "points are served by the feature nbd, which was not built in";
    Err(site_recovery::Error::new(site_recovery::ErrorKind::Unsupported, message).with("feature", "nbd"))
}
