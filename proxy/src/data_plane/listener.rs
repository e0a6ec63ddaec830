//! The public port: bound before anything else, and kept until the process ends.

#[cfg(windows)]
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
#[cfg(windows)]
use std::task::{Context, Poll, ready};
use std::time::Duration;

#[cfg(unix)]
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
#[cfg(unix)]
use tokio::io::{Interest, unix::AsyncFd};

#[cfg(windows)]
use crate::os::inherit;

/// Length of the queue in which connections wait while the workers are busy; the system's default is
/// 128.
///
/// Windows limits it to about 200 and refuses further connections, unless the number is negative
/// (`SOMAXCONN_HINT`, documentation of Winsock's `listen`).
const BACKLOG: i32 = if cfg!(windows) { -4096 } else { 4096 };
/// Time without traffic after which the system probes a connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// The bound port.
#[derive(Debug)]
pub(crate) struct Listener(std::net::TcpListener);

/// The port as one worker accepts from it.
///
/// The accepted sockets do not block and are not registered with a reactor: another worker may
/// serve them, and a short connection needs none.
#[cfg(unix)]
pub(super) struct WorkerListener(AsyncFd<std::net::TcpListener>);

/// The port as one worker accepts from it.
#[cfg(windows)]
pub(super) struct WorkerListener(tokio::net::TcpListener);

// === impl Listener ===

impl Listener {
    /// Binds `address` and listens: from now on no connection is refused. For errors see
    /// [`Listener::is_taken`].
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        claim_port(&socket)?;
        // Accepted connections inherit both options (not on Windows). Without a delay, heads and
        // bodies sent one after the other do not wait for the client's acknowledgement.
        enable_keepalive(&socket)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// Returns `true` if a port could not be bound because another program uses it.
    ///
    /// Windows reports some of these as denied (WSAEACCES, 10013): a port bound exclusively on all
    /// addresses ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE" in Microsoft's documentation), and one
    /// that belongs to a driver, such as IIS's http.sys. On Unix a denied port stays denied.
    pub(crate) fn is_taken(error: &io::Error) -> bool {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        error.kind() == io::ErrorKind::AddrInUse || cfg!(windows) && is_denied
    }

    /// Returns a listener for each worker, or only one on Windows, where a socket belongs to one
    /// completion port.
    pub(super) fn share_among(self, workers: usize) -> io::Result<Vec<Self>> {
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

    /// Takes over a socket that a service manager has bound. It goes on listening while this process
    /// restarts.
    pub(crate) fn from_inherited(listener: std::net::TcpListener) -> io::Result<Self> {
        let socket = Socket::from(listener);
        enable_keepalive(&socket)?;
        socket.set_tcp_nodelay(true)?;
        // It may be listening with a shorter queue.
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// Returns the socket.
    pub(crate) fn socket(&self) -> &std::net::TcpListener {
        &self.0
    }

    /// Converts it for the runtime of the caller.
    pub(crate) fn into_tokio(self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.0)
    }

    /// Returns the bound address, with the port that the system chose for port 0.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Enables probes, which accepted connections inherit: a client that vanished without closing is
/// detected after some minutes. Its tunnel would otherwise stay open for ever.
fn enable_keepalive(socket: &Socket) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    socket.set_tcp_keepalive(&keepalive.with_interval(KEEPALIVE_IDLE / 6))
}

/// Lets a restarted process bind while connections of the previous one linger.
///
/// Never SO_REUSEPORT: two sidecars on one port would divide its connections unnoticed.
#[cfg(unix)]
fn claim_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Makes the port exclusive.
///
/// By default any program of the same user can bind it too, with SO_REUSEADDR, and take connections
/// away: for example an app that reads `HTTP_PLATFORM_PORT`.
#[cfg(windows)]
#[expect(unsafe_code, reason = "the option has no safe interface")]
fn claim_port(socket: &Socket) -> io::Result<()> {
    use std::os::windows::io::AsRawSocket as _;
    use windows_sys::Win32::Networking::WinSock;

    let on: i32 = 1;
    // SAFETY: the socket is open, and the value is an integer of the stated length.
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

// === impl WorkerListener ===

#[cfg(unix)]
impl WorkerListener {
    /// Registers the listener with the reactor of this thread.
    #[expect(unsafe_code, reason = "a descriptor is registered")]
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        // SAFETY: a listener owns its descriptor, and always names that one.
        let fd = unsafe { AsyncFd::register_with_interest(listener.0, Interest::READABLE)? };
        Ok(Self(fd))
    }

    /// Waits for a connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.0.async_io(Interest::READABLE, |listener| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(rustix::net::acceptfrom_with(listener, flags)?)
        });
        let (socket, peer) = accepted.await?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok((socket.into(), peer.ok_or(io::ErrorKind::ConnectionAborted)?))
    }

    /// Removes the listener from the reactor.
    pub(super) fn into_std(self) -> io::Result<std::net::TcpListener> {
        Ok(self.0.into_inner())
    }
}

#[cfg(windows)]
impl WorkerListener {
    /// Registers the listener with the reactor of this thread.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        tokio::net::TcpListener::from_std(listener.0).map(Self)
    }

    /// Waits for a connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        // No app may inherit the socket, not even one that is started at this moment.
        let accept = |cx: &mut Context<'_>| {
            inherit::with_spawn_lock(|| {
                let (stream, peer) = ready!(self.0.poll_accept(cx))?;
                Poll::Ready(inherit::keep_private(&stream).map(|()| (stream, peer)))
            })
        };
        let (stream, peer) = poll_fn(accept).await?;
        // Fails only on a connection that has ended already.
        let _ = stream.set_nodelay(true);
        Ok((stream.into_std()?, peer))
    }

    /// Removes the listener from the reactor.
    pub(super) fn into_std(self) -> io::Result<std::net::TcpListener> {
        self.0.into_std()
    }
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
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
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
        let denied = if cfg!(windows) {
            io::Error::from_raw_os_error(10013)
        } else {
            io::ErrorKind::PermissionDenied.into()
        };
        assert_eq!(Listener::is_taken(&denied), cfg!(windows));
        let elsewhere = Listener::bind(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err();
        assert!(!Listener::is_taken(&elsewhere), "{elsewhere}");
    }
}
