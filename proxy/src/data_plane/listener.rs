//! The public port: bound before anything else, and never given up while this process serves.

#[cfg(windows)]
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
#[cfg(windows)]
use std::task::{Context, Poll, ready};
use std::time::Duration;

#[cfg(unix)]
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
#[cfg(unix)]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Phase;
use super::worker::{Intake, Server};
use crate::os::inherit;

/// More than the system keeps by default (128): while workers are busy, connections wait here.
///
/// Windows keeps no more than about 200, and refuses the next, unless it is asked by a negative number
/// (`SOMAXCONN_HINT`, documentation of Winsock's `listen`).
const BACKLOG: i32 = if cfg!(windows) { -4096 } else { 4096 };
/// A connection on which nothing has come for so long is asked whether anybody is there.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// How long to wait when the system has no descriptor or memory for one more connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How soon to look whether one of too many connections has ended.
const FULL_PAUSE: Duration = Duration::from_millis(10);
const EXHAUSTED_LOG: Duration = Duration::from_secs(1);

/// The bound port.
#[derive(Debug)]
pub struct Listener(std::net::TcpListener);

/// Accepts connections on one worker.
#[derive(Debug)]
pub(super) struct Accept {
    listener: Listener,
    deal: Deal,
    phases: watch::Receiver<Phase>,
    // Dropped when no more connections are accepted.
    _accepting: oneshot::Sender<()>,
}

/// Who serves an accepted connection.
///
/// The worker that accepted it: no other thread is woken, and the socket is registered once. Unless
/// it has clearly more than another one: kept connections differ in how long they last, and whoever
/// is awake accepts most.
#[derive(Debug)]
pub(super) struct Deal {
    workers: Vec<Intake>,
    here: usize,
    max_connections: usize,
}

// === impl Listener ===

impl Listener {
    /// Binds `address` and listens: from now on no connection is refused.
    ///
    /// # Errors
    /// What the system said.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        own_the_port(&socket)?;
        // Accepted connections have it from here (not on Windows): heads and bodies that go out one
        // after the other do not wait for the client to confirm the first.
        notice_who_is_gone(&socket)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// Whether a port could not be bound because another program has it.
    ///
    /// Windows says of some that they are denied (WSAEACCES, 10013): of one that somebody has for
    /// himself on all addresses ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE" in Microsoft's
    /// documentation), and of one that a driver has, such as IIS's http.sys. On Unix a port that is
    /// denied stays so.
    pub fn is_taken(refused: &io::Error) -> bool {
        let is_denied = refused.kind() == io::ErrorKind::PermissionDenied;
        refused.kind() == io::ErrorKind::AddrInUse || cfg!(windows) && is_denied
    }

    /// The same port for several workers to accept on, or for the first of them where only one can:
    /// on Windows a socket belongs to one completion port.
    pub(super) fn shared_by(self, workers: usize) -> io::Result<Vec<Self>> {
        let others = if cfg!(windows) {
            0
        } else {
            workers.saturating_sub(1)
        };
        let mut listeners = Vec::with_capacity(workers);
        for _ in 0..others {
            listeners.push(Self(self.0.try_clone()?));
        }
        listeners.push(self);
        Ok(listeners)
    }

    /// Of a socket that a service manager has bound: it goes on listening while this process starts
    /// anew.
    ///
    /// # Errors
    /// What the system said.
    pub fn passed(listener: std::net::TcpListener) -> io::Result<Self> {
        let socket = Socket::from(listener);
        notice_who_is_gone(&socket)?;
        socket.set_tcp_nodelay(true)?;
        // It may be listening with a shorter queue.
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// For a runtime that is not a worker's.
    ///
    /// # Errors
    /// What the system said.
    pub fn into_tokio(self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.0)
    }

    /// Where it listens, also when the system chose the port.
    ///
    /// # Errors
    /// What the system said.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Accepted connections have it from here: a client that vanishes without a word, as a laptop that is
/// closed, is known to have gone after some minutes. Its tunnel would stay open for ever.
fn notice_who_is_gone(socket: &Socket) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(GONE_AFTER);
    socket.set_tcp_keepalive(&keepalive.with_interval(GONE_AFTER / 6))
}

