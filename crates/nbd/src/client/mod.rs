//! The client: an export of any NBD server as a disk.

mod connection;
pub(crate) mod flight;
pub(crate) mod handshake;
pub(crate) mod turns;
mod writable;

use crate::address::Address;
use crate::fault::Result;
use crate::fault::{Fault, within};
use crate::protocol::*;
use crate::tls::ClientTls;
use async_trait::async_trait;
use bytes::Bytes;
use connection::Connection;
use handshake::Agreed;
use site_recovery::{
    Block, ChangeSet, Clock, Disk, DiskId, Error, ErrorKind, Extent, Fill, Pool, Run, Spawner, SystemClock,
    TokioSpawner,
};
use std::sync::Arc;
use std::time::Duration;
pub use writable::RemoteDiskMut;

/// The most that one status request asks for: a multiple of every block size, below 4 GiB.
const STATUS_SPAN: u64 = 1 << 30;

/// An export of an NBD server, read over one or several connections until it is dropped.
///
/// # Contract
/// That of [`Disk`], as far as the server keeps its own: an export that somebody writes to does not read the same twice.
#[derive(Debug)]
pub struct RemoteDisk {
    name: String,
    agreed: Agreed,
    connections: Vec<Connection>,
}

/// How an export is reached; see [`RemoteDisk::builder`].
#[derive(Debug)]
pub struct RemoteDiskBuilder {
    address: Address,
    export: String,
    tls: Option<ClientTls>,
    bitmaps: Vec<String>,
    connections: usize,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    spawner: Option<Arc<dyn Spawner>>,
}

impl RemoteDisk {
    /// The export of this name; a server's default export has the empty name.
    pub fn builder(address: Address, export: impl Into<String>) -> RemoteDiskBuilder {
        RemoteDiskBuilder {
            address,
            export: export.into(),
            tls: None,
            bitmaps: vec![],
            connections: 4,
            timeout: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
            spawner: None,
        }
    }

    /// How many connections there are: one, unless the server allows more.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether the server tells what reads as zeros. Without it, all is data.
    pub fn tells_zeros(&self) -> bool {
        self.agreed.context(BASE_ALLOCATION).is_some()
    }

    /// What a dirty bitmap of the server calls changed, as the changes of `disk`. The bitmap was named to the builder.
    ///
    /// # Errors
    /// `Invalid` for a bitmap that the builder was not told of.
    pub async fn changed(&self, bitmap: &str, disk: &DiskId) -> Result<ChangeSet> {
        let context = self.agreed.context(&format!("{DIRTY_BITMAP}{bitmap}")).ok_or_else(|| {
            Error::invalid(
                "bitmap",
                format!("{bitmap:?}"),
                "a bitmap is asked for at connect",
                "name it there",
            )
        })?;
        let mut changes = ChangeSet::new();
        for (run, flags) in self.states(context, Run::new(0, self.agreed.size)).await? {
            if flags & STATE_DIRTY != 0 {
                changes.add(disk, run);
            }
        }
        Ok(changes)
    }

    /// Runs of `range` with their flags, in order and without gap.
    async fn states(&self, context: u32, range: Run) -> Result<Vec<(Run, u32)>> {
        let wide = range.aligned(self.agreed.smallest, self.agreed.size);
        let mut states: Vec<(Run, u32)> = vec![];
        let mut at = wide.start;
        while at < wide.end() {
            let asked = Run::new(at, (wide.end() - at).min(STATUS_SPAN));
            for (len, flags) in self.connection()?.status(asked, context).await.map_err(|e| self.named(e))? {
                let told = Run::new(at, len.into());
                at = told.end();
                match (told.intersection(range), states.last_mut()) {
                    (Some(run), Some((last, same))) if *same == flags => last.len += run.len,
                    (Some(run), _) => states.push((run, flags)),
                    (None, _) => {}
                }
            }
        }
        Ok(states)
    }

    fn inside(&self, run: Run) -> Result<()> {
        run.must_be_inside(self.agreed.size).map_err(|e| self.named(e))
    }

    /// The bytes of whole blocks of the server.
    async fn blocks(&self, wide: Run, pool: &Pool) -> Result<Block> {
        let mut block = pool.take(wide.len as usize).await?;
        for piece in Run::new(0, wide.len).pieces(self.agreed.longest) {
            let connection = self.connection()?;
            block = connection.read(wide.start, piece, block).await.map_err(|e| self.named(e))?;
        }
        Ok(block)
    }

