//! Ours, each run in a process of its own: this program started again as `--child`.

use crate::Outcome;
use crate::bench::Bench;
use crate::churn::Churn;
use crate::meter::{Cost, Running};
use std::net::TcpListener;
use std::path::Path;

/// Whether records are sealed with a key, AES-256-GCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    No,
    Yes,
}

/// How a ship finds what to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Nothing is there yet.
    Whole,
    /// Both sides are hashed.
    Scan,
    /// The source tells the blocks in which C differs from A.
    KnownChanges,
}

const FAR: &str = r#""$SELF" --child receive "$STORE" "$PORT" "$TLS" "$SEAL" & server=$!
    "$SELF" --child send "$PORT" "$TLS" "$IMAGE" "$CODEC" "$SEAL" || { kill $server; exit 1; }
    kill $server; wait $server 2>/dev/null || true"#;

impl Bench {
    /// Ships an image into a store, zstd; the bytes that crossed, both ways.
    pub(crate) fn ship(
        &self,
        store: &Path,
        image: &Path,
        cut: &str,
        by: By,
        seal: Seal,
    ) -> Outcome<(Cost, u64)> {
        self.ship_as("Zstd", store, image, cut, by, seal)
    }

    /// With a codec by its name.
    pub(crate) fn ship_as(
        &self,
        codec: &str,
        store: &Path,
        image: &Path,
        cut: &str,
        by: By,
        seal: Seal,
    ) -> Outcome<(Cost, u64)> {
        let (by, seal) = (format!("{by:?}"), format!("{seal:?}"));
        let (cost, said) = self.child(&["ship", path(store), path(image), cut, &by, codec, &seal])?;
        Ok((cost, said.trim().parse()?))
    }

    /// Ships an image into a store in another process, over mutual TLS on loopback; the bytes of records that crossed.
    pub(crate) fn ship_far(
        &self,
        store: &Path,
        image: &Path,
        codec: &str,
        seal: Seal,
        identities: &Path,
    ) -> Outcome<(Cost, u64)> {
        let (port, seal, program) = (free_port()?.to_string(), format!("{seal:?}"), std::env::current_exe()?);
        let vars = [
            ("SELF", &*program),
            ("PORT", Path::new(&port)),
            ("STORE", store),
            ("IMAGE", image),
            ("CODEC", Path::new(codec)),
            ("SEAL", Path::new(&seal)),
            ("TLS", identities),
        ];
        let (cost, said) = self.meter.script(FAR, &vars)?;
        Ok((cost, said.trim().parse()?))
    }

    /// Goes on with a history of R, up to so many points after the first; milliseconds that each took.
    pub(crate) fn history(
        &self,
        store: &Path,
        r: &Path,
        churn: Churn,
        upto: usize,
    ) -> Outcome<(Cost, Vec<f64>)> {
        let (cost, said) = self.child(&["history", path(store), path(r), churn.name(), &upto.to_string()])?;
        let took = said.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok((cost, took))
    }

    /// Drops the oldest point; the bytes that were written for that.
    pub(crate) fn expire(&self, store: &Path) -> Outcome<(Cost, u64)> {
        let (cost, said) = self.child(&["expire", path(store)])?;
        Ok((cost, said.trim().parse()?))
    }

    /// An error where the newest point is not the image, byte for byte.
    pub(crate) fn check(&self, store: &Path, image: &Path, seal: Seal) -> Outcome<()> {
        self.child(&["check", path(store), path(image), &format!("{seal:?}")]).map(|_| ())
    }

    /// Serves the oldest or the newest point at a socket, until it is dropped.
    pub(crate) fn serve(&self, store: &Path, socket: &Path, which: &str) -> Outcome<Running> {
        self.start_child(&["serve", path(store), path(socket), which])
    }

    fn child(&self, words: &[&str]) -> Outcome<(Cost, String)> {
        self.start_child(words)?.end().map_err(|e| format!("{e}: {}", words.join(" ")).into())
    }

    fn start_child(&self, words: &[&str]) -> Outcome<Running> {
        let args: Vec<String> = ["--child"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        self.meter.start(&std::env::current_exe()?, &args, &[])
    }
}

/// A port of loopback that nobody listens at.
pub(crate) fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Everything here was named by this program.
fn path(path: &Path) -> &str {
    path.to_str().expect("the target directory has a name in UTF-8")
}
