//! A proxy with a fault that can be chosen: what a load test has to find.
//!
//! It takes one request a connection and asks for its end, so that where a request ends is plain.

mod exchange;
mod head;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;

use self::exchange::Exchange;

/// Requests before the first that suffers: by then every client has seen the new release.
const GOOD_ONES: usize = 50;
/// One in this number of the requests that a fault may hit is hit.
const HIT_EVERY: usize = 3;

/// A fault of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The port is closed.
    Refuse,
    /// A request is cut off before its answer.
    Reset,
    /// An answer is cut off in the middle.
    Truncate,
    /// A POST is sent twice.
    RepeatPost,
    /// The app before answers, long after the next one has.
    OldRelease,
    /// A request waits for 300 ms.
    Stall,
    /// An event stream stops for half a second after its first event, and then catches up.
    Freeze,
    /// A request is never answered.
    Silent,
    /// Two answers change their bodies.
    SwapBodies,
    /// The proxy makes up an answer itself.
    MakeUp,
    /// A WebSocket's message is left out.
    LoseMessage,
    /// A WebSocket's messages are left out from the second on, and after a while it is closed.
    LoseMessagesAndClose,
    /// The proxy says that there is no app, which there is.
    BadGateway,
    /// The proxy answers with something that is no HTTP.
    Garble,
}

/// The running proxy. It ends with this value.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

/// State shared by all connections.
#[derive(Debug)]
struct Shared {
    fault: Fault,
    new: SocketAddr,
    old: SocketAddr,
    requests: AtomicUsize,
    eligible: AtomicUsize,
    suffered: AtomicUsize,
    swap: Mutex<Option<Waiting>>,
}

/// Waits for another body.
#[derive(Debug)]
struct Waiting {
    /// The body that it gives for it.
    body: Vec<u8>,
    partner: Sender<Vec<u8>>,
}

// === impl Fault ===

impl Fault {
    /// Returns whether it could hit this request.
    fn may_hit(self, method: &str, path: &str, has_length: bool) -> bool {
        match self {
            Self::None | Self::Refuse => false,
            Self::Reset | Self::Truncate | Self::OldRelease | Self::Stall => true,
            // A body that is not read would end in a reset.
            Self::BadGateway | Self::Garble => method == "GET",
            Self::RepeatPost | Self::SwapBodies => method == "POST" && has_length,
            Self::Freeze => path == "/stream",
            // On kept connections, others would wait with it.
            Self::Silent => path == "/slow",
            Self::MakeUp => path == "/version",
            Self::LoseMessage | Self::LoseMessagesAndClose => path == "/ws",
        }
    }
}

// === impl Faulty ===

impl Faulty {
    /// Starts it in front of an app, `old` being the app before.
    pub fn start(fault: Fault, new: SocketAddr, old: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("a port");
        let is_over = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            fault,
            new,
            old,
            requests: AtomicUsize::new(0),
            eligible: AtomicUsize::new(0),
            suffered: AtomicUsize::new(0),
            swap: Mutex::new(None),
        });
        let (until, field) = (Arc::clone(&is_over), Arc::clone(&shared));
        thread::spawn(move || {
            let serve = |client: io::Result<TcpStream>| {
                let shared = Arc::clone(&field);
                // Who leaves in the middle is the client's affair, and counted there.
                thread::spawn(move || client.and_then(|client| shared.serve(client)));
            };
            for (number, client) in listener.incoming().enumerate() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                serve(client);
                if fault == Fault::Refuse && number > GOOD_ONES {
                    break;
                }
            }
            // Who is connected already is not refused.
            let waiting = listener.set_nonblocking(true).and_then(|()| {
                let mut waiting = Vec::new();
                while let Ok((client, _)) = listener.accept() {
                    client.set_nonblocking(false)?;
                    waiting.push(client);
                }
                Ok(waiting)
            });
            drop(listener);
            waiting
                .into_iter()
                .flatten()
                .for_each(|client| serve(Ok(client)));
        });
        Self {
            address,
            is_over,
            shared,
        }
    }

    /// Returns the number of requests that suffered.
    pub fn suffered(&self) -> u64 {
        self.shared.suffered.load(Ordering::Relaxed) as u64
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It looks when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

// === impl Shared ===

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let Some(exchange) = Exchange::begin(client)? else {
            return Ok(());
        };
        if !self.hits(&exchange) {
            return exchange.pass_on(self.new);
        }
        if self.fault != Fault::SwapBodies {
            self.suffered.fetch_add(1, Ordering::Relaxed);
        }
        match self.fault {
            Fault::None | Fault::Refuse => exchange.pass_on(self.new),
            Fault::Reset => exchange.reset(),
            Fault::Truncate => exchange.truncate(self.new),
            Fault::RepeatPost => exchange.repeat(self.new),
            Fault::OldRelease => exchange.pass_on(self.old),
            Fault::Stall => exchange.stall(self.new),
            Fault::Freeze => exchange.freeze(self.new),
            Fault::Silent => exchange.ignore(),
            Fault::SwapBodies => {
                // Who finds no partner does not suffer.
                let is_swapped = exchange.swap_body(self.new, &self.swap)?;
                self.suffered
                    .fetch_add(is_swapped.into(), Ordering::Relaxed);
                Ok(())
            }
            Fault::MakeUp => exchange.make_up(),
            Fault::LoseMessage => exchange.lose_message(self.new),
            Fault::LoseMessagesAndClose => exchange.lose_messages_and_close(self.new),
            Fault::BadGateway => exchange.bad_gateway(),
            Fault::Garble => exchange.garble(),
        }
    }

    fn hits(&self, exchange: &Exchange) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let head = exchange.head();
        let has_length = head.field("content-length").is_some();
        number >= GOOD_ONES
            && self.fault.may_hit(head.method(), head.path(), has_length)
            && self
                .eligible
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(HIT_EVERY)
    }
}
