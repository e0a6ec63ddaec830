//! A connection to the server under test, and the ways in which it fails.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::failure::{Failed, Failure};
use super::http::{Malformed, Reader, Response, Version};
use super::request::{Call, Connection, Destination, Request};
use super::websocket::{ACCEPT, Exchange};

/// A connection to the server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: Reader,
}

/// The state of a connection without a request.
#[derive(Debug, Eq, PartialEq)]
pub enum Idle {
    /// Ready for a request.
    Open,
    /// Closed by the server.
    Closed,
    /// Bytes came without a request: they would be taken for the next response.
    Unexpected,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `refused`, for every reason.
    pub async fn connect(server: SocketAddr) -> Result<Self, Failed> {
        let connect = async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect.await.map_err(|error: io::Error| {
            Failed::new(Failure::Refused, format!("no connection: {error}"))
        })?;
        Ok(Self {
            stream,
            reader: Reader::default(),
        })
    }

    /// Asks the system, not the runtime, whose knowledge may be older than the server's close.
    pub fn idle(&self) -> Idle {
        if self.reader.has_begun() {
            return Idle::Unexpected;
        }
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Unexpected,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Idle::Open,
            Err(_) => Idle::Closed,
        }
    }

    /// Sets the versions that responses may have.
    pub fn expect_version(&mut self, version: Version) {
        self.reader.version = version;
    }

    /// Sends one request and reads its response.
    ///
    /// # Errors
    /// `reset` when the connection ends before the first byte of the response, `truncated` when it
    /// ends later, `wrong` when the bytes are no response.
    pub async fn send(&mut self, request: &[u8]) -> Result<Response, Failed> {
        self.send_and_follow(request, |_| ()).await
    }

    /// Sends one request and reads its response; `progress` gets the body as received so far,
    /// whenever it has grown.
    pub async fn send_and_follow(
        &mut self,
        request: &[u8],
        progress: impl FnMut(&[u8]),
    ) -> Result<Response, Failed> {
        let sent = self.write(request).await;
        self.read_response(sent, progress).await
    }

    /// Sends a request whose body follows in chunks, with a pause after each.
    pub async fn upload(
        &mut self,
        head: &[u8],
        chunks: impl Iterator<Item = Vec<u8>>,
        every: Duration,
    ) -> Result<Response, Failed> {
        let sent = self.write_chunks(head, chunks, every).await;
        self.read_response(sent, |_| ()).await
    }

    /// Opens a WebSocket and sends all messages of `exchange`, with a pause after each. The server
    /// may end it earlier with a close frame.
    ///
    /// # Errors
    /// As [`Self::send`]; also `truncated` when it ends without a close frame, and `lost`,
    /// `repeated` and `mixed_up` for messages.
    pub async fn exchange(
        &mut self,
        request: &[u8],
        exchange: &mut Exchange,
        every: Duration,
        close: bool,
    ) -> Result<Response, Failed> {
        self.write(request).await?;
        let response = loop {
            if let Some(head) = self.reader.take_head().map_err(no_http)? {
                break head;
            }
            self.read().await?;
        };
        if response.status != 101 {
            return Ok(response);
        }
        if response.accept.as_deref() != Some(ACCEPT) {
            let detail = format!("Sec-WebSocket-Accept is {:?}", response.accept);
            return Err(Failed::new(Failure::Wrong, detail));
        }
        let mut next = Instant::now();
        let mut is_closing = false;
        loop {
            let answers = exchange.receive(&mut self.reader.received, Instant::now())?;
            self.write(&answers).await?;
            if exchange.is_closed() || (exchange.is_complete() && !close) {
                return Ok(response);
            }
            if exchange.is_complete() && !is_closing {
                is_closing = true;
                self.write(&exchange.close()).await?;
            }
            self.reader.received.reserve(4096);
            let received = tokio::select! {
                () = sleep_until(next) => {
                    next += every;
                    if let Some(message) = exchange.next_message(Instant::now()) {
                        self.write(&message).await?;
                    }
                    continue;
                }
                received = self.stream.read_buf(&mut self.reader.received) => received,
            };
            let ended = match received {
                Ok(1..) => continue,
                Ok(0) => "closed".to_owned(),
                Err(error) => error.to_string(),
            };
            let detail = format!("a WebSocket without a close frame: {ended}");
            return Err(Failed::new(Failure::Truncated, detail));
        }
    }

    async fn write_chunks(
        &mut self,
        head: &[u8],
        chunks: impl Iterator<Item = Vec<u8>>,
        every: Duration,
    ) -> Result<(), Failed> {
        self.write(head).await?;
        let mut next = Instant::now();
        for chunk in chunks {
            sleep_until(next).await;
            next += every;
            let size = format!("{:x}\r\n", chunk.len());
            let bytes = [size.as_bytes(), &chunk, b"\r\n"].concat();
            self.write(&bytes).await?;
        }
        self.write(b"0\r\n\r\n").await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let written = self.stream.write_all(bytes).await;
        written.map_err(|error| Failed::new(Failure::Reset, format!("while sending: {error}")))
    }

    /// A server that refuses a request may answer without reading the rest of it, so a response
    /// counts however the sending ended.
    async fn read_response(
        &mut self,
        sent: Result<(), Failed>,
        mut progress: impl FnMut(&[u8]),
    ) -> Result<Response, Failed> {
        let mut response = loop {
            if let Some(response) = self.reader.take_response().map_err(no_http)? {
                progress(&response.body);
                break response;
            }
            progress(self.reader.partial_body());
            match self.read().await {
                Ok(None) => {}
                Ok(Some(response)) => break response,
                Err(ended) => {
                    return Err(match sent {
                        Err(failed) if !self.reader.has_begun() => failed,
                        Ok(()) | Err(_) => ended,
                    });
                }
            }
        };
        response.is_kept &= sent.is_ok();
        Ok(response)
    }

    /// Receives some bytes; returns the response that the end of the connection completed.
    async fn read(&mut self) -> Result<Option<Response>, Failed> {
        self.reader.received.reserve(4096);
        let ended = match self.stream.read_buf(&mut self.reader.received).await {
            Ok(1..) => return Ok(None),
            Ok(0) => match self.reader.take_at_close() {
                Some(response) => return Ok(Some(response)),
                None => "the connection was closed".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        Err(if self.reader.has_begun() {
            let detail = format!("in the middle of the answer: {ended}");
            Failed::new(Failure::Truncated, detail)
        } else {
            Failed::new(Failure::Reset, format!("before the answer: {ended}"))
        })
    }
}

/// Sends one GET on a connection of its own.
pub async fn get(server: SocketAddr, path: &str) -> Result<Response, Failed> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    Client::connect(server)
        .await?
        .send(request.as_bytes())
        .await
}

