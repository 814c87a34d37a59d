//! The client's side of the handshake.

use crate::address::Stream;
use crate::fault::{Answer, Fault};
use crate::protocol::*;
use crate::tls::ClientTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What both sides have agreed on when the handshake ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Agreed {
    pub(crate) size: u64,
    pub(crate) structured: bool,
    /// Transmission flags, as [`export_flag`] names them.
    flags: u16,
    /// Offsets and lengths are multiples of this many bytes.
    pub(crate) smallest: u64,
    /// The most bytes of one request.
    pub(crate) longest: u64,
    /// Meta contexts by number and name.
    contexts: Vec<(u32, String)>,
}

impl Agreed {
    /// Whether the server set these transmission flags.
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    pub(crate) fn context(&self, name: &str) -> Option<u32> {
        self.contexts.iter().find(|(_, n)| n == name).map(|(id, _)| *id)
    }
}

pub(crate) async fn agree(
    mut stream: Box<dyn Stream>,
    export: &str,
    bitmaps: &[String],
    tls: Option<&ClientTls>,
) -> Result<(Box<dyn Stream>, Agreed), Fault> {
    let zeroes_follow = greet(&mut stream).await?;
    if let Some(tls) = tls {
        request(&mut stream, option::STARTTLS, "TLS", &[]).await?;
        stream = tls.connect(stream).await?;
    }
    match choose(&mut stream, zeroes_follow, export, bitmaps).await {
        Ok(agreed) => Ok((stream, agreed)),
        Err(fault) => {
            // It would wait for more options otherwise. What it answers does not matter.
            if matches!(fault, Fault::Refused { .. } | Fault::Absent(_)) {
                let _ = write_option(&mut stream, option::ABORT, &[]).await;
            }
            Err(fault)
        }
    }
}

async fn choose(
    stream: &mut Box<dyn Stream>,
    zeroes_follow: bool,
    export: &str,
    bitmaps: &[String],
) -> Result<Agreed, Fault> {
    let mut agreed = Agreed { smallest: 1, longest: LONGEST_PAYLOAD.into(), ..Agreed::default() };
    agreed.structured = match request(stream, option::STRUCTURED_REPLY, "structured replies", &[]).await {
        Ok(_) => true,
        Err(Fault::Refused {
            answer: Answer(reply::ERR_UNSUP | reply::ERR_POLICY | reply::ERR_INVALID),
            ..
        }) => false,
        Err(other) => return Err(other),
    };
    if agreed.structured {
        agreed.contexts = contexts(stream, export, bitmaps).await?;
    }
    if let Some(bitmap) = bitmaps.iter().find(|b| agreed.context(&format!("{DIRTY_BITMAP}{b}")).is_none()) {
        return Err(Fault::Absent(format!("dirty bitmap {bitmap:?}")));
    }
    agreed.flags = match go(stream, export, &mut agreed).await {
        Err(Fault::Refused { answer: Answer(reply::ERR_UNSUP), .. }) => {
            export_name(stream, export, zeroes_follow, &mut agreed).await?
        }
        other => other?,
    };
    // What the server says bounds loops and memory: only sense is taken.
    let sensible = agreed.smallest.is_power_of_two() && agreed.smallest <= 64 * 1024;
    if !sensible || agreed.longest < agreed.smallest || agreed.size > i64::MAX as u64 {
        return Err(Fault::protocol(format!("sizes without sense: {agreed:?}")));
    }
    agreed.longest = agreed.longest.min(LONGEST_PAYLOAD.into()) / agreed.smallest * agreed.smallest;
    Ok(agreed)
}

/// Whether zeroes follow the answer to `EXPORT_NAME`.
async fn greet(stream: &mut Box<dyn Stream>) -> Result<bool, Fault> {
    let (magic, style) = (stream.read_u64().await?, stream.read_u64().await?);
    if (magic, style) != (NBD_MAGIC, OPTION_MAGIC) {
        return Err(Fault::protocol(format!("no newstyle NBD server: {magic:#018x} {style:#018x}")));
    }
    let flags = stream.read_u16().await?;
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(Fault::protocol(format!("no fixed newstyle NBD server: flags {flags:#x}")));
    }
    let ours = flags & (FIXED_NEWSTYLE | NO_ZEROES);
    stream.write_all(&u32::from(ours).to_be_bytes()).await?;
    stream.flush().await?;
    Ok(flags & NO_ZEROES == 0)
}

