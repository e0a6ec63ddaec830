//! One request of a check and its answer, in the protocol that the app speaks.

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::router::AppProtocol;

/// Maximum length of the part of a body that is read.
const MAX_BODY: usize = 1 << 20;

/// An answer.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// The use of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyUse {
    /// It is read.
    Read,
    /// It is left.
    Ignore,
}

/// Sends a request, and returns the answer.
pub(super) async fn exchange(
    stream: TcpStream,
    protocol: AppProtocol,
    request: Request<Full<Bytes>>,
    body: BodyUse,
) -> hyper::Result<Answered> {
    let io = TokioIo::new(stream);
    match protocol {
        AppProtocol::Http1 => {
            let (mut sender, connection) = http1::handshake(io).await?;
            let answer = receive(sender.send_request(request), body);
            drive(connection, answer).await
        }
        AppProtocol::Http2 => {
            let executor = TokioExecutor::new();
            let (mut sender, connection) = http2::handshake(executor, io).await?;
            let answer = receive(sender.send_request(request), body);
            drive(connection, answer).await
        }
    }
}

async fn receive(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    body: BodyUse,
) -> hyper::Result<Answered> {
    let (head, incoming) = answer.await?.into_parts();
    let (body, trailers) = match body {
        BodyUse::Read => read(incoming).await,
        BodyUse::Ignore => (Bytes::new(), None),
    };
    Ok(Answered {
        status: head.status,
        headers: head.headers,
        body,
        trailers,
    })
}

async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<Answered>>,
) -> hyper::Result<Answered> {
    // The connection ends first when the app closes without an answer.
    let connection = async { connection.await.err() };
    tokio::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        ended = connection => match ended {
            Some(error) => Err(error),
            // What has been received is still to be read.
            None => answer.await,
        },
    }
}

/// Reads the beginning of a body, and what follows it. What arrived before an error counts.
async fn read(mut body: Incoming) -> (Bytes, Option<HeaderMap>) {
    let mut read = BytesMut::new();
    let mut trailers = None;
    while read.len() < MAX_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        match frame.into_data() {
            Ok(data) => read.extend_from_slice(&data),
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    (read.freeze(), trailers)
}