    /// The connection with the least to do.
    fn connection(&self) -> Result<&Connection> {
        let alive = self.connections.iter().filter(|c| !c.is_broken());
        alive.max_by_key(|c| c.free()).ok_or_else(|| {
            let error = self.connections.first().and_then(Connection::broken);
            self.named(error.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "not connected")))
        })
    }

    fn named(&self, error: Error) -> Error {
        error.with("export", &self.name)
    }
}

#[async_trait]
impl Disk for RemoteDisk {
    fn size(&self) -> u64 {
        self.agreed.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.start.saturating_add(range.len).min(self.agreed.size);
        let range = Run::new(range.start, end.saturating_sub(range.start));
        if range.len == 0 {
            return Ok(vec![]);
        }
        let Some(context) = self.agreed.context(BASE_ALLOCATION) else {
            return Ok(vec![Extent { run: range, fill: Fill::Data }]);
        };
        // On ZERO alone: what is called a hole may read as anything.
        let fill = |flags| if flags & STATE_ZERO != 0 { Fill::Zero } else { Fill::Data };
        let states = self.states(context, range).await?;
        let mut extents: Vec<Extent> =
            states.into_iter().map(|(run, f)| Extent { run, fill: fill(f) }).collect();
        extents.dedup_by(|next, last| {
            let same = next.fill == last.fill;
            if same {
                last.run.len += next.run.len;
            }
            same
        });
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.inside(run)?;
        let wide = run.aligned(self.agreed.smallest, self.agreed.size);
        let block = self.blocks(wide, pool).await?;
        let skipped = (run.start - wide.start) as usize;
        Ok(block.freeze().slice(skipped..skipped + run.len as usize))
    }
}

impl RemoteDiskBuilder {
    /// Goes on in TLS alone.
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Asks for a dirty bitmap of the server (`qemu:dirty-bitmap:<name>`), for [`RemoteDisk::changed`]. Once for each of
    /// several bitmaps.
    #[must_use]
    pub fn bitmap(mut self, name: impl Into<String>) -> Self {
        self.bitmaps.push(name.into());
        self
    }

    /// The most connections; 1 to 16, by default 4.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How long connecting, and each answer, may take; by default 30 seconds. After that the connection counts as broken.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts tasks elsewhere than on the caller's runtime.
    #[must_use]
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// `Invalid`; `Unavailable` where no NBD server answers; `Denied` for TLS; `NotFound` for the export or a bitmap.
    pub async fn connect(self) -> Result<RemoteDisk> {
        if !(1..=16).contains(&self.connections) {
            return Err(Error::invalid("connections", self.connections, "1 to 16", "choose another number"));
        }
        if let Some(long) = [&self.export].into_iter().chain(&self.bitmaps).find(|n| n.len() > 4000) {
            return Err(Error::invalid(
                "name",
                format!("{} bytes", long.len()),
                "at most 4000",
                "shorten it",
            ));
        }
        let name = format!("{} at {}", self.export, self.address);
        let spawner = match &self.spawner {
            Some(spawner) => Arc::clone(spawner),
            None => Arc::new(TokioSpawner::current()?),
        };
        self.open(name.clone(), spawner).await.map_err(|fault| fault.told().with("export", name))
    }

    /// Connects, to write.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); `Denied` where the export is read-only, `Unsupported` where the server makes nothing
    /// durable when asked to.
    pub async fn connect_writable(self) -> Result<RemoteDiskMut> {
        RemoteDiskMut::over(self.connect().await?)
    }

    async fn open(self, name: String, spawner: Arc<dyn Spawner>) -> Result<RemoteDisk, Fault> {
        let (agreed, first) = self.one(&*spawner).await?;
        let mut connections = vec![first];
        while agreed.has(export_flag::CAN_MULTI_CONN) && connections.len() < self.connections {
            // A server may count its clients: fewer connections do, too.
            match self.one(&*spawner).await {
                Ok((same, next)) if same == agreed => connections.push(next),
                Ok(_) => {
                    return Err(Fault::protocol("two connections to one export are told different things"));
                }
                Err(error) => {
                    tracing::debug!(target: "site_recovery_nbd", name, %error, "one connection less");
                    break;
                }
            }
        }
        Ok(RemoteDisk { name, agreed, connections })
    }

    async fn one(&self, spawner: &dyn Spawner) -> Result<(Agreed, Connection), Fault> {
        let agree = async {
            let stream = self.address.connect().await?;
            handshake::agree(stream, &self.export, &self.bitmaps, self.tls.as_ref()).await
        };
        let (stream, agreed) = within(&*self.clock, self.timeout, "handshake", agree).await?;
        let connection = Connection::start(stream, &agreed, Arc::clone(&self.clock), self.timeout, spawner);
        Ok((agreed, connection))
    }
}
