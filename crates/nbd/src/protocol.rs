//! The protocol's numbers, its fixed structures, and bounded reading of what a peer sends. Names are the specification's.

use crate::fault::Fault;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Of the first words of both sides.
pub(crate) const FIXED_NEWSTYLE: u16 = 1;
pub(crate) const NO_ZEROES: u16 = 1 << 1;

pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const STARTTLS: u32 = 5;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

pub(crate) mod reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR: u32 = 1 << 31;
    pub(crate) const ERR_UNSUP: u32 = ERR + 1;
    pub(crate) const ERR_POLICY: u32 = ERR + 2;
    pub(crate) const ERR_INVALID: u32 = ERR + 3;
    pub(crate) const ERR_TLS_REQD: u32 = ERR + 5;
    pub(crate) const ERR_UNKNOWN: u32 = ERR + 6;
}

pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DESCRIPTION: u16 = 2;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags.
pub(crate) mod export_flag {
    pub(crate) const HAS_FLAGS: u16 = 1;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(crate) const SEND_CACHE: u16 = 1 << 10;
}

pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISC: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const CACHE: u16 = 5;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

pub(crate) mod command_flag {
    pub(crate) const FUA: u16 = 1;
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    pub(crate) const DF: u16 = 1 << 2;
    pub(crate) const REQ_ONE: u16 = 1 << 3;
}

/// Types of the chunks of a structured reply.
pub(crate) mod chunk {
    pub(crate) const DONE: u16 = 1;
    pub(crate) const NONE: u16 = 0;
    pub(crate) const OFFSET_DATA: u16 = 1;
    pub(crate) const OFFSET_HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const ERROR_BIT: u16 = 1 << 15;
    pub(crate) const ERROR: u16 = ERROR_BIT + 1;
    pub(crate) const ERROR_OFFSET: u16 = ERROR_BIT + 2;
}

pub(crate) mod errno {
    pub(crate) const PERM: u32 = 1;
    pub(crate) const IO: u32 = 5;
    pub(crate) const NOMEM: u32 = 12;
    pub(crate) const INVAL: u32 = 22;
    pub(crate) const NOSPC: u32 = 28;
    pub(crate) const NOTSUP: u32 = 95;
}

pub(crate) const BASE_ALLOCATION: &str = "base:allocation";
pub(crate) const DIRTY_BITMAP: &str = "qemu:dirty-bitmap:";
/// Of `base:allocation`.
pub(crate) const STATE_HOLE: u32 = 1;
pub(crate) const STATE_ZERO: u32 = 2;
/// Of `qemu:dirty-bitmap:…`.
pub(crate) const STATE_DIRTY: u32 = 1;

/// The longest name or other text that the specification allows.
pub(crate) const LONGEST_TEXT: usize = 4096;
/// The longest option, or reply to one, that is read.
pub(crate) const LONGEST_OPTION: u32 = 64 * 1024;
/// What a client may ask for that knows nothing of the server's limits.
pub(crate) const LONGEST_PAYLOAD: u32 = 32 << 20;
/// The most options that one handshake needs.
pub(crate) const MOST_OPTIONS: usize = 256;

/// One request of the transmission phase, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Request {
    pub(crate) const SIZE: usize = 28;

    pub(crate) fn parse(bytes: &[u8; Self::SIZE]) -> Result<Self, Fault> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        if magic != REQUEST_MAGIC {
            return Err(Fault::protocol(format!("a request begins with {magic:#010x}")));
        }
        Ok(Self {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            len: fields.u32()?,
        })
    }

    pub(crate) fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }
}

/// Takes fields off a payload, and says what is wrong where it ends too early.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or_else(|| Fault::protocol("a payload is too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text after its length.
    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        let len = self.u32()? as usize;
        if len > self.0.len() {
            return Err(Fault::protocol("a text is longer than its payload"));
        }
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        text(head)
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::protocol("a payload is too long")) }
    }
}

/// Bytes as a text of at most the longest length.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > LONGEST_TEXT {
        return Err(Fault::protocol(format!("a text of {} bytes", bytes.len())));
    }
    std::str::from_utf8(bytes).map_err(|_| Fault::protocol("a text is not UTF-8"))
}

/// Appends a text after its length.
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// One option of a client, with its data.
pub(crate) async fn read_option(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u32, Vec<u8>), Fault> {
    let magic = stream.read_u64().await?;
    if magic != OPTION_MAGIC {
        return Err(Fault::protocol(format!("an option begins with {magic:#018x}")));
    }
    let option = stream.read_u32().await?;
    Ok((option, read_data(stream).await?))
}

pub(crate) async fn write_option(
    stream: &mut (impl AsyncWrite + Unpin),
    option: u32,
    data: &[u8],
) -> Result<(), Fault> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

/// The type and the data of one reply to `option`.
pub(crate) async fn read_option_reply(
    stream: &mut (impl AsyncRead + Unpin),
    option: u32,
) -> Result<(u32, Vec<u8>), Fault> {
    let (magic, to) = (stream.read_u64().await?, stream.read_u32().await?);
    if (magic, to) != (OPTION_REPLY_MAGIC, option) {
        return Err(Fault::protocol(format!("{magic:#018x} for option {to} in reply to option {option}")));
    }
    let kind = stream.read_u32().await?;
    Ok((kind, read_data(stream).await?))
}

pub(crate) async fn write_option_reply(
    stream: &mut (impl AsyncWrite + Unpin),
    option: u32,
    kind: u32,
    data: &[u8],
) -> Result<(), Fault> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

async fn read_data(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Fault> {
    let len = stream.read_u32().await?;
    if len > LONGEST_OPTION {
        return Err(Fault::protocol(format!("an option with {len} bytes")));
    }
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data).await?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request =
            Request { flags: 1, command: 7, cookie: 0x0102_0304_0506_0708, offset: 1 << 40, len: 4096 };
        assert_eq!(Request::parse(&request.encode()).unwrap(), request);
        let mut garbage = request.encode();
        garbage[0] ^= 1;
        assert!(matches!(Request::parse(&garbage), Err(Fault::Protocol(_))));
    }

    #[test]
    fn texts_are_bounded() {
        assert!(Fields(&[0, 0, 0, 9, b'a']).text().is_err());
        assert!(Fields(&[0, 0, 0, 1, 0xff]).text().is_err());
        assert_eq!(Fields(&[0, 0, 0, 1, b'a']).text().unwrap(), "a");
    }
}
