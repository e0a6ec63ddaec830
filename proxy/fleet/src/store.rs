//! The object store: reading what has changed, and writing only what nobody else has changed.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutMode,
    PutPayload, RetryConfig, UpdateVersion, WriteMultipart,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::requests::{Counting, Requests, Sent};

/// Tries and time for one request: whoever asks again does so later, and with what is then there.
const MAX_RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the parts in which artifacts are sent and fetched. Each has the client's timeout of
/// 30 seconds.
const PART: u64 = 8 << 20;

/// A folder in an object store.
#[derive(Clone, Debug)]
pub struct Store {
    client: Arc<dyn ObjectStore>,
    folder: Path,
    requests: Arc<Requests>,
}

/// The version of an object that was read or written.
#[derive(Clone, Debug)]
pub struct Version(UpdateVersion);

/// An object in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Path in the store's folder.
    pub path: String,
    /// Time of the last write, by the store's clock.
    pub modified: SystemTime,
    /// Tag of its content.
    pub tag: Option<String>,
}

/// Reason why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used.
    #[error(
        "{0:?} is not the URL of a channel: {1}; expected s3://BUCKET/PATH or az://CONTAINER/PATH"
    )]
    Url(String, String),
    /// Another writer was first.
    #[error("the object was changed by another writer")]
    Lost,
    /// There is no such object.
    #[error("{0} is not in the store: nothing was deployed to this URL")]
    Missing(String),
    /// The content of an object cannot be understood.
    #[error("{0} in the store cannot be understood: {1}")]
    Content(String, String),
    /// A local file cannot be read or written.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The store does not answer, or refuses the request.
    #[error("the store: {0}")]
    Request(#[from] Error),
}

// === impl StoreError ===

