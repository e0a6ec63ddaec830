//! One connection, and how it fails.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::result::{Failed, Failure};
use crate::websocket::{ACCEPT, Talk};
use crate::wire::{Answer, Malformed, Reader};

/// A connection to the server under test.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: Reader,
}

/// What a connection without a request looks like.
#[derive(Debug, PartialEq, Eq)]
pub enum Idle {
    /// Ready for a request.
    Open,
    /// The server closed it.
    Closed,
    /// The server sent bytes that nobody asked for: they would be taken for the next answer.
    Unasked,
}

impl Client {
    /// # Errors
    /// `refused`, whatever the reason for which there is no connection.
    pub async fn connect(server: SocketAddr) -> Result<Self, Failed> {
        let connect = async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match connect.await {
            Ok(stream) => Ok(Self {
                stream,
                reader: Reader::default(),
            }),
            Err(error) => {
                let error: io::Error = error;
                Err(Failed::new(
                    Failure::Refused,
                    format!("no connection: {error}"),
                ))
            }
        }
    }

    /// Asks the system, not the runtime: what the runtime knows may be older than the server's close.
    pub fn idle(&self) -> Idle {
        if self.reader.began() {
            return Idle::Unasked;
        }
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Unasked,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Idle::Open,
            Err(_) => Idle::Closed,
        }
    }

    /// What is read from now on answers a client of HTTP/1.0.
    pub fn speaks_http_1_0(&mut self) {
        self.reader.old = true;
    }

    /// Whether answers may be HTTP/1.0's though requests are not.
    pub fn hears_http_1_0(&mut self, may: bool) {
        self.reader.either = may;
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// `reset` when the connection ends before the first byte of the answer, `truncated` when it
    /// ends later, `wrong` when what came is no answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failed> {
        self.follow(request, |_| ()).await
    }

    /// The same for an answer that comes in parts: `grown` is told of its body, as far as it is there,
    /// whenever something has come.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn follow(
        &mut self,
        request: &[u8],
        grown: impl FnMut(&[u8]),
    ) -> Result<Answer, Failed> {
        let sent = self.send(request).await;
        self.answer(sent, grown).await
    }

    /// The same for a request whose body follows in chunks, with a pause after each.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn upload(
        &mut self,
        head: &[u8],
        chunks: impl Iterator<Item = Vec<u8>>,
        every: Duration,
    ) -> Result<Answer, Failed> {
        let sent = self.send_chunks(head, chunks, every).await;
        self.answer(sent, |_| ()).await
    }

    /// Opens a WebSocket and says everything, with a pause after each message. The other side may
    /// close it earlier, by a close frame.
    ///
    /// # Errors
    /// As [`Self::exchange`]; `truncated` also when it ends without a close frame, `lost`,
    /// `repeated` and `mixed_up` for messages.
    pub async fn talk(
        &mut self,
        request: &[u8],
        talk: &mut Talk,
        every: Duration,
        close: bool,
    ) -> Result<Answer, Failed> {
        self.send(request).await?;
        let answer = loop {
            if let Some(head) = self.reader.next_head().map_err(|error| no_http(&error))? {
                break head;
            }
            self.more().await?;
        };
        if answer.status != 101 {
            return Ok(answer);
        }
        if answer.accept.as_deref() != Some(ACCEPT) {
            let detail = format!("Sec-WebSocket-Accept is {:?}", answer.accept);
            return Err(Failed::new(Failure::Wrong, detail));
        }
        let mut next = Instant::now();
        let mut closing = false;
        loop {
            let answers = talk.hear(&mut self.reader.received, Instant::now())?;
            self.send(&answers).await?;
            if talk.is_closed() || (talk.is_complete() && !close) {
                return Ok(answer);
            }
            if talk.is_complete() && !closing {
                closing = true;
                self.send(&talk.close()).await?;
            }
            self.reader.received.reserve(4096);
            let received = tokio::select! {
                () = sleep_until(next) => {
                    next += every;
                    if let Some(message) = talk.say(Instant::now()) {
                        self.send(&message).await?;
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
            return Err(Failed::new(
                Failure::Truncated,
                format!("a WebSocket without a close frame: {ended}"),
            ));
        }
    }

    async fn send_chunks(
        &mut self,
        head: &[u8],
        chunks: impl Iterator<Item = Vec<u8>>,
        every: Duration,
    ) -> Result<(), Failed> {
        self.send(head).await?;
        let mut next = Instant::now();
        for chunk in chunks {
            sleep_until(next).await;
            next += every;
            let size = format!("{:x}\r\n", chunk.len());
            let bytes = [size.as_bytes(), &chunk, b"\r\n"].concat();
            self.send(&bytes).await?;
        }
        self.send(b"0\r\n\r\n").await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(|error| Failed::new(Failure::Reset, format!("while sending: {error}")))
    }

    /// Whoever refuses a request may answer it without having taken the rest, so an answer counts
    /// however the sending ended.
    async fn answer(
        &mut self,
        sent: Result<(), Failed>,
        mut grown: impl FnMut(&[u8]),
    ) -> Result<Answer, Failed> {
        let mut answer = loop {
            if let Some(answer) = self.reader.next().map_err(|error| no_http(&error))? {
                grown(&answer.body);
                break answer;
            }
            grown(self.reader.body_so_far());
            match self.more().await {
                Ok(None) => {}
                Ok(Some(answer)) => break answer,
                Err(ended) => {
                    return Err(match sent {
                        Err(failed) if !self.reader.began() => failed,
                        Ok(()) | Err(_) => ended,
                    });
                }
            }
        };
        answer.keep &= sent.is_ok();
        Ok(answer)
    }

    /// Receives something; gives the answer that was ended by the end of the connection.
    async fn more(&mut self) -> Result<Option<Answer>, Failed> {
        self.reader.received.reserve(4096);
        let ended = match self.stream.read_buf(&mut self.reader.received).await {
            Ok(1..) => return Ok(None),
            Ok(0) => match self.reader.next_at_close() {
                Some(answer) => return Ok(Some(answer)),
                None => "the connection was closed".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        Err(if self.reader.began() {
            Failed::new(
                Failure::Truncated,
                format!("in the middle of the answer: {ended}"),
            )
        } else {
            Failed::new(Failure::Reset, format!("before the answer: {ended}"))
        })
    }
}

fn no_http(error: &Malformed) -> Failed {
    Failed::new(Failure::Wrong, format!("no HTTP: {error}"))
}
