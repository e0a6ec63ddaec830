//! The app behind every proxy: one thread, answers rendered beforehand, connections kept.
//!
//! It knows as much of HTTP as the proxies under test send: requests without bodies.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::load::head_end;
use super::options::BackendOptions;

/// Of `/large`.
pub const LARGE: usize = 1 << 20;

/// Of every other path.
pub const SMALL: usize = 60;

const LISTENER: u64 = u64::MAX;
const BACKLOG: i32 = 4096;
const HEAD_LIMIT: usize = 64 << 10;

/// Serves until it is killed.
///
/// # Errors
/// The port is taken, or the system has no more memory.
pub fn serve(options: &BackendOptions) -> io::Result<bool> {
    let listener = listen(options.port)?;
    println!("{}", listener.local_addr()?);
    answer_all(listener)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn answer_all(listener: TcpListener) -> io::Result<bool> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut backend = Backend {
        epoll,
        listener,
        connections: Vec::new(),
        scratch: vec![0; 16 << 10],
        answers: Answers::render(),
    };
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(
            &backend.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            backend.on(event);
        }
    }
}

struct Backend {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By file descriptor: the system gives out the lowest free one.
    connections: Vec<Option<Connection>>,
    scratch: Vec<u8>,
    answers: Answers,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a head.
    received: Vec<u8>,
    /// What is left of the answer: from here on.
    sending: Option<(Answer, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    large: bool,
    close: bool,
}

struct Answers([Vec<u8>; 4]);

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Keep,
    Close,
}

// === impl Backend ===

impl Backend {
    fn on(&mut self, event: &Event) {
        let token = event.data.u64();
        if token == LISTENER {
            self.accept();
            return;
        }
        let at = token as usize;
        let Some(mut connection) = self.connections.get_mut(at).and_then(Option::take) else {
            return;
        };
        // Whatever went wrong, it is the client's concern; it will notice.
        if matches!(self.serve(&mut connection), Ok(Next::Keep)) {
            self.connections[at] = Some(connection);
        } else {
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
    }

    fn accept(&mut self) {
        // Out of descriptors or nothing left: either way the next event tells.
        while let Ok((stream, _)) = self.listener.accept() {
            let at = stream.as_raw_fd() as usize;
            let ready = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| {
                    epoll::add(
                        &self.epoll,
                        &stream,
                        EventData::new_u64(at as u64),
                        EventFlags::IN,
                    )
                    .map_err(io::Error::from)
                });
            if ready.is_err() {
                continue;
            }
            if self.connections.len() <= at {
                self.connections.resize_with(at + 1, || None);
            }
            self.connections[at] = Some(Connection {
                stream,
                received: Vec::new(),
                sending: None,
            });
        }
    }

