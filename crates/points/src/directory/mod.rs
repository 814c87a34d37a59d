//! A directory as an object store, made for large objects that are written once: past the page cache where the file
//! system takes it, never visible before they are whole, durable with the directories that name them.

mod write;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use write::Writer;

const NAME: &str = "directory";

#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    writer: Arc<Writer>,
}

impl Directory {
    /// The directory at `root`, which is there.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, writer: Arc::default() }
    }

    fn file(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }

    fn list_from(&self, prefix: Option<&Path>, after: Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = prefix.cloned().unwrap_or_default();
        let path = self.file(&at);
        let all = async move {
            let walk = move || {
                let mut found = vec![];
                walk(&path, &at, &after, &mut found).map_err(|e| failed(&at, e))?;
                Ok(stream::iter(found.into_iter().map(Ok)))
            };
            blocking(walk).await
        };
        stream::once(all).try_flatten().boxed()
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Directory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_implemented("a conditional update")),
        };
        let (writer, root, file, at) =
            (Arc::clone(&self.writer), self.root.clone(), self.file(location), location.clone());
        blocking(move || writer.put(&root, &file, &payload, create).map_err(|e| failed(&at, e))).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("an upload in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (path, at) = (self.file(location), location.clone());
        blocking(move || {
            let file = File::open(&path).map_err(|e| failed(&at, e))?;
            let found = file.metadata().map_err(|e| failed(&at, e))?;
            if found.is_dir() {
                return Err(failed(&at, io::ErrorKind::NotFound.into()));
            }
            let meta = described(at.clone(), &found).map_err(|e| failed(&at, e))?;
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(|e| failed(&at, io::Error::other(e)))?,
                None => 0..meta.size,
            };
            let bytes =
                if options.head { Bytes::new() } else { part(&file, &range).map_err(|e| failed(&at, e))? };
            let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
            let (attributes, extensions) = (Attributes::default(), Default::default());
            Ok(GetResult { payload, meta, range, attributes, extensions })
        })
        .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (path, at, ranges) = (self.file(location), location.clone(), ranges.to_vec());
        blocking(move || {
            let read = || {
                let file = File::open(&path)?;
                ranges.iter().map(|range| part(&file, range)).collect::<io::Result<Vec<Bytes>>>()
            };
            read().map_err(|e| failed(&at, e))
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let root = self.root.clone();
        let delete = move |at: Path| {
            let path = root.join(at.as_ref());
            blocking(move || match std::fs::remove_file(&path) {
                Ok(()) => Ok(at),
                Err(e) => Err(failed(&at, e)),
            })
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, Path::default())
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, offset.clone())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        let path = self.file(&at);
        blocking(move || {
            let (mut objects, mut common_prefixes) = (vec![], vec![]);
            for (location, found) in entries(&path, &at, &Path::default()).map_err(|e| failed(&at, e))? {
                if found.is_dir() {
                    common_prefixes.push(location);
                } else {
                    objects.push(described(location, &found).map_err(|e| failed(&at, e))?);
                }
            }
            Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
        })
        .await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("a copy"))
    }
}

/// Exactly these bytes. Where there are fewer, nothing is allocated for them.
fn part(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    if range.start > range.end || range.end > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn walk(path: &std::path::Path, at: &Path, after: &Path, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    for (location, meta) in entries(path, at, after)? {
        if meta.is_dir() {
            walk(&path.join(location.filename().unwrap_or_default()), &location, after, found)?;
        } else if location > *after {
            found.push(described(location, &meta)?);
        }
    }
    Ok(())
}

/// What is in a directory, by name; nothing where there is none. What is being written begins with a dot. A file that is
/// not after `after` is not even looked at.
fn entries(path: &std::path::Path, at: &Path, after: &Path) -> io::Result<Vec<(Path, std::fs::Metadata)>> {
    let there = match std::fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        there => there?,
    };
    let mut found = vec![];
    for entry in there {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let location = at.clone().join(name.as_str());
        if name.starts_with('.') || location <= *after && entry.file_type()?.is_file() {
            continue;
        }
        match entry.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            meta => found.push((location, meta?)),
        }
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn described(location: Path, found: &std::fs::Metadata) -> io::Result<ObjectMeta> {
    let (last_modified, size) = (found.modified()?.into(), found.len());
    Ok(ObjectMeta { location, last_modified, size, e_tag: None, version: None })
}

fn failed(at: &Path, error: io::Error) -> Error {
    let (path, source) = (at.to_string(), Box::new(error));
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::PermissionDenied { path, source }
        }
        _ => Error::Generic { store: NAME, source },
    }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.into(), implementer: NAME.into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_a_file_does_not_have_costs_no_memory() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(100).expect("room");
        assert_eq!(part(&file, &(10..100)).expect("there").len(), 90);
        for (from, to) in [(10, 101), (0, u64::from(u32::MAX)), (100, 10)] {
            let range = from..to;
            let cost = allocation_counter::measure(|| {
                assert_eq!(part(&file, &range).expect_err("not there").kind(), io::ErrorKind::UnexpectedEof);
            });
            assert!(cost.bytes_max < 4096, "{} bytes of memory for {range:?}", cost.bytes_max);
        }
    }
}