impl StoreError {
    /// Returns true if the store refuses the request to whoever sends it.
    pub fn is_forbidden(&self) -> bool {
        matches!(
            self,
            Self::Request(Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        )
    }

    /// Returns the part of its text that is the same each time, without the time that the request took and
    /// the answer's body, which may number it.
    pub fn cause(&self) -> String {
        let text = self.to_string();
        let cause = text.split_once(" - ").map_or(&*text, |(_, cause)| cause);
        cause
            .split(['<', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

// === impl Version ===

impl Version {
    fn of(meta: &ObjectMeta) -> Self {
        Self(UpdateVersion {
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
        })
    }
}

// === impl Store ===

impl Store {
    /// Opens the folder of a URL. Nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Url`] when it is no such URL, or the environment contradicts it.
    pub fn open(text: &str) -> Result<Self, StoreError> {
        let invalid = |reason: String| StoreError::Url(text.to_owned(), reason);
        // Fails only if there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        let (scheme, folder) =
            ObjectStoreScheme::parse(&url).map_err(|error| invalid(error.to_string()))?;
        let retry = RetryConfig {
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let counting = Counting::default();
        let requests = Arc::clone(&counting.0);
        let client: Result<Arc<dyn ObjectStore>, Error> = if scheme == ObjectStoreScheme::AmazonS3 {
            let builder = AmazonS3Builder::from_env()
                .with_url(text)
                .with_retry(retry)
                .with_http_connector(counting);
            builder.build().map(|client| Arc::new(client) as _)
        } else if scheme == ObjectStoreScheme::MicrosoftAzure {
            let builder = MicrosoftAzureBuilder::from_env()
                .with_url(text)
                .with_retry(retry)
                .with_http_connector(counting);
            builder.build().map(|client| Arc::new(client) as _)
        } else {
            return Err(invalid("no such store is supported".to_owned()));
        };
        let client = client.map_err(|error| {
            let first: &dyn std::error::Error = &error;
            let causes = std::iter::successors(Some(first), |error| error.source());
            invalid(
                causes
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(": "),
            )
        })?;
        Ok(Self {
            client,
            folder,
            requests,
        })
    }

    /// Returns the number of requests that were sent so far.
    pub fn sent(&self) -> Sent {
        self.requests.sent()
    }

    /// Returns the object at `path` with its version, or `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<(T, Version)>, StoreError> {
        match self.read_unless(path, None).await {
            Err(StoreError::Missing(_)) => Ok(None),
            read => read,
        }
    }

    /// Returns the object at `path` unless it still is of the version `known`.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read. A missing object is such an error: it is never an order.
    pub async fn read_unless<T: DeserializeOwned>(
        &self,
        path: &str,
        known: Option<&Version>,
    ) -> Result<Option<(T, Version)>, StoreError> {
        let tag = known.and_then(|Version(version)| version.e_tag.clone());
        let options = GetOptions::new().with_if_none_match(tag);
        let got = match self.client.get_opts(&self.at(path), options).await {
            Err(Error::NotModified { .. }) => return Ok(None),
            Err(Error::NotFound { .. }) => return Err(StoreError::Missing(path.to_owned())),
            got => got?,
        };
        let version = Version::of(&got.meta);
        let content = serde_json::from_slice(&got.bytes().await?)
            .map_err(|error| StoreError::Content(path.to_owned(), error.to_string()))?;
        Ok(Some((content, version)))
    }

    /// Writes `content` at `path` if the object there still is of the version `known`, or if there
    /// still is none. No two contents may be alike.
    ///
    /// The client sends a write again whose answer was lost, and is told that another one was first.
    /// The object is therefore read then: if it is this content, it was written.
    ///
    /// # Errors
    /// [`StoreError::Lost`] when another writer was first.
    pub async fn swap(
        &self,
        path: &str,
        content: &impl Serialize,
        known: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let content = serde_json::to_vec_pretty(content).map_err(io::Error::from)?;
        let at = self.at(path);
        let mode = known.map_or(PutMode::Create, |Version(known)| {
            PutMode::Update(known.clone())
        });
        let put = self
            .client
            .put_opts(&at, content.clone().into(), mode.into())
            .await;
        match put {
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {
                let got = self.client.get(&at).await?;
                let version = Version::of(&got.meta);
                if got.bytes().await? == content {
                    Ok(version)
                } else {
                    Err(StoreError::Lost)
                }
            }
            put => Ok(Version(put?.into())),
        }
    }

    /// Returns when the object at `path` was written, by the store's clock.
    ///
    /// # Errors
    /// [`StoreError`] when there is none, or the store does not answer.
    pub async fn modified(&self, path: &str) -> Result<SystemTime, StoreError> {
        Ok(self.client.head(&self.at(path)).await?.last_modified.into())
    }

    /// Removes the object at `path`.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not permit it, or does not answer.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        Ok(self.client.delete(&self.at(path)).await?)
    }

    /// Returns true if the store would permit to write at `path`. The write depends on a version that
    /// never was; a store that ignores that writes `content`.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn may_write(
        &self,
        path: &str,
        content: &impl Serialize,
    ) -> Result<bool, StoreError> {
        let content = serde_json::to_vec_pretty(content).map_err(io::Error::from)?;
        let never = PutMode::Update(UpdateVersion {
            e_tag: Some("\"0x0\"".to_owned()),
            version: None,
        });
        let at = self.at(path);
        match self
            .client
            .put_opts(&at, content.into(), never.into())
            .await
        {
            Ok(_)
            | Err(
                Error::Precondition { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. },
            ) => Ok(true),
            Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the objects in the folder `path`.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn list(&self, path: &str) -> Result<Vec<Listed>, StoreError> {
        let listed: Vec<_> = self.client.list(Some(&self.at(path))).try_collect().await?;
        let found = listed.into_iter().filter_map(|meta| {
            let parts = meta.location.prefix_match(&self.folder)?;
            let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
            Some(Listed {
                path: parts.join("/"),
                modified: meta.last_modified.into(),
                tag: meta.e_tag,
            })
        });
        Ok(found.collect())
    }

    /// Sends the parts of an artifact to `path`, unless an object of this `size` is there.
    ///
    /// The path contains the digest: what is there is the same.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or sent.
    pub async fn send(
        &self,
        path: &str,
        size: u64,
        content: &mut (impl io::Read + ?Sized),
    ) -> Result<(), StoreError> {
        let at = self.at(path);
        match self.client.head(&at).await {
            Ok(meta) if meta.size == size => return Ok(()),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if size <= PART {
            let mut all = Vec::new();
            content.read_to_end(&mut all)?;
            self.client.put(&at, PutPayload::from(all)).await?;
            return Ok(());
        }
        let upload = self.client.put_multipart(&at).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART as usize);
        let mut part = vec![0; PART as usize];
        loop {
            let read = content.read(&mut part)?;
            if read == 0 {
                break;
            }
            upload.wait_for_capacity(2).await?;
            upload.write(&part[..read]);
        }
        upload.finish().await?;
        Ok(())
    }

    /// Fetches `size` bytes of the object at `path`, and passes them on in their order.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read, `take` fails, or it is shorter.
    pub async fn fetch(
        &self,
        path: &str,
        size: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut start = 0;
        while start < size {
            let range: Range<u64> = start..size.min(start + PART);
            let part = self.client.get_range(&self.at(path), range).await?;
            if part.is_empty() {
                return Err(StoreError::Content(path.to_owned(), "it is cut".to_owned()));
            }
            take(&part)?;
            start += part.len() as u64;
        }
        Ok(())
    }

    fn at(&self, path: &str) -> Path {
        path.split('/')
            .fold(self.folder.clone(), |at, part| at.join(part))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt;
    use std::sync::Mutex;

    use futures_util::stream::BoxStream;
    use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
    use object_store::memory::InMemory;
    use object_store::{
        CopyOptions, GetResult, ListResult, MultipartUpload, PutMultipartOptions, PutOptions,
        PutResult, Result,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::clock;

    /// A flaw of a store, or a right that it does not give.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Flaw {
        /// Every request ends with this error.
        Fails(fn() -> Error),
        /// No request is answered.
        Hangs,
        /// Every read gets this content.
        Answers(&'static str),
        IgnoresConditions,
        ChecksThenWrites,
        ForbidsToList,
        ForbidsToWrite,
        ForbidsToDelete,
    }

    /// A store whose flaw may change, and which counts its requests.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Flawed {
        inner: Arc<InMemory>,
        pub(crate) flaw: Arc<Mutex<Option<Flaw>>>,
        requests: Arc<Requests>,
    }

    impl Flawed {
        pub(crate) fn store(&self) -> Store {
            Store {
                client: Arc::new(self.clone()),
                folder: Path::from("site/live"),
                requests: Arc::clone(&self.requests),
            }
        }

        fn flaw(&self) -> Option<Flaw> {
            *self.flaw.lock().unwrap()
        }

        /// Counts a request, and returns what every request meets.
        async fn meet(&self, method: &str) -> Result<()> {
            self.requests.count(method);
            match self.flaw() {
                Some(Flaw::Fails(error)) => Err(error()),
                Some(Flaw::Hangs) => {
                    clock::sleep(Duration::from_secs(30)).await;
                    Err(unavailable())
                }
                _ => Ok(()),
            }
        }
    }

    pub(crate) fn flawed(flaw: Flaw) -> Store {
        let flawed = Flawed::default();
        *flawed.flaw.lock().unwrap() = Some(flaw);
        flawed.store()
    }

    pub(crate) fn unavailable() -> Error {
        Error::Generic {
            store: "S3",
            source: "503 Slow Down".into(),
        }
    }

    pub(crate) fn forbidden() -> Error {
        Error::PermissionDenied {
            path: String::new(),
            source: "AccessDenied".into(),
        }
    }

    pub(crate) fn not_found() -> Error {
        let (path, source) = (String::new(), "404 Not Found".into());
        Error::NotFound { path, source }
    }

    impl fmt::Display for Flawed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:?}", self.flaw())
        }
    }

    #[async_trait::async_trait]
    impl ObjectStore for Flawed {
        async fn put_opts(
            &self,
            at: &Path,
            content: PutPayload,
            mut options: PutOptions,
        ) -> Result<PutResult> {
            self.meet("PUT").await?;
            match self.flaw() {
                Some(Flaw::ForbidsToWrite) => return Err(forbidden()),
                Some(Flaw::IgnoresConditions) => options.mode = PutMode::Overwrite,
                Some(Flaw::ChecksThenWrites) => {
                    if let PutMode::Update(known) = &options.mode {
                        let now = self.inner.head(at).await?;
                        if now.e_tag != known.e_tag {
                            let source = "another tag".into();
                            let path = at.to_string();
                            return Err(Error::Precondition { path, source });
                        }
                        tokio::task::yield_now().await;
                        options.mode = PutMode::Overwrite;
                    }
                }
                _ => {}
            }
            self.inner.put_opts(at, content, options).await
        }

        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
            self.meet("GET").await?;
            if let Some(Flaw::Answers(content)) = self.flaw() {
                let other = InMemory::new();
                other.put(at, content.into()).await?;
                return other.get_opts(at, GetOptions::new()).await;
            }
            self.inner.get_opts(at, options).await
        }

        fn delete_stream(
            &self,
            paths: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            if let Some(Flaw::ForbidsToDelete) = self.flaw() {
                return async { Err(forbidden()) }.into_stream().boxed();
            }
            self.inner.delete_stream(paths)
        }

        fn list(&self, folder: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            if let Some(Flaw::ForbidsToList) = self.flaw() {
                return async { Err(forbidden()) }.into_stream().boxed();
            }
            let (flawed, listed) = (self.clone(), self.inner.list(folder));
            let met = async move { flawed.meet("GET").await.map(|()| listed) };
            met.try_flatten_stream().boxed()
        }

        async fn list_with_delimiter(&self, folder: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(folder).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    pub(crate) fn in_memory() -> Store {
        Flawed::default().store()
    }

    #[tokio::test]
    async fn of_two_writers_one_is_first() {
        let store = in_memory();
        assert!(store.read::<Value>("x").await.unwrap().is_none());
        let first = store.swap("x", &json!({"nonce": 1}), None).await.unwrap();
        let other = store.swap("x", &json!({"nonce": 2}), None).await;
        assert!(matches!(other, Err(StoreError::Lost)), "{other:?}");
        store
            .swap("x", &json!({"nonce": 3}), Some(&first))
            .await
            .unwrap();
        let late = store.swap("x", &json!({"nonce": 4}), Some(&first)).await;
        assert!(matches!(late, Err(StoreError::Lost)), "{late:?}");
        let (now, _) = store.read::<Value>("x").await.unwrap().unwrap();
        assert_eq!(now, json!({"nonce": 3}));
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_recognized() {
        let store = in_memory();
        let first = store.swap("x", &json!({"nonce": 1}), None).await.unwrap();
        let second = store
            .swap("x", &json!({"nonce": 2}), Some(&first))
            .await
            .unwrap();
        store
            .swap("x", &json!({"nonce": 2}), Some(&first))
            .await
            .unwrap();
        assert!(
            store
                .read_unless::<Value>("x", Some(&second))
                .await
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn other_urls_are_explained() {
        for url in ["", "site", "file:///tmp/x", "ftp://x/y", "gs://bucket/x"] {
            let error = Store::open(url).unwrap_err();
            assert!(matches!(error, StoreError::Url(..)), "{url}: {error}");
            assert!(
                error.to_string().contains("expected s3://BUCKET/PATH"),
                "{error}"
            );
        }
    }
}
