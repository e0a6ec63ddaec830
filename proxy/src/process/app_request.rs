//! HTTP requests to an app itself: to stop (`--stop`), and about its state (`--notify`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Asks the app on `port` to stop, and waits for the response.
///
/// # Errors
/// The app does not accept connections, or responds with a status of 400 or above.
pub(super) async fn stop(port: u16, method: Method, path: PathAndQuery) -> io::Result<()> {
    let (address, stream) = connect(port).await?;
    let mut request = Request::new(Full::default());
    (*request.method_mut(), *request.uri_mut()) = (method, path.into());
    send(address, stream, request, "handoff-stop").await
}

/// Sends JSON to the app at `address`, and waits for the response.
///
/// # Errors
/// The same as of [`stop`].
pub(super) async fn notify(
    address: SocketAddr,
    method: Method,
    path: PathAndQuery,
    json: String,
) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let mut request = Request::new(Full::from(json));
    (*request.method_mut(), *request.uri_mut()) = (method, path.into());
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    send(address, stream, request, "handoff-notify").await
}

async fn send(
    address: SocketAddr,
    stream: TcpStream,
    mut request: Request<Full<Bytes>>,
    agent: &'static str,
) -> io::Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let what = format!("{} {}", request.method(), request.uri());
    let may_have_body = !matches!(*request.method(), Method::GET | Method::HEAD);
    let length = HeaderValue::from(request.body().size_hint().lower());
    let headers = request.headers_mut();
    let host = HeaderValue::from_str(&address.to_string()).map_err(io::Error::other)?;
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if may_have_body {
        // Some servers respond with 411 to a request that could have a body and states no length.
        headers.insert(header::CONTENT_LENGTH, length);
    }
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer,
        Err(error) = connection => Err(error),
    };
    match answer.map(|answer| answer.status()) {
        Ok(status) if status >= StatusCode::BAD_REQUEST => {
            Err(io::Error::other(format!("{what} answered {status}")))
        }
        // An app that ends at once may not respond.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Connects on either loopback address, as the health check does.
async fn connect(port: u16) -> io::Result<(SocketAddr, TcpStream)> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let error = match TcpStream::connect(v4).await {
        Ok(stream) => return Ok((v4, stream)),
        Err(error) => error,
    };
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    let stream = TcpStream::connect(v6).await.map_err(|_| error)?;
    Ok((v6, stream))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the request that an app with this response receives, and the result of the stop.
    async fn asked(answer: &str) -> (String, io::Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                request.push(char::from(stream.read_u8().await.unwrap()));
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            request.replace(&port.to_string(), "PORT")
        };
        let ask = stop(port, Method::POST, PathAndQuery::from_static("/stop?a=b"));
        tokio::join!(app, ask)
    }

    #[tokio::test]
    async fn an_answer_or_an_end_says_that_it_was_understood() {
        for answer in ["HTTP/1.1 202 OK\r\n\r\n", "HTTP/1.1 302 OK\r\n\r\n", ""] {
            let (request, understood) = asked(answer).await;
            understood.unwrap();
            assert_eq!(
                request,
                "POST /stop?a=b HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\n\
                 user-agent: handoff-stop\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
        }
    }

    #[tokio::test]
    async fn an_answer_that_says_no_is_an_error() {
        let (_, understood) = asked("HTTP/1.1 404 Not Found\r\n\r\n").await;
        let error = understood.unwrap_err().to_string();
        assert_eq!(error, "POST /stop?a=b answered 404 Not Found");
    }

    #[tokio::test]
    async fn nobody_to_ask_is_an_error() {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap().port()
        };
        let path = PathAndQuery::from_static("/");
        let asked = stop(port, Method::POST, path).await;
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