/// Tells whether `path` is answered with 200.
pub async fn is_serving(server: SocketAddr, path: &str) -> bool {
    get(server, path)
        .await
        .is_ok_and(|response| response.status == 200)
}

/// Sends `request` and reads its response, however long that takes. Also returns the longest delay
/// of a part: an app sends one after the other at the pace that it was asked for.
pub(super) async fn converse(
    client: &mut Client,
    request: &Request,
    destination: &Destination,
) -> Result<(Response, Duration), Failed> {
    let bytes = request.encode(destination);
    let mut part_late = Duration::ZERO;
    let response = match request.call {
        Call::Chunks { count, every } => {
            let chunks = (0..count).map(|at| request.part(at));
            client.upload(&bytes, chunks, every).await
        }
        Call::WebSocket {
            count,
            every,
            close,
        } => {
            let mut exchange = Exchange::new(request.seq, count);
            let response = client.exchange(&bytes, &mut exchange, every, close).await;
            part_late = exchange.slowest();
            response
        }
        Call::Events { every, .. } => {
            let mut events = Arrivals::new(Instant::now(), every);
            let progress = |body: &[u8]| events.note(count_events(body), Instant::now());
            let response = client.send_and_follow(&bytes, progress).await;
            part_late = events.late;
            response
        }
        Call::Http10 => {
            client.expect_version(Version::Http10);
            client.send(&bytes).await
        }
        Call::Home
        | Call::Page
        | Call::Version
        | Call::Echo(_)
        | Call::Slow(_)
        | Call::Upload(_)
        | Call::Grpc { .. }
        | Call::Visit { .. } => client.send(&bytes).await,
    };
    let is_http = !matches!(request.call, Call::WebSocket { .. });
    // On a kept connection, the next request finds them.
    if request.connection == Connection::New
        && is_http
        && response.is_ok()
        && client.idle() == Idle::Unexpected
    {
        let detail = "bytes came after the end of the answer";
        return Err(Failed::new(Failure::Wrong, detail));
    }
    Ok((response?, part_late))
}

/// Arrivals of the parts of a stream.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Time at which the next one should have come.
    due: Instant,
    every: Duration,
    count: usize,
    /// Longest delay of one.
    pub(super) late: Duration,
}

// === impl Arrivals ===

impl Arrivals {
    pub(super) fn new(first: Instant, every: Duration) -> Self {
        Self {
            due: first,
            every,
            count: 0,
            late: Duration::ZERO,
        }
    }

    /// Notes the number of those that have arrived so far.
    pub(super) fn note(&mut self, count: usize, now: Instant) {
        while self.count < count {
            self.late = self.late.max(now.saturating_duration_since(self.due));
            self.due += self.every;
            self.count += 1;
        }
    }
}

/// Counts the events of a stream, each of which ends with an empty line.
pub(super) fn count_events(body: &[u8]) -> usize {
    body.windows(2).filter(|pair| pair == b"\n\n").count()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn no_http(error: Malformed) -> Failed {
    Failed::new(Failure::Wrong, format!("no HTTP: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_as_late_as_its_place_in_the_stream_says() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let mut events = Arrivals::new(begun, ms(100));
        events.note(count_events(b"id: 1\n\nid: 2"), begun + ms(3));
        assert_eq!(events.late, ms(3));
        // The second is late, the third that comes with it is not.
        let all = count_events(b"id: 1\n\nid: 2\n\nid: 3\n\n");
        events.note(all, begun + ms(190));
        assert_eq!((events.late, events.count), (ms(90), 3));
        events.note(all, begun + ms(900));
        assert_eq!(events.late, ms(90));
    }
}
