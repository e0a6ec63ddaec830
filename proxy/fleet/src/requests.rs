//! The number of requests that are sent to the store: those who run it charge for each.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Result};

/// Counters of what was sent, also of what was sent again, and of requests for credentials.
#[derive(Debug, Default)]
pub struct Requests {
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Numbers of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Those that change nothing.
    pub reads: u64,
    /// All others.
    pub writes: u64,
}

/// A connector whose clients count their requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counting(pub(crate) Arc<Requests>);

#[derive(Debug)]
struct CountingClient {
    client: HttpClient,
    requests: Arc<Requests>,
}

// === impl Requests ===

impl Requests {
    /// Returns what was sent so far.
    pub fn sent(&self) -> Sent {
        Sent {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Counts a request with this method.
    pub(crate) fn count(&self, method: &str) {
        let counter = match method {
            "GET" | "HEAD" => &self.reads,
            _ => &self.writes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl Sent ===

impl Sent {
    /// Returns what was sent after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, writes } = self;
        write!(f, "{reads} reads and {writes} writes")
    }
}

// === impl Counting ===

impl HttpConnector for Counting {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(CountingClient {
            client: ReqwestConnector::default().connect(options)?,
            requests: Arc::clone(&self.0),
        }))
    }
}

#[async_trait::async_trait]
impl HttpService for CountingClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests.count(request.method().as_str());
        self.client.execute(request).await
    }
}
