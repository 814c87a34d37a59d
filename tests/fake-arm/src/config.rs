//! What a fake is started with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// What a fake is started with. [`Config::default`] has one subscription, the group `rg` in `westeurope` with the network
/// `vnet` (10.0.0.0/16) of one subnet `servers` (10.0.1.0/24), and no storage account.
#[derive(Debug, Clone)]
pub struct Config {
    /// The only subscription that is there.
    pub subscription: String,
    /// Resource groups: name and location.
    pub groups: Vec<(String, String)>,
    /// Networks that are there from the beginning.
    pub networks: Vec<Network>,
    /// Sizes of machines that are known.
    pub sizes: Vec<Size>,
    /// How many virtual CPUs all machines of a location may have together, whether they run or not.
    pub cores: u64,
    /// How many machines a location may have.
    pub machines: u64,
    /// Other quotas, by what the list of usages calls them: `standardBSFamily` in virtual CPUs, `StandardSSDDiskCount`,
    /// `StandardSnapshotCount`. What is not named is as good as endless.
    pub quotas: BTreeMap<String, u64>,
    /// Storage accounts that disks are imported from.
    pub accounts: Vec<Account>,
    /// Whether they have a hierarchical namespace, as they say of themselves alone.
    pub hierarchical: bool,
    /// What an application has to show for a token; anything otherwise.
    pub secret: Option<String>,
    /// What whoever asks may do, as patterns at Resource Manager and with data. Told, and not enforced.
    pub rights: [Vec<String>; 2],
    /// Looks at an operation, or at what it changes, that see it under way; the one after them sees its end.
    pub looks: u32,
    /// As many more looks pass until Azure cuts the power of a guest that does not answer.
    pub patience: u32,
    /// What `Retry-After` says, in seconds.
    pub retry_after: u32,
    /// Things on one page of a list.
    pub page: usize,
    /// Looks at an incremental snapshot until its `completionPercent` is 100.
    pub completion: u32,
    /// Whether a machine does not start while a disk of it is read through a signature. Unverified on Azure.
    pub reading_blocks_start: bool,
    /// How long each request takes to be answered.
    pub latency: Duration,
    /// Where every request and answer is written, one a line.
    pub record: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let subnets = vec![("servers".into(), (Ipv4Addr::new(10, 0, 1, 0), 24))];
        let prefix = (Ipv4Addr::new(10, 0, 0, 0), 16);
        Self {
            subscription: "0b1f6471-1bf0-4dda-aec3-111122223333".into(),
            groups: vec![("rg".into(), "westeurope".into())],
            networks: vec![Network {
                group: "rg".into(),
                name: "vnet".into(),
                location: "westeurope".into(),
                prefix,
                subnets,
            }],
            sizes: Size::some(),
            cores: 64,
            machines: 100,
            quotas: BTreeMap::new(),
            accounts: vec![],
            hierarchical: false,
            secret: None,
            rights: [vec!["*".into()], vec!["*".into()]],
            looks: 1,
            patience: 50,
            retry_after: 0,
            page: 50,
            completion: 0,
            reading_blocks_start: true,
            latency: Duration::ZERO,
            record: None,
        }
    }
}

/// A network with its subnets.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its resource group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Its address space: address and length of the prefix.
    pub prefix: (Ipv4Addr, u8),
    /// Name and prefix of each subnet.
    pub subnets: Vec<(String, (Ipv4Addr, u8))>,
}

/// A size of machines.
#[derive(Debug, Clone)]
pub struct Size {
    /// As `Standard_D2s_v5`.
    pub name: String,
    /// As `standardDSv5Family`.
    pub family: String,
    /// Virtual CPUs.
    pub cores: u64,
    /// Memory in GiB.
    pub memory: u64,
    /// Data disks at most.
    pub disks: usize,
    /// Network interfaces at most.
    pub nics: usize,
    /// Generations that boot: `V1,V2`.
    pub generations: String,
    /// Whether the subscription may not have it here: it is listed with a restriction, and refused.
    pub restricted: bool,
}

impl Size {
    /// A size without restriction, of both generations.
    pub fn new(name: &str, family: &str, cores: u64, memory: u64, disks: usize, nics: usize) -> Self {
        let (name, family, generations) = (name.into(), family.into(), "V1,V2".into());
        Self { name, family, cores, memory, disks, nics, generations, restricted: false }
    }

    fn some() -> Vec<Self> {
        let mut scarce = Self::new("Standard_M64s", "standardMSFamily", 64, 1024, 64, 8);
        scarce.restricted = true;
        let mut new = Self::new("Standard_D2s_v6", "standardDSv6Family", 2, 8, 4, 2);
        new.generations = "V2".into();
        vec![
            Self::new("Standard_B1s", "standardBSFamily", 1, 1, 2, 2),
            Self::new("Standard_B2s", "standardBSFamily", 2, 4, 4, 3),
            Self::new("Standard_D2s_v5", "standardDSv5Family", 2, 8, 4, 2),
            Self::new("Standard_D4s_v5", "standardDSv5Family", 4, 16, 8, 2),
            Self::new("Standard_D8s_v5", "standardDSv5Family", 8, 32, 16, 4),
            new,
            scarce,
        ]
    }
}

/// A storage account that disks are imported from, over HTTP as its server speaks it.
#[derive(Clone)]
pub struct Account {
    /// The resource id that `storageAccountId` has to name.
    pub id: String,
    /// Where it is; disks are imported into that location alone.
    pub location: String,
    /// The beginning of the addresses of its blobs: `https://127.0.0.1:1000/devstoreaccount1`.
    pub endpoint: String,
    /// How it is read. None for one of the `fake-blob` that the fake is started with, which is read without a request.
    pub credential: Option<Credential>,
    /// The authority that signed its server's certificate, PEM; none where it speaks plain HTTP.
    pub authority: Option<String>,
}

/// How a storage account is read.
#[derive(Clone)]
pub enum Credential {
    /// Its name and key, base64.
    Key {
        /// The account's name.
        name: String,
        /// Base64.
        key: String,
    },
    /// A query that is a signature, without a question mark.
    Sas(String),
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}
