//! The public port: bound before anything else, and never given up while this process serves.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Phase;
use super::worker::Intake;

/// More than the system keeps by default (128): while workers are busy, connections wait here.
const BACKLOG: i32 = 4096;
/// How long to wait when the system has no descriptor or memory for one more connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How soon to look whether one of too many connections has ended.
const FULL_PAUSE: Duration = Duration::from_millis(10);
const EXHAUSTED_LOG: Duration = Duration::from_secs(1);

/// The bound port.
#[derive(Debug)]
pub struct Listener(std::net::TcpListener);

/// Accepts connections and deals them to the workers.
#[derive(Debug)]
pub(super) struct Accept {
    listener: Listener,
    workers: Vec<Intake>,
    max_connections: usize,
    phases: watch::Receiver<Phase>,
    // Dropped when no more connections are accepted.
    _accepting: oneshot::Sender<()>,
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
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// Where it listens, also when the system chose the port.
    ///
    /// # Errors
    /// What the system said.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
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
        workers: Vec<Intake>,
        max_connections: usize,
        phases: watch::Receiver<Phase>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (accepting, accepting_ended) = oneshot::channel();
        let accept = Self {
            listener,
            workers,
            max_connections,
            phases,
            _accepting: accepting,
        };
        (accept, accepting_ended)
    }

    /// Accepts until the port shall be closed; then what is in the backlog, too.
    pub(super) async fn run(mut self) {
        let listener = match TcpListener::from_std(self.listener.0) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot accept connections"),
        };
        let mut trouble = Trouble::default();
        loop {
            let connections: usize = self.workers.iter().map(Intake::connections).sum();
            tokio::select! {
                () = tokio::time::sleep(FULL_PAUSE), if connections >= self.max_connections => {}
                accepted = listener.accept(), if connections < self.max_connections => match accepted.and_then(into_std) {
                    Ok((stream, peer)) => deal(&self.workers, stream, peer),
                    Err(error) => trouble.wait_out(&error).await,
                },
                _ = self.phases.wait_for(|phase| *phase >= Phase::Closed) => break,
            }
        }
        let Ok(listener) = listener.into_std() else {
            return;
        };
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                deal(&self.workers, stream, peer);
            }
        }
    }
}

fn into_std(
    (stream, peer): (tokio::net::TcpStream, SocketAddr),
) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    stream.set_nodelay(true)?;
    Ok((stream.into_std()?, peer))
}

/// To the worker with the fewest: kept connections differ in how long they last.
fn deal(workers: &[Intake], stream: std::net::TcpStream, peer: SocketAddr) {
    if let Some(worker) = workers.iter().min_by_key(|worker| worker.connections()) {
        worker.serve(stream, peer);
    }
}

/// Errors of `accept`, none of which may end it.
#[derive(Default)]
struct Trouble {
    logged: Option<Instant>,
}

impl Trouble {
    async fn wait_out(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        let is_of_one_connection = matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
        );
        if is_of_one_connection {
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
