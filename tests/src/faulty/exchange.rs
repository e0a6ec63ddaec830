//! One request and its answer, passed on well or badly.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::Waiting;
use super::head::Head;
use crate::wait;

const STALL: Duration = Duration::from_millis(300);
const FREEZE: Duration = Duration::from_millis(500);
/// Longest wait for an exchange partner; without one, a body stays.
const PARTNER: Duration = Duration::from_secs(5);
const TEXT: u8 = 0x1;
/// A whole frame, which gives no reason.
const CLOSE: [u8; 2] = [0x88, 0];
/// Pause before the close. After the second of two messages a tenth of a second apart: it has had
/// the time to come back.
const BEFORE_CLOSE: Duration = Duration::from_secs(1);

/// A client's request, of which the head has come.
#[derive(Debug)]
pub(super) struct Exchange {
    client: TcpStream,
    from_client: BufReader<TcpStream>,
    head: Head,
}

impl Exchange {
    /// None when nothing comes.
    pub(super) fn begin(client: TcpStream) -> io::Result<Option<Self>> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let head = Head::read(&mut from_client)?;
        Ok(head.map(|head| Self {
            client,
            from_client,
            head,
        }))
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Passes the exchange on as it should be.
    pub(super) fn pass_on(self, app: SocketAddr) -> io::Result<()> {
        let (mut client, mut app) = self.forward(app)?;
        io::copy(&mut app, &mut client)?;
        client.shutdown(Shutdown::Both)
    }

    pub(super) fn stall(self, app: SocketAddr) -> io::Result<()> {
        wait::sleep_for(STALL, "the fault");
        self.pass_on(app)
    }

    pub(super) fn freeze(self, app: SocketAddr) -> io::Result<()> {
        let (mut client, mut app) = self.forward(app)?;
        let mut first = Vec::new();
        while !first.ends_with(b"\n\n") {
            let mut byte = [0];
            app.read_exact(&mut byte)?;
            first.push(byte[0]);
        }
        client.write_all(&first)?;
        wait::sleep_for(FREEZE, "the fault");
        io::copy(&mut app, &mut client)?;
        client.shutdown(Shutdown::Both)
    }

    /// Reads and never answers, until the client leaves.
    pub(super) fn ignore(mut self) -> io::Result<()> {
        io::copy(&mut self.from_client, &mut io::sink()).map(drop)
    }

    pub(super) fn reset(self) -> io::Result<()> {
        reset(&self.client)
    }

    /// The last byte of an answer never comes; of a WebSocket, nothing but the first.
    pub(super) fn truncate(self, app: SocketAddr) -> io::Result<()> {
        let is_websocket = self.head.path() == "/ws";
        let (mut client, mut app) = self.forward(app)?;
        if is_websocket {
            let head = Head::read(&mut app)?;
            client.write_all(head.as_ref().map_or(b"", Head::bytes))?;
            let mut first = [0];
            app.read_exact(&mut first)?;
            client.write_all(&first)?;
        } else {
            let mut answer = Vec::new();
            app.read_to_end(&mut answer)?;
            answer.pop();
            client.write_all(&answer)?;
        }
        client.shutdown(Shutdown::Both)
    }

    pub(super) fn repeat(mut self, app: SocketAddr) -> io::Result<()> {
        let body = self.body()?;
        for is_last in [false, true] {
            let mut answer = Vec::new();
            self.ask(app, &body)?.read_to_end(&mut answer)?;
            if is_last {
                self.client.write_all(&answer)?;
            }
        }
        self.client.shutdown(Shutdown::Both)
    }

    /// Swaps the bodies of two answers; returns whether it did.
    pub(super) fn swap_body(
        mut self,
        app: SocketAddr,
        waiting: &Mutex<Option<Waiting>>,
    ) -> io::Result<bool> {
        let body = self.body()?;
        let mut app = self.ask(app, &body)?;
        let head = Head::read(&mut app)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut own = vec![0; head.length()];
        app.read_exact(&mut own)?;

        let (sender, receiver) = channel();
        let mut waiting = waiting.lock().map_err(|_| io::ErrorKind::Other)?;
        let other = match waiting.take() {
            Some(Waiting { body, partner }) => {
                drop(waiting);
                // Who has waited too long has gone with its own.
                partner.send(own.clone()).is_ok().then_some(body)
            }
            None => {
                *waiting = Some(Waiting {
                    body: own.clone(),
                    partner: sender,
                });
                drop(waiting);
                receiver.recv_timeout(PARTNER).ok()
            }
        };
        let is_swapped = other.is_some();
        let other = other.unwrap_or(own);
        let head = head.with("content-length", &other.len().to_string());
        self.client.write_all(head.bytes())?;
        self.client.write_all(&other)?;
        self.client.shutdown(Shutdown::Both)?;
        Ok(is_swapped)
    }

