//! Stores that fail.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tests::load::Load;
use tests::wait::sleep_for;
use tests::{Site, command, eventually};

use crate::store::{Store, launches};

/// The fault of a way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// Every request gets this answer.
    Answer(&'static str),
    /// Requests are read, and never answered.
    Hang,
    /// All is forbidden but to read objects and to write members, as S3 forbids it: also what is missing.
    LeastRights,
    /// The first request that begins like this reaches the store, and its answer is lost.
    LoseAnswer(&'static str),
}

/// A way to the store. moto closes each connection after its request.
pub(crate) struct Way {
    pub(crate) port: u16,
    fault: Arc<Mutex<Fault>>,
    /// Number of requests that have met a fault.
    met: Arc<AtomicUsize>,
}

impl Way {
    pub(crate) fn to(store: &Store, fault: Fault) -> Self {
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
    if let Fault::Hang = now {
        met.fetch_add(1, Ordering::SeqCst);
        while let Fault::Hang = *fault.lock().expect("a fault") {
            sleep_for(Duration::from_millis(20), "it hangs");
        }
        return Ok(());
    }
    let is_limited = matches!(now, Fault::LeastRights);
    let permitted = [
        "GET /fleet/site/",
        "HEAD /fleet/site/",
        "PUT /fleet/site/members/",
    ];
    if is_limited
        && !permitted
            .iter()
            .any(|one| begin.starts_with(one.as_bytes()))
    {
        return forbid(stream);
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
    if is_limited && begin.starts_with(b"GET ") && answer.starts_with(b"HTTP/1.1 404") {
        return forbid(stream);
    }
    stream.write_all(&answer)?;
    stream.shutdown(std::net::Shutdown::Both)
}

/// Refuses a request of which nothing has to be read any more.
fn forbid(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
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
    let status = || site.deployment().run_command("status", &[]).with(0).stdout;
    let says = "handoff-fleet mirror has reported for ";
    assert!(status().contains(says), "{}", status());
    way.set(Fault::None);
    mirror.await_stderr("the channel can be followed again");
    eventually(
        || format!("it has nothing more to report: {}", status()),
        || (!status().contains(says)).then_some(()),
    );
    assert_eq!(launches(&site, "v2"), 1);
    assert!(site.status().is_active("v2"));
    store.deploy(&site, "v3").with(0);
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[test]
fn a_store_that_hangs_and_forbids_in_a_roll_out_halts_none() {
    let Some(store) = Store::start() else { return };
    let sites = [0, 1].map(|_| Site::watching_a_pointer().start("v1"));
    let way = Way::to(&store, Fault::None);
    let mirrors = sites.each_ref().map(|site| {
        let command = store.mirror_command(way.port, site, &["--poll", "50ms"]);
        impatient(command)
    });
    store.await_members(2);
    store.deploy(&sites[0], "v2").with(0);
    let loads = sites.each_ref().map(|site| Load::offer(site.address(), 20));
    let path = sites[0].deployment().build("v3").display().to_string();
    let options = ["deploy", &path, "--poll", "50ms", "--at-most", "1"];
    let baking = ["--first", "1", "--bake", "2s"];
    let deploy = impatient(store.fleet_by(way.port, &[&options[..], &baking].concat()));
    deploy.await_stderr("waiting 2s");
    for fault in [
        Fault::Hang,
        Fault::Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let all = || mirrors.iter().chain([&deploy]);
        let told = |one: &command::Command| one.printed_errors().matches("the store:").count();
        let before: Vec<_> = all().map(told).collect();
        way.set(fault);
        for (one, before) in all().zip(&before) {
            eventually(
                || format!("it meets {fault:?}: {}", one.printed_errors()),
                || (told(one) > *before).then_some(()),
            );
        }
        if let Fault::Answer(_) = fault {
            let met = way.met();
            eventually(
                || "it is met often".to_owned(),
                || (way.met() > met + 50).then_some(()),
            );
        }
        for (one, before) in all().zip(&before) {
            // It reads and writes, and the change of the fault breaks a request off.
            let lines = told(one) - before;
            assert!(lines <= 4, "not once a try: {}", one.printed_errors());
        }
    }
    let serving = ["v2", "v3"].map(|version| {
        let serve = sites.iter().map(|site| site.status());
        serve.filter(|status| status.is_active(version)).count()
    });
    assert_eq!(serving, [1, 1]);
    way.set(Fault::None);
    let again = "the store can be used again, after ";
    deploy.end().with(0).saying(&["v3", "runs on", again]);
    for site in &sites {
        assert_eq!(launches(site, "v3"), 1);
    }
    for load in loads {
        let tally = load.end();
        assert_eq!(tally.lost(), 0, "{tally}");
    }
}

/// Starts a command that waits for no answer longer than a second.
fn impatient(mut command: Command) -> command::Command {
    command.env("AWS_TIMEOUT", "1s");
    command::start(command)
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
