//! One end of a connection, byte by byte.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{OK, field, text};

/// Nothing here takes so long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time for which the system waits at once. Wine does not always wake who waits when a reset comes,
/// but tells who asks again.
const AT_ONCE: Duration = if cfg!(windows) {
    Duration::from_secs(1)
} else {
    PATIENCE
};

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Received and not yet looked at.
    ahead: Vec<u8>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A proper end (FIN).
    Closed,
    /// A reset (RST): what came before is not taken for the whole.
    Reset,
}

// === impl Wire ===

impl Wire {
    /// This end of a connection.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(AT_ONCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("send");
    }

    /// Sends bytes.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Receives so many bytes. Each is a character of the text.
    #[track_caller]
    pub fn receive(&mut self, length: usize) -> String {
        text(&self.bytes(length))
    }

    /// Receives so many bytes.
    #[track_caller]
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        self.fill(|ahead| (ahead.len() >= length).then_some(length))
    }

    /// Receives exactly this.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let received = self.receive(bytes.len());
        assert_eq!(received, text(bytes));
    }

    /// Receives the head of a message.
    #[track_caller]
    pub fn head(&mut self) -> String {
        text(&self.fill(|ahead| {
            let end = ahead.windows(4).position(|four| four == b"\r\n\r\n")?;
            Some(end + 4)
        }))
    }

    /// Receives what is left of a chunked body behind its last chunk: trailers, or none.
    #[track_caller]
    pub fn head_or_blank_line(&mut self) -> String {
        text(&self.fill(|ahead| {
            let end = || Some(ahead.windows(4).position(|four| four == b"\r\n\r\n")? + 4);
            let blank_line = ahead.starts_with(b"\r\n").then_some(2);
            blank_line.or_else(end)
        }))
    }

    /// Answers every request without a body with [`OK`] until the connection ends, and gives their
    /// heads.
    pub fn answer_all(mut self) -> Vec<String> {
        let mut heads = Vec::new();
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.ahead.split_off(end + 4);
                heads.push(text(&std::mem::replace(&mut self.ahead, rest)));
                if self.try_send(OK).is_err() {
                    return heads;
                }
                continue;
            }
            let mut buffer = [0; 1024];
            match self.read(&mut buffer) {
                Ok(0) | Err(_) => return heads,
                Ok(read) => self.ahead.extend(&buffer[..read]),
            }
        }
    }

    /// Receives the head of an answer, and leaves out the date.
    #[track_caller]
    pub fn answer_head(&mut self) -> String {
        let head = self.head();
        let lines = head.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with("date: ")).collect()
    }

    /// Receives this answer, its date left out.
    #[track_caller]
    pub fn expect_answer(&mut self, head: &str, body: &str) {
        assert_eq!(self.answer_head(), head);
        self.expect(body);
    }

    /// Receives an answer that handoff gives by itself, and gives its head.
    #[track_caller]
    pub fn expect_refusal(&mut self, status: u16) -> String {
        let head = self.answer_head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} "))
                || head.starts_with(&format!("HTTP/1.0 {status} ")),
            "expected {status}, not {head:?}"
        );
        if let Some(length) = field(&head, "content-length") {
            self.receive(length.parse().expect("a length"));
        }
        head
    }

    /// Receives a chunk of a body; an empty one is the last.
    #[track_caller]
    pub fn chunk(&mut self) -> String {
        text(&self.chunk_bytes())
    }

    /// Receives a chunk of a body; an empty one is the last.
    #[track_caller]
    pub fn chunk_bytes(&mut self) -> Vec<u8> {
        let size = self.fill(|ahead| Some(ahead.windows(2).position(|two| two == b"\r\n")? + 2));
        let size = text(&size);
        let length = usize::from_str_radix(size.trim_end(), 16).expect("a chunk's size");
        let chunk = self.bytes(length);
        self.expect("\r\n");
        chunk
    }

    /// Returns whether there is something to receive at this moment.
    pub fn has_received(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket");
        !self.ahead.is_empty() || peeked.is_ok_and(|read| read > 0)
    }

    /// Has the system keep next to nothing that it cannot send yet.
    pub fn shrink_send_buffer(&self) {
        let told = SockRef::from(&self.stream).set_send_buffer_size(4096);
        told.expect("a socket");
    }

    /// Sends zeros until no more of them are taken for a while, and says how many were.
    #[track_caller]
    pub fn sends_until_full(&mut self, most: usize) -> usize {
        self.fill_until_full(most).expect("no reset")
    }

    /// Sends zeros until the other end, which takes only some of them, has ended the connection.
    #[track_caller]
    pub fn send_until_cut(&mut self, most: usize) {
        if self.fill_until_full(most).is_ok() {
            self.await_end_soon();
        }
    }

    fn fill_until_full(&mut self, most: usize) -> io::Result<usize> {
        const FULL: Duration = Duration::from_secs(1);
        let zeros = [0; 64 * 1024];
        let mut sent = 0;
        self.stream.set_write_timeout(Some(FULL))?;
        while sent < most {
            match self.stream.write(&zeros) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(error),
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE))?;
        Ok(sent)
    }

    /// Sends nothing more.
    #[track_caller]
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half-close");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let linger = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("a socket");
    }

    /// Receives everything up to the end.
    #[track_caller]
    pub fn rest(&mut self) -> (String, End) {
        let mut rest = std::mem::take(&mut self.ahead);
        let mut buffer = [0; 64 * 1024];
        let end = loop {
            match self.read(&mut buffer) {
                Ok(0) => break End::Closed,
                Ok(read) => rest.extend(&buffer[..read]),
                Err(error) if is_reset(&error) => break End::Reset,
                Err(error) => panic!("it does not end after {:?}: {error}", text(&rest)),
            }
        };
        (text(&rest), end)
    }

    /// Waits for the end, before which nothing may come.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let (rest, end) = self.rest();
        assert_eq!(rest, "", "nothing comes before the end");
        end
    }

    /// Waits for the end, whatever comes before, which has to be soon.
    #[track_caller]
    pub fn await_end_soon(&mut self) -> End {
        // A second on a machine with nothing else to do, of which there are few.
        const SOON: Duration = Duration::from_secs(10);
        let since = Instant::now();
        let (_, end) = self.rest();
        assert!(since.elapsed() < SOON, "{:?} is late", since.elapsed());
        end
    }

    /// Takes no more, and lets the other end know.
    pub fn shut_down(&self) {
        // It may have ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The port of this end.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("a port").port()
    }

    /// Another handle to the same connection, to send from another thread.
    pub fn sender(&self) -> Self {
        Self::new(self.stream.try_clone().expect("a handle"))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use io::ErrorKind::{TimedOut, WouldBlock};
        let since = Instant::now();
        loop {
            match self.stream.read(buffer) {
                Err(error)
                    if matches!(error.kind(), TimedOut | WouldBlock)
                        && since.elapsed() < PATIENCE => {}
                read => return read,
            }
        }
    }

    /// Receives until there is as much as `enough` says, and gives that.
    #[track_caller]
    fn fill(&mut self, enough: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some(length) = enough(&self.ahead) {
                let rest = self.ahead.split_off(length);
                return std::mem::replace(&mut self.ahead, rest);
            }
            match self.read(&mut buffer) {
                Ok(0) => panic!("it ended after {:?}", text(&self.ahead)),
                Ok(read) => self.ahead.extend(&buffer[..read]),
                Err(error) => panic!("{error} after {:?}", text(&self.ahead)),
            }
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | ConnectionAborted)
}