    /// Answers for the app, which never receives the request.
    pub(super) fn make_up(mut self) -> io::Result<()> {
        let id = self.head.field("x-request-id").unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Release: v2\r\nX-Request-ID: {id}\r\nConnection: close\r\n\
             Content-Length: 2\r\n\r\nv2"
        );
        self.client.write_all(answer.as_bytes())?;
        self.client.shutdown(Shutdown::Both)
    }

    pub(super) fn bad_gateway(mut self) -> io::Result<()> {
        let answer = "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        self.client.write_all(answer.as_bytes())?;
        self.client.shutdown(Shutdown::Write)
    }

    pub(super) fn garble(mut self) -> io::Result<()> {
        self.client
            .write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
        self.client.shutdown(Shutdown::Write)
    }

    /// The second.
    pub(super) fn lose_message(self, app: SocketAddr) -> io::Result<()> {
        let (mut client, mut app) = self.upgrade(app)?;
        let mut messages = 0;
        loop {
            let frame = frame(&mut app)?;
            messages += u32::from(is_text(&frame));
            if messages != 2 || !is_text(&frame) {
                client.write_all(&frame)?;
            }
        }
    }

    /// The second and all that follow.
    pub(super) fn lose_messages_and_close(self, app: SocketAddr) -> io::Result<()> {
        let (mut client, mut app) = self.upgrade(app)?;
        let mut messages = 0;
        while messages < 2 {
            let frame = frame(&mut app)?;
            messages += u32::from(is_text(&frame));
            if messages < 2 {
                client.write_all(&frame)?;
            }
        }
        wait::sleep_for(BEFORE_CLOSE, "the fault");
        client.write_all(&CLOSE)?;
        // The client answers before it goes.
        io::copy(&mut app, &mut io::sink()).map(drop)
    }

    /// A WebSocket up to its first frame.
    fn upgrade(self, app: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
        let (mut client, mut app) = self.forward(app)?;
        let head = Head::read(&mut app)?;
        client.write_all(head.as_ref().map_or(b"", Head::bytes))?;
        Ok((client, app))
    }

    fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = vec![0; self.head.length()];
        self.from_client.read_exact(&mut body)?;
        Ok(body)
    }

    /// Sends a whole request on a connection of its own.
    fn ask(&self, app: SocketAddr, body: &[u8]) -> io::Result<TcpStream> {
        let mut app = TcpStream::connect(app)?;
        app.write_all(self.head.with("Connection", "close").bytes())?;
        app.write_all(body)?;
        Ok(app)
    }

    /// Sends the head, and in the background whatever follows.
    fn forward(self, app: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
        let Self {
            client,
            mut from_client,
            head,
        } = self;
        let mut to_app = TcpStream::connect(app)?;
        to_app.set_nodelay(true)?;
        let app = to_app.try_clone()?;
        let head = match head.field("upgrade") {
            Some(_) => head,
            None => head.with("Connection", "close"),
        };
        to_app.write_all(head.bytes())?;
        thread::spawn(move || {
            // The other direction tells how it ended.
            let _ = io::copy(&mut from_client, &mut to_app);
            let _ = to_app.shutdown(Shutdown::Write);
        });
        Ok((client, app))
    }
}

/// A whole short frame of a server's.
fn frame(app: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 2];
    app.read_exact(&mut frame)?;
    frame.resize(2 + usize::from(frame[1]), 0);
    app.read_exact(&mut frame[2..])?;
    Ok(frame)
}

fn is_text(frame: &[u8]) -> bool {
    frame[0] & 0x0f == TEXT
}

/// The other side sees an error, and no end.
fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
