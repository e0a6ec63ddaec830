//! A client that knows no more HTTP than it has to, and shows what really arrived.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::wait::{DEADLINE, eventually};

/// One connection, one byte after the other.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends the head of a request; `headers` are whole lines.
    pub fn send(&mut self, method: &str, target: &str, headers: &str) {
        self.write(format!("{method} {target} HTTP/1.1\r\nHost: app\r\n{headers}\r\n").as_bytes());
    }

    /// Sends bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("send");
    }

    /// Sends bytes.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Another hand to send with while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("a second handle")
    }

    /// Sends a chunk of a chunked body; an empty one is the last.
    pub fn write_chunk(&mut self, bytes: &[u8]) {
        self.write(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat());
    }

    /// Returns the socket, and what has been received and not yet read.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let ahead = self.0.buffer().to_vec();
        (self.0.into_inner(), ahead)
    }

    /// Returns whether the other side has ended it: nothing that is sent now would be answered.
    pub fn has_ended(&self) -> bool {
        let stream = self.0.get_ref();
        let peeked = stream
            .set_nonblocking(true)
            .and_then(|()| stream.peek(&mut [0]));
        let is_open = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        !is_open || stream.set_nonblocking(false).is_err()
    }

    /// Sends a GET and reads the whole answer.
    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.try_write(format!("GET {target} HTTP/1.1\r\nHost: app\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// Reads a whole answer to anything but HEAD.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head()?;
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = self.bytes(length.parse().map_err(io::Error::other)?)?;
        } else if answer.status != 204 && answer.status != 304 {
            self.0.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Reads the status line and the headers, and no further.
    pub fn head(&mut self) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not a status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Answer {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads a chunk of a chunked body; `None` is the last one.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let chunk = self.bytes(length)?;
        self.line()?;
        Ok((length > 0).then_some(chunk))
    }

    /// Reads a chunked body until it ends, which has to look like a failure.
    #[track_caller]
    pub fn assert_cut(&mut self) {
        let complete = eventually(
            || "the body is cut".to_owned(),
            || match self.chunk() {
                Ok(Some(_)) => None,
                Ok(None) => Some(true),
                Err(error) => Some(!is_end(&error)),
            },
        );
        assert!(
            !complete,
            "the body seems complete or never ends, though it was cut"
        );
    }

    /// Reads a stream of events until it ends, which has to be complete, and behind a whole event.
    #[track_caller]
    pub fn assert_ended_between_events(&mut self) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk().expect("a complete stream") {
            text.extend(chunk);
        }
        let text = String::from_utf8_lossy(&text);
        assert!(text.ends_with("\n\n"), "{text:?}");
        text.into_owned()
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads what comes until the connection ends in whatever way.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end like any other; what came before it is in `bytes`.
        let ended = self.0.read_to_end(&mut bytes);
        assert!(ended.as_ref().err().is_none_or(is_end), "{ended:?}");
        bytes
    }

    /// Reads what comes until the connection is properly closed.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut off: {line:?}"))
        })
    }
}

/// Returns whether it is the other side's doing that nothing more can be read.
fn is_end(error: &io::Error) -> bool {
    // Reading has a deadline; the two systems name it differently.
    use io::ErrorKind::{TimedOut, WouldBlock};
    !matches!(error.kind(), TimedOut | WouldBlock)
}

impl Answer {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|header| header.0 == name);
        found.map(|header| header.1.as_str())
    }

    /// Returns the release that answered, as `sample-app` says.
    pub fn release(&self) -> &str {
        self.header("x-release").unwrap_or("none")
    }

    /// The body.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }
}