/// Sends an option, and collects replies until it is acknowledged.
async fn request(
    stream: &mut Box<dyn Stream>,
    option: u32,
    what: &'static str,
    data: &[u8],
) -> Result<Vec<(u32, Vec<u8>)>, Fault> {
    write_option(stream, option, data).await?;
    let mut replies = vec![];
    for _ in 0..MOST_OPTIONS {
        let (kind, data) = read_option_reply(stream, option).await?;
        match kind {
            reply::ACK => return Ok(replies),
            error if error & reply::ERR != 0 => {
                let message = String::from_utf8_lossy(&data[..data.len().min(LONGEST_TEXT)]).into_owned();
                return Err(Fault::Refused { what, answer: Answer(error), message });
            }
            _ => replies.push((kind, data)),
        }
    }
    Err(Fault::protocol(format!("replies to option {option} without end")))
}

async fn contexts(
    stream: &mut Box<dyn Stream>,
    export: &str,
    bitmaps: &[String],
) -> Result<Vec<(u32, String)>, Fault> {
    let mut data = vec![];
    put_text(&mut data, export);
    data.extend((bitmaps.len() as u32 + 1).to_be_bytes());
    put_text(&mut data, BASE_ALLOCATION);
    for bitmap in bitmaps {
        put_text(&mut data, &format!("{DIRTY_BITMAP}{bitmap}"));
    }
    let replies = match request(stream, option::SET_META_CONTEXT, "meta contexts", &data).await {
        Err(Fault::Refused { answer: Answer(reply::ERR_UNSUP | reply::ERR_INVALID), .. }) => {
            return Ok(vec![]);
        }
        other => other?,
    };
    let mut contexts = vec![];
    for (_, data) in replies.iter().filter(|(kind, _)| *kind == reply::META_CONTEXT) {
        let mut fields = Fields(data);
        let id = fields.u32()?;
        contexts.push((id, text(fields.0)?.to_owned()));
    }
    Ok(contexts)
}

/// The export's flags; size and limits are set.
async fn go(stream: &mut Box<dyn Stream>, export: &str, agreed: &mut Agreed) -> Result<u16, Fault> {
    let mut data = vec![];
    put_text(&mut data, export);
    data.extend(1u16.to_be_bytes());
    data.extend(info::BLOCK_SIZE.to_be_bytes());
    let replies = request(stream, option::GO, "the export", &data).await?;
    let mut flags = None;
    for (_, data) in replies.iter().filter(|(kind, _)| *kind == reply::INFO) {
        let mut fields = Fields(data);
        match fields.u16()? {
            info::EXPORT => {
                agreed.size = fields.u64()?;
                flags = Some(fields.u16()?);
            }
            info::BLOCK_SIZE => {
                let [smallest, _preferred, longest] = [fields.u32()?, fields.u32()?, fields.u32()?];
                (agreed.smallest, agreed.longest) = (smallest.into(), longest.into());
            }
            _ => {}
        }
    }
    flags.ok_or_else(|| Fault::protocol("an export without a size"))
}

/// The older way to choose an export; the server closes the connection where it has none of that name.
async fn export_name(
    stream: &mut Box<dyn Stream>,
    export: &str,
    zeroes_follow: bool,
    agreed: &mut Agreed,
) -> Result<u16, Fault> {
    write_option(stream, option::EXPORT_NAME, export.as_bytes()).await?;
    agreed.size = stream.read_u64().await?;
    let flags = stream.read_u16().await?;
    if zeroes_follow {
        stream.read_exact(&mut [0; 124]).await?;
    }
    Ok(flags)
}
