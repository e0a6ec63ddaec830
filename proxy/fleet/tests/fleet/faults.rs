//! Stores that fail.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tests::load::Load;
use tests::{Site, command, eventually};

use crate::store::{Store, launches};

/// The fault of a way.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Every request gets this answer.
    Answer(&'static str),
    /// The first request that begins like this reaches the store, and its answer is lost.
    LoseAnswer(&'static str),
}

/// A way to the store. moto closes each connection after its request.
struct Way {
    port: u16,
    fault: Arc<Mutex<Fault>>,
    /// Number of requests that have met a fault.
    met: Arc<AtomicUsize>,
}

impl Way {
    fn to(store: &Store, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let way = Self {
            port: listener.local_addr().expect("its address").port(),
            fault: Arc::new(Mutex::new(fault)),
            met: Arc::default(),
        };
        let (to, fault, met) = (store.port, Arc::clone(&way.fault), Arc::clone(&way.met));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let fault = Arc::clone(&fault);
                let met = Arc::clone(&met);
                // A client that ends early is none of the test's failures.
                thread::spawn(move || carry(stream, to, &fault, &met).ok());
            }
        });
        way
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().expect("a fault") = fault;
    }

    fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

fn carry(
    mut stream: TcpStream,
    to: u16,
    fault: &Mutex<Fault>,
    met: &AtomicUsize,
) -> io::Result<()> {
    let mut begin = [0; 1024];
    let length = stream.read(&mut begin)?;
    let begin = &begin[..length];
    let now = *fault.lock().expect("a fault");
    if let Fault::Answer(answer) = now {
        met.fetch_add(1, Ordering::SeqCst);
        return stream.write_all(answer.as_bytes());
    }
    let mut store = TcpStream::connect(("127.0.0.1", to))?;
    store.write_all(begin)?;
    let (mut rest, mut to_store) = (stream.try_clone()?, store.try_clone()?);
    thread::spawn(move || io::copy(&mut rest, &mut to_store).ok());
    let mut answer = Vec::new();
    store.read_to_end(&mut answer)?;
    if let Fault::LoseAnswer(of) = now
        && begin.starts_with(of.as_bytes())
    {
        *fault.lock().expect("a fault") = Fault::None;
        met.fetch_add(1, Ordering::SeqCst);
        return stream.shutdown(std::net::Shutdown::Both);
    }
    stream.write_all(&answer)?;
    stream.shutdown(std::net::Shutdown::Both)
}

#[test]
fn a_store_that_answers_wrongly_changes_nothing() {
    let Some(store) = Store::start() else { return };
    let site = Site::watching_a_pointer().start("v1");
    let way = Way::to(&store, Fault::None);
    let mirror = store.mirror_by(way.port, &site, &["--poll", "50ms"]);
    store.await_members(1);
    store.deploy(&site, "v2").with(0);
    let load = Load::offer(site.address(), 20);
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"1\"\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"1\"\r\n\r\n{",
        "",
    ] {
        way.set(Fault::Answer(answer));
        let before = way.met();
        eventually(
            || format!("the mirror meets {answer:?}: {}", mirror.printed_errors()),
            || (way.met() > before + 1).then_some(()),
        );
    }
    way.set(Fault::None);
    mirror.await_stderr("the channel can be followed again");
    assert_eq!(launches(&site, "v2"), 1);
    assert!(site.status().is_active("v2"));
    store.deploy(&site, "v3").with(0);
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[test]
fn a_write_whose_answer_is_lost_is_done_once() {
    let Some(store) = Store::start() else { return };
    let site = Site::watching_a_pointer().start("v1");
    let way = Way::to(&store, Fault::LoseAnswer("PUT /fleet/site/channel.json"));
    let path = site.deployment().build("v2").display().to_string();
    let deploy = command::start(store.fleet_by(way.port, &["deploy", &path]));
    deploy.end().with(4).saying(&["no machine"]);
    assert_eq!(way.met(), 1);
    let status = store.status();
    assert_eq!(status["channel"]["serial"], 1, "{status}");

    // Without the store a deploy ends in time all the same.
    let options = ["deploy", &path, "--poll", "5s", "--timeout", "1s"];
    let deploy = command::start(store.fleet_by(way.port, &options));
    eventually(
        || format!("a second write: {}", store.status()),
        || (store.status()["channel"]["serial"] == 2).then_some(()),
    );
    way.set(Fault::Answer(""));
    deploy.end().with(3).saying(&["the store:", "not in time"]);
}
