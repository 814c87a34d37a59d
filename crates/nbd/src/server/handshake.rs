//! The server's side of the handshake: fixed newstyle options until an export is chosen.

use super::{Export, Offer};
use crate::address::Stream;
use crate::fault::Fault;
use crate::protocol::*;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What both sides have agreed on when the handshake ends.
pub(crate) struct Agreed {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) export: Arc<Export>,
    pub(crate) structured: bool,
    /// Numbers of the export's contexts.
    pub(crate) contexts: Vec<u32>,
}

/// Nothing where the client left.
pub(crate) async fn agree(mut stream: Box<dyn Stream>, offer: &Offer) -> Result<Option<Agreed>, Fault> {
    let mut greeting = NBD_MAGIC.to_be_bytes().to_vec();
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    let flags = stream.read_u32().await?;
    let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
    if flags & u32::from(FIXED_NEWSTYLE) == 0 || flags & !known != 0 {
        return Err(Fault::protocol(format!("client flags {flags:#x}")));
    }
    let no_zeroes = flags & u32::from(NO_ZEROES) != 0;
    let secure = offer.tls.is_none();
    let mut talk = Talk { stream, offer, secure, no_zeroes, structured: false, chosen: None };
    for _ in 0..MOST_OPTIONS {
        let (option, data) = read_option(&mut talk.stream).await?;
        match talk.answer(option, &data).await? {
            Next::Option(same) => talk = same,
            Next::Transmission(agreed) => return Ok(Some(agreed)),
            Next::Left => return Ok(None),
        }
    }
    Err(Fault::protocol("options without end"))
}

struct Talk<'a> {
    stream: Box<dyn Stream>,
    offer: &'a Offer,
    /// TLS is up, or not wanted.
    secure: bool,
    no_zeroes: bool,
    structured: bool,
    /// Contexts, and for which export.
    chosen: Option<(String, Vec<u32>)>,
}

enum Next<'a> {
    Option(Talk<'a>),
    Transmission(Agreed),
    Left,
}

