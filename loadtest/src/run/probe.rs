//! One request before the load: is somebody there, and who?

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::url::Url;
use crate::client::Client;
use crate::result::Failed;
use crate::wire::Answer;

/// For the one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub server: SocketAddr,
    /// The release that serves, where answers name it.
    pub release: Option<u32>,
}

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("find the address of {host}: {source}")]
    Lookup { host: String, source: io::Error },
    #[error("reach {url}: {why}; start the server first, or correct --url")]
    Unreachable { url: String, why: String },
    #[error("load {url}: it answers with {status}; name a path (--url) that answers with 200")]
    Status { url: String, status: u16 },
}

/// Asks for the URL, once.
///
/// # Errors
/// There is no answer, or one that would count as failed.
pub async fn probe(url: &Url) -> Result<Found, ProbeError> {
    let place = &url.place;
    let named = || format!("http://{}{}", place.host, place.page);
    let addresses = lookup_host((url.host.as_str(), url.port)).await;
    let addresses = addresses.map_err(|source| ProbeError::Lookup {
        host: url.host.clone(),
        source,
    })?;
    let mut why = "its name has no address".to_owned();
    for server in addresses {
        // Without an id: no app's journal shall take it for one of the load.
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            place.page, place.host
        );
        why = match timeout(PATIENCE, ask(server, &request)).await {
            Ok(Ok(answer)) if answer.status < 400 => {
                let release = release(&answer).filter(|_| place.page == "/");
                return Ok(Found { server, release });
            }
            Ok(Ok(Answer { status, .. })) => {
                let url = named();
                return Err(ProbeError::Status { url, status });
            }
            Ok(Err(failed)) => failed.detail,
            Err(_) => format!("no answer in {PATIENCE:?}"),
        };
    }
    Err(ProbeError::Unreachable { url: named(), why })
}

async fn ask(server: SocketAddr, request: &str) -> Result<Answer, Failed> {
    let mut client = Client::connect(server).await?;
    client.hears_http_1_0(true);
    client.exchange(request.as_bytes()).await
}

fn release(answer: &Answer) -> Option<u32> {
    answer.release.as_ref()?.strip_prefix('v')?.parse().ok()
}