/// A restart may bind while connections of the one before linger.
///
/// Never SO_REUSEPORT: two sidecars on one port would split its connections unseen.
#[cfg(unix)]
fn own_the_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Nobody else may bind the same port.
///
/// By default any program of the same user may, with SO_REUSEADDR, and takes connections away:
/// for example an app that reads `HTTP_PLATFORM_PORT`.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the option has no safe interface")]
fn own_the_port(socket: &Socket) -> io::Result<()> {
    use std::os::windows::io::AsRawSocket as _;
    use windows_sys::Win32::Networking::WinSock;

    let on: i32 = 1;
    // SAFETY: the socket is open, and the option's value is an integer of the length that is said.
    let set = unsafe {
        WinSock::setsockopt(
            socket.as_raw_socket() as WinSock::SOCKET,
            WinSock::SOL_SOCKET,
            WinSock::SO_EXCLUSIVEADDRUSE,
            std::ptr::from_ref(&on).cast(),
            size_of::<i32>() as i32,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

// === impl Accept ===

impl Accept {
    /// What accepts, and what completes when it has stopped to.
    pub(super) fn new(
        listener: Listener,
        deal: Deal,
        phases: watch::Receiver<Phase>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (accepting, accepting_ended) = oneshot::channel();
        let accept = Self {
            listener,
            deal,
            phases,
            _accepting: accepting,
        };
        (accept, accepting_ended)
    }

    /// Accepts until the port shall be closed; then what is in the backlog, too.
    pub(super) async fn run(mut self, server: Rc<Server>) {
        let port = match Port::new(self.listener) {
            Ok(port) => port,
            Err(error) => return tracing::error!(%error, "cannot accept connections"),
        };
        let mut trouble = Trouble::default();
        loop {
            let is_full = self.deal.is_full();
            tokio::select! {
                () = tokio::time::sleep(FULL_PAUSE), if is_full => {}
                accepted = port.accept(), if !is_full => match accepted {
                    Ok((stream, peer)) => self.deal.serve(stream, peer, &server),
                    Err(error) => trouble.wait_out(&error).await,
                },
                _ = self.phases.wait_for(|phase| *phase >= Phase::Closed) => break,
            }
        }
        // Asked directly: the reactor may not have seen the last ones yet.
        let Ok(listener) = port.into_std() else {
            return;
        };
        loop {
            let accepted = inherit::alone(|| {
                let (stream, peer) = listener.accept()?;
                inherit::keep_private(&stream).map(|()| (stream, peer))
            });
            match accepted {
                Ok((stream, peer)) if stream.set_nonblocking(true).is_ok() => {
                    self.deal.serve(stream, peer, &server);
                }
                Ok(_) => {}
                // It has left, and others wait behind it.
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }
}

/// The port as one worker sees it. What it accepts does not block, and no reactor knows of it: who
/// serves it may be another worker, and may need none.
#[cfg(unix)]
struct Port(AsyncFd<std::net::TcpListener>);

#[cfg(unix)]
impl Port {
    #[expect(unsafe_code, reason = "a descriptor is registered")]
    fn new(listener: Listener) -> io::Result<Self> {
        // SAFETY: a listener owns its descriptor, and always names that one.
        let fd = unsafe { AsyncFd::register_with_interest(listener.0, Interest::READABLE)? };
        Ok(Self(fd))
    }

    /// Cancel safe.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.0.async_io(Interest::READABLE, |listener| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(rustix::net::acceptfrom_with(listener, flags)?)
        });
        let (socket, peer) = accepted.await?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok((socket.into(), peer.ok_or(io::ErrorKind::ConnectionAborted)?))
    }

    fn into_std(self) -> io::Result<std::net::TcpListener> {
        Ok(self.0.into_inner())
    }
}

#[cfg(windows)]
struct Port(tokio::net::TcpListener);

#[cfg(windows)]
impl Port {
    fn new(listener: Listener) -> io::Result<Self> {
        tokio::net::TcpListener::from_std(listener.0).map(Self)
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        // No app may inherit it, not even one that is started at this moment.
        let accept = |cx: &mut Context<'_>| {
            inherit::alone(|| {
                let (stream, peer) = ready!(self.0.poll_accept(cx))?;
                Poll::Ready(inherit::keep_private(&stream).map(|()| (stream, peer)))
            })
        };
        let (stream, peer) = poll_fn(accept).await?;
        // It fails on a connection that is gone already.
        let _ = stream.set_nodelay(true);
        Ok((stream.into_std()?, peer))
    }

    fn into_std(self) -> io::Result<std::net::TcpListener> {
        self.0.into_std()
    }
}

// === impl Deal ===

impl Deal {
    pub(super) fn new(workers: Vec<Intake>, here: usize, max_connections: usize) -> Self {
        Self {
            workers,
            here,
            max_connections,
        }
    }

    fn is_full(&self) -> bool {
        let connections: usize = self.workers.iter().map(Intake::connections).sum();
        connections >= self.max_connections
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, server: &Server) {
        let here = &self.workers[self.here];
        let least = self
            .workers
            .iter()
            .min_by_key(|worker| worker.connections());
        let least = least.unwrap_or(here);
        if here.connections() <= least.connections() + least.connections() / 2 + 1 {
            here.count();
            return server.serve(stream, peer);
        }
        least.serve(stream, peer);
    }
}

/// Errors of `accept`, none of which may end it.
#[derive(Default)]
struct Trouble {
    logged: Option<Instant>,
}

impl Trouble {
    async fn wait_out(&mut self, error: &io::Error) {
        if is_of_one_connection(error) {
            return;
        }
        let is_news = self.logged.is_none_or(|at| at.elapsed() >= EXHAUSTED_LOG);
        if is_news {
            self.logged = Some(Instant::now());
            tracing::error!(%error, "cannot accept connections for now");
        }
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn an_accepted_connection_does_not_wait_to_send() {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_address().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        listener.0.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.0.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn an_accepted_connection_is_asked_whether_anybody_is_there() {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_address().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        listener.0.set_nonblocking(false).unwrap();
        let accepted = Socket::from(listener.0.accept().unwrap().0);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), GONE_AFTER);
    }

    #[test]
    fn a_port_in_use_is_not_shared() {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let error = Listener::bind(listener.local_address().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(Listener::is_taken(&error));
    }

    #[test]
    fn a_port_that_is_denied_is_taken_on_windows_only() {
        let denied = match cfg!(windows) {
            true => io::Error::from_raw_os_error(10013),
            false => io::ErrorKind::PermissionDenied.into(),
        };
        assert_eq!(Listener::is_taken(&denied), cfg!(windows));
        let elsewhere = Listener::bind(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err();
        assert!(!Listener::is_taken(&elsewhere), "{elsewhere}");
    }
}
