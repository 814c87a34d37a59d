//! What a fake is started with.

/// Accounts, and the sizes of answers that are given in parts.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) accounts: Vec<Account>,
    pub(crate) list_page: usize,
    pub(crate) range_page: usize,
    pub(crate) tenant: String,
}

impl Default for Config {
    fn default() -> Self {
        let tenant = "72f988bf-0000-4000-8000-2d7cd011db47".to_owned();
        Self { accounts: vec![], list_page: 5000, range_page: 10_000, tenant }
    }
}

impl Config {
    /// With one account of this name.
    #[must_use]
    pub fn account(name: &str) -> Self {
        Self::default().with(Account::new(name))
    }

    /// One more account.
    #[must_use]
    pub fn with(mut self, account: Account) -> Self {
        self.accounts.push(account);
        self
    }

    /// The most entries of a list in one answer, whatever more is asked for.
    #[must_use]
    pub fn list_page(mut self, entries: usize) -> Self {
        self.list_page = entries.max(1);
        self
    }

    /// The most ranges of pages in one answer, whatever more is asked for.
    #[must_use]
    pub fn range_page(mut self, ranges: usize) -> Self {
        self.range_page = ranges.max(1);
        self
    }
}

/// A storage account.
#[derive(Clone)]
pub struct Account {
    pub(crate) name: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) sink: bool,
    pub(crate) namespace: bool,
    pub(crate) kind: &'static str,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Account {
    /// General purpose v2, without a key.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), key: None, sink: false, namespace: false, kind: "StorageV2" }
    }

    /// Takes requests signed by this key (the bytes, not their base64).
    #[must_use]
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = Some(key.to_vec());
        self
    }

    /// Keeps of each page written its hash and drops the bytes.
    #[must_use]
    pub fn sink(mut self) -> Self {
        self.sink = true;
        self
    }

    /// With a hierarchical namespace, so without page blobs.
    #[must_use]
    pub fn namespace(mut self) -> Self {
        self.namespace = true;
        self
    }

    /// `BlockBlobStorage`, say. Told, and of no other effect.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }
}
