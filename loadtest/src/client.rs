//! One connection, and how it fails.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::result::{Failed, Failure};
use crate::wire::{Answer, Reader};

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

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// `reset` when the connection ends before the first byte of the answer, `truncated` when it
    /// ends later, `wrong` when what came is no answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failed> {
        if let Err(error) = self.stream.write_all(request).await {
            return Err(Failed::new(
                Failure::Reset,
                format!("while sending: {error}"),
            ));
        }
        loop {
            self.reader.received.reserve(4096);
            let ended = match self.stream.read_buf(&mut self.reader.received).await {
                Ok(0) => match self.reader.next_at_close() {
                    Some(answer) => return Ok(answer),
                    None => "the connection was closed".to_owned(),
                },
                Ok(_) => match self.reader.next() {
                    Ok(Some(answer)) => return Ok(answer),
                    Ok(None) => continue,
                    Err(error) => {
                        return Err(Failed::new(Failure::Wrong, format!("no HTTP: {error}")));
                    }
                },
                Err(error) => error.to_string(),
            };
            return Err(if self.reader.began() {
                Failed::new(
                    Failure::Truncated,
                    format!("in the middle of the answer: {ended}"),
                )
            } else {
                Failed::new(Failure::Reset, format!("before the answer: {ended}"))
            });
        }
    }
}
