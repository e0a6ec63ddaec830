//! One request before the load, which finds the server and its release.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::super::CommandError;
use crate::cli::url::Url;
use crate::generator::client::Client;
use crate::generator::failure::Failed;
use crate::generator::http::{Response, Version};

/// Maximum time of the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The server that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    pub server: SocketAddr,
    /// Release that serves, if answers name it.
    pub release: Option<u32>,
}

/// Requests the URL once.
pub async fn probe(url: &Url) -> Result<Found, CommandError> {
    let destination = &url.destination;
    let name = || format!("http://{}{}", destination.host, destination.page);
    let addresses = lookup_host((url.host.as_str(), url.port)).await;
    let addresses = addresses.map_err(|error| {
        CommandError::Other(format!("find the address of {}: {error}", url.host))
    })?;
    let mut why = "its name has no address".to_owned();
    for server in addresses {
        // Without an id, so that journals do not count it as a request of the load.
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            destination.page, destination.host
        );
        why = match timeout(LIMIT, ask(server, &request)).await {
            Ok(Ok(response)) if response.status < 400 => {
                let release = release(&response).filter(|_| destination.page == "/");
                return Ok(Found { server, release });
            }
            Ok(Ok(Response { status, .. })) => {
                return Err(CommandError::Other(format!(
                    "load {}: it answers with {status}; name a path (--url) that answers with 200",
                    name()
                )));
            }
            Ok(Err(failed)) => failed.detail,
            Err(_) => format!("no answer in {LIMIT:?}"),
        };
    }
    Err(CommandError::Other(format!(
        "reach {}: {why}; start the server first, or correct --url",
        name()
    )))
}

async fn ask(server: SocketAddr, request: &str) -> Result<Response, Failed> {
    let mut client = Client::connect(server).await?;
    client.expect_version(Version::Any);
    client.send(request.as_bytes()).await
}

fn release(response: &Response) -> Option<u32> {
    response.release.as_ref()?.strip_prefix('v')?.parse().ok()
}