    fn serve(&mut self, connection: &mut Connection) -> io::Result<Next> {
        if connection.sending.is_some() {
            if self.send_on(connection)? == Next::Close {
                return Ok(Next::Close);
            }
            if connection.sending.is_some() {
                return Ok(Next::Keep);
            }
            return self.answer(connection, true);
        }
        let count = match connection.stream.read(&mut self.scratch) {
            Ok(0) => return Ok(Next::Close),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Keep),
            Err(error) => return Err(error),
        };
        connection
            .received
            .extend_from_slice(&self.scratch[..count]);
        if connection.received.len() > HEAD_LIMIT {
            return Ok(Next::Close);
        }
        self.answer(connection, false)
    }

    /// Answers the requests that are there. `was_sending`: the system was to tell of room only.
    fn answer(&self, connection: &mut Connection, was_sending: bool) -> io::Result<Next> {
        while let Some(end) = head_end(&connection.received) {
            let answer = Answer::to(&connection.received[..end]);
            connection.received.drain(..end);
            connection.sending = Some((answer, 0));
            if self.send_on(connection)? == Next::Close {
                return Ok(Next::Close);
            }
            if connection.sending.is_some() {
                self.wait_for(connection, EventFlags::OUT)?;
                return Ok(Next::Keep);
            }
        }
        if was_sending {
            self.wait_for(connection, EventFlags::IN)?;
        }
        Ok(Next::Keep)
    }

    /// As much as the system takes.
    fn send_on(&self, connection: &mut Connection) -> io::Result<Next> {
        let Some((answer, mut at)) = connection.sending.take() else {
            return Ok(Next::Keep);
        };
        let bytes = self.answers.of(answer);
        while at < bytes.len() {
            match connection.stream.write(&bytes[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.sending = Some((answer, at));
                    return Ok(Next::Keep);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(if answer.close {
            Next::Close
        } else {
            Next::Keep
        })
    }

    fn wait_for(&self, connection: &Connection, what: EventFlags) -> io::Result<()> {
        let token = EventData::new_u64(connection.stream.as_raw_fd() as u64);
        Ok(epoll::modify(&self.epoll, &connection.stream, token, what)?)
    }
}

// === impl Answer ===

impl Answer {
    /// To the request with this head.
    fn to(head: &[u8]) -> Self {
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default().trim_ascii_end();
        let close = lines.any(|line| {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let name = parts.next().unwrap_or_default();
            let value = parts.next().unwrap_or_default().trim_ascii();
            let body = name.eq_ignore_ascii_case(b"transfer-encoding")
                || name.eq_ignore_ascii_case(b"content-length") && value != b"0";
            // A body would be taken for the next request.
            body || name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close")
        });
        Self {
            large: first
                .split(|byte| *byte == b' ')
                .nth(1)
                .is_some_and(|target| target.starts_with(b"/large")),
            close: close || !first.ends_with(b"HTTP/1.1"),
        }
    }
}

// === impl Answers ===

impl Answers {
    fn render() -> Self {
        let one = |large, close| {
            let length = if large { LARGE } else { SMALL };
            let close = if close { "Connection: close\r\n" } else { "" };
            let mut bytes = format!(
                "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                 Content-Type: text/plain\r\n{close}Content-Length: {length}\r\n\r\n"
            )
            .into_bytes();
            bytes.resize(bytes.len() + length, b'x');
            bytes
        };
        Self([
            one(false, false),
            one(false, true),
            one(true, false),
            one(true, true),
        ])
    }

    fn of(&self, answer: Answer) -> &[u8] {
        &self.0[usize::from(answer.large) * 2 + usize::from(answer.close)]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::bench::load::{Load, Pace};

    /// On a thread that ends with the test's process.
    fn running() -> SocketAddr {
        let listener = listen(0).unwrap();
        let server = listener.local_addr().unwrap();
        std::thread::spawn(move || answer_all(listener));
        server
    }

    fn small(server: SocketAddr) -> Load {
        Load {
            server,
            path: "/small",
            body: SMALL as u64,
            connections: 8,
            fresh: false,
            pace: Pace::Closed,
        }
    }

    /// Until so many answers have come or the load has given up; what came of it.
    fn offer(load: &Load, answers: u64) -> Result<u64, String> {
        let running = load.start().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        running.note_latencies();
        while running.answers() < answers && !running.has_failed() {
            assert!(Instant::now() < deadline, "{} answers", running.answers());
            std::thread::yield_now();
        }
        running.finish().map(|latencies| latencies.len())
    }

    #[test]
    fn load_and_backend_understand_each_other() {
        let small = small(running());
        let large = Load {
            path: "/large",
            body: LARGE as u64,
            ..small
        };
        let fresh = Load {
            fresh: true,
            ..small
        };
        let paced = Load {
            pace: Pace::Open { per_second: 5000.0 },
            ..small
        };
        for load in [small, large, fresh, paced] {
            let noted = offer(&load, 300).unwrap();
            assert!(noted >= 250, "{noted} for {load:?}");
        }
    }

    #[test]
    fn load_that_gets_a_wrong_answer_gives_up() {
        let small = small(running());
        let wrong = Load { body: 61, ..small };
        let error = offer(&wrong, 300).unwrap_err();
        assert!(error.contains("another length"), "{error}");

        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = closed.local_addr().unwrap();
        drop(closed);
        let error = offer(&Load { server, ..small }, 300).unwrap_err();
        assert!(error.contains("no connection"), "{error}");
    }

    #[test]
    fn requests_are_answered_as_they_ask() {
        for (head, large, close) in [
            ("GET /small HTTP/1.1\r\nHost: x\r\n\r\n", false, false),
            ("GET /large HTTP/1.1\r\nHost: x\r\n\r\n", true, false),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nconnection: Close\r\n\r\n",
                false,
                true,
            ),
            (
                "GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
                false,
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", false, true),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", false, true),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", false, false),
        ] {
            assert_eq!(
                Answer::to(head.as_bytes()),
                Answer { large, close },
                "{head:?}"
            );
        }
        let answers = Answers::render();
        for (large, length) in [(false, SMALL), (true, LARGE)] {
            let bytes = answers.of(Answer { large, close: true });
            let head = head_end(bytes).unwrap();
            assert_eq!(bytes.len() - head, length);
            assert!(
                bytes[..head]
                    .windows(17)
                    .any(|part| part == b"Connection: close")
            );
        }
    }
}
