//! Where a server listens, and the streams in between.

use crate::fault::Fault;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where an NBD server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Loopback, at a port that the system chooses.
    pub fn loopback() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The URI by which `nbdinfo`, `nbdcopy` and `qemu-img` find an export here without TLS.
    pub fn uri(&self, export: &str) -> String {
        let export = escaped(export, b"/");
        match self {
            Self::Tcp(address) => format!("nbd://{address}/{export}"),
            Self::Unix(path) => {
                format!("nbd+unix:///{export}?socket={}", escaped(&path.to_string_lossy(), b"/"))
            }
        }
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, Fault> {
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What both kinds of sockets and TLS over them have in common.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn escaped(text: &str, kept: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || kept.contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_escaped() {
        let address = Address::Unix("/tmp/a b.sock".into());
        assert_eq!(address.uri("web/root@7?"), "nbd+unix:///web/root%407%3F?socket=/tmp/a%20b.sock");
        let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 10809)));
        assert_eq!(address.uri(""), "nbd://127.0.0.1:10809/");
    }
}