impl<'a> Talk<'a> {
    async fn answer(mut self, option: u32, data: &[u8]) -> Result<Next<'a>, Fault> {
        match option {
            option::ABORT => {
                // The client may be gone already, which is its right.
                let _ = self.reply(option, reply::ACK, &[]).await;
                return Ok(Next::Left);
            }
            option::STARTTLS => self = self.start_tls(data).await?,
            option::EXPORT_NAME if !self.secure => return Err(Fault::Plain("an export")),
            _ if !self.secure => self.reply(option, reply::ERR_TLS_REQD, b"this server requires TLS").await?,
            option::EXPORT_NAME => return self.export_name(data).await.map(Next::Transmission),
            option::LIST if data.is_empty() => self.list().await?,
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.reply(option, reply::ACK, &[]).await?;
            }
            option::LIST | option::STRUCTURED_REPLY => {
                self.reply(option, reply::ERR_INVALID, b"the option has no data").await?;
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, data).await?,
            option::INFO | option::GO => {
                if let Some(export) = self.describe(option, data).await?
                    && option == option::GO
                {
                    return Ok(Next::Transmission(self.agreed(export)));
                }
            }
            _ => self.reply(option, reply::ERR_UNSUP, &[]).await?,
        }
        Ok(Next::Option(self))
    }

    async fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<(), Fault> {
        write_option_reply(&mut self.stream, option, kind, data).await
    }

    /// What was agreed on before TLS counts no more: somebody else may have said it.
    async fn start_tls(mut self, data: &[u8]) -> Result<Self, Fault> {
        match &self.offer.tls {
            Some(_) if !data.is_empty() => {
                self.reply(option::STARTTLS, reply::ERR_INVALID, b"the option has no data").await?;
            }
            Some(tls) if !self.secure => {
                write_option_reply(&mut self.stream, option::STARTTLS, reply::ACK, &[]).await?;
                let stream = tls.accept(self.stream).await?;
                return Ok(Self { stream, secure: true, structured: false, chosen: None, ..self });
            }
            Some(_) => self.reply(option::STARTTLS, reply::ERR_INVALID, b"TLS is up already").await?,
            None => self.reply(option::STARTTLS, reply::ERR_POLICY, b"no TLS here").await?,
        }
        Ok(self)
    }

    async fn list(&mut self) -> Result<(), Fault> {
        for export in &self.offer.exports {
            let mut data = vec![];
            put_text(&mut data, export.name());
            data.extend(export.description().as_bytes());
            write_option_reply(&mut self.stream, option::LIST, reply::SERVER, &data).await?;
        }
        self.reply(option::LIST, reply::ACK, &[]).await
    }

    async fn contexts(&mut self, option: u32, data: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields(data);
        let name = fields.text()?;
        let count = fields.u32()?;
        let mut queries = vec![];
        // Each query takes four bytes at least, so a count that lies ends early.
        for _ in 0..count {
            queries.push(fields.text()?);
        }
        fields.end()?;
        let set = option == option::SET_META_CONTEXT;
        if set {
            self.chosen = None;
            if !self.structured {
                return self.reply(option, reply::ERR_INVALID, b"ask for structured replies first").await;
            }
        }
        let Some(export) = self.offer.export(name) else {
            return self.reply(option, reply::ERR_UNKNOWN, b"no such export").await;
        };
        let mut found = vec![];
        for (id, context) in (0u32..).zip(export.contexts()) {
            let group = |query: &str| !set && query.ends_with(':') && context.starts_with(query);
            if queries.iter().any(|q| *q == context || group(q)) || (!set && queries.is_empty()) {
                let mut data = id.to_be_bytes().to_vec();
                data.extend(context.as_bytes());
                write_option_reply(&mut self.stream, option, reply::META_CONTEXT, &data).await?;
                found.push(id);
            }
        }
        if set {
            self.chosen = Some((name.to_owned(), found));
        }
        self.reply(option, reply::ACK, &[]).await
    }

    /// `INFO` and the first half of `GO`; nothing where there is no such export.
    async fn describe(&mut self, option: u32, data: &[u8]) -> Result<Option<Arc<Export>>, Fault> {
        let mut fields = Fields(data);
        let name = fields.text()?;
        let mut wanted = vec![];
        for _ in 0..fields.u16()? {
            wanted.push(fields.u16()?);
        }
        fields.end()?;
        let Some(export) = self.offer.export(name) else {
            self.reply(option, reply::ERR_UNKNOWN, b"no such export").await?;
            return Ok(None);
        };
        let export = Arc::clone(export);
        let mut data = info::EXPORT.to_be_bytes().to_vec();
        data.extend(export.size().to_be_bytes());
        data.extend(export.flags(self.structured).to_be_bytes());
        self.reply(option, reply::INFO, &data).await?;
        let texts = [(info::NAME, export.name()), (info::DESCRIPTION, export.description())];
        for (kind, text) in texts.into_iter().filter(|(kind, text)| wanted.contains(kind) && !text.is_empty())
        {
            let mut data = kind.to_be_bytes().to_vec();
            data.extend(text.as_bytes());
            self.reply(option, reply::INFO, &data).await?;
        }
        let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [1, 64 * 1024, LONGEST_PAYLOAD] {
            data.extend(size.to_be_bytes());
        }
        self.reply(option, reply::INFO, &data).await?;
        self.reply(option, reply::ACK, &[]).await?;
        Ok(Some(export))
    }

    async fn export_name(mut self, data: &[u8]) -> Result<Agreed, Fault> {
        let name = text(data)?;
        // This option knows no refusal.
        let export = self.offer.export(name).ok_or_else(|| Fault::protocol(format!("no export {name:?}")))?;
        let export = Arc::clone(export);
        let mut data = export.size().to_be_bytes().to_vec();
        data.extend(export.flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            data.resize(data.len() + 124, 0);
        }
        self.stream.write_all(&data).await?;
        self.stream.flush().await?;
        Ok(self.agreed(export))
    }

    fn agreed(self, export: Arc<Export>) -> Agreed {
        let contexts =
            self.chosen.filter(|(name, _)| name == export.name()).map(|(_, c)| c).unwrap_or_default();
        Agreed { stream: self.stream, export, structured: self.structured, contexts }
    }
}
