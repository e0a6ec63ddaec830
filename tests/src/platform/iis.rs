//! The platform as a test holds it in its hands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::clock::Clock;
use super::event::{Event, Events};
use super::front;
use super::home::Home;
use super::host::Host;
use super::job::{Sandbox, terminate};
use super::module::Module;
use super::site::Site;
use crate::client::{Answer, Connection};
use crate::wait::eventually;

/// Number of lines of the log that a failure shows.
const LOG_TAIL: usize = 60;

/// A running platform. Nothing of it is left when it ends.
#[derive(Debug)]
pub struct Iis<'a> {
    home: &'a Home,
    address: SocketAddr,
    site: Arc<Site>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Iis ===

impl<'a> Iis<'a> {
    /// Serves a site; nothing of it is started before the first request.
    pub fn start(home: &'a Home, module: Module) -> Self {
        Self::start_on(home, module, "machine")
    }

    /// Starts it on the machine of this name: what is local to it is shared by no other.
    pub fn start_on(home: &'a Home, module: Module, machine: &str) -> Self {
        let host = Host {
            module,
            environment: home.environment_on(machine),
            root: home.wwwroot(),
            sandbox: Sandbox::new().expect("a sandbox"),
            clock: Clock::new(),
            events: Events::default(),
        };
        let site = Arc::new(Site::new(Arc::new(host)));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let handle = runtime.handle().clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a listener");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&site);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = front::serve(listener, Arc::clone(&served)) => {}
                    () = served.watch() => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            home,
            address,
            site,
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The platform's time.
    pub fn clock(&self) -> &Clock {
        &self.site.host.clock
    }

    /// Returns the events, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.site.host.events.all()
    }

    /// Counts the events of a kind.
    pub fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events().iter().filter(|event| is_it(event)).count()
    }

    /// Counts how often a server process has been started.
    pub fn starts(&self) -> usize {
        self.started().len()
    }

    /// Process ids and ports of the server processes, in the order of their starts.
    pub fn started(&self) -> Vec<(u32, u16)> {
        let started = |event: &Event| {
            let Event::Started { pid, port } = *event else {
                return None;
            };
            Some((pid, port))
        };
        self.events().iter().filter_map(started).collect()
    }

    /// Waits until something has happened so often.
    #[track_caller]
    pub fn waits_for(&self, times: usize, what: &str, is_it: impl Fn(&Event) -> bool) {
        eventually(
            || self.failure(what),
            || (self.count(&is_it) >= times).then_some(()),
        );
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("IIS accepts")
    }

    /// A GET on a new connection.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        let answer = self.connect().get(target);
        answer.unwrap_or_else(|error| {
            let what = format!("GET {target} is answered, not: {error}");
            panic!("{}", self.failure(&what))
        })
    }

    /// Waits until clients get this version of `sample-app`; whatever they get before, it is 200.
    #[track_caller]
    pub fn await_version(&self, version: &str) {
        eventually(
            || self.failure(&format!("{version} serves")),
            || {
                let answer = self.get("/version");
                let all = || self.failure(&format!("every answer is 200, not {answer:?}"));
                assert_eq!(answer.status, 200, "{}", all());
                (answer.text() == version).then_some(())
            },
        );
    }

    /// Waits until the worker has so many requests that have not been answered to their end.
    #[track_caller]
    pub fn await_in_flight(&self, count: usize) {
        eventually(
            || self.failure(&format!("{count} requests are in flight")),
            || (self.site.in_flight() == count).then_some(()),
        );
    }

    /// Another worker process takes over, as at a recycle of the application pool.
    pub fn recycle(&self) {
        let site = Arc::clone(&self.site);
        self.runtime.spawn(async move { site.recycle().await });
    }

    /// Ends the server processes as a stop of the application pool does, and waits for it. The
    /// next request starts them anew.
    pub fn stop(&self) {
        let (done, is_done) = mpsc::channel();
        let site = Arc::clone(&self.site);
        self.runtime.spawn(async move {
            site.unload().await;
            // The one who waits is there.
            let _ = done.send(());
        });
        let ended = is_done.recv_timeout(crate::wait::DEADLINE);
        assert!(ended.is_ok(), "{}", self.failure("what runs can be ended"));
    }

    /// Ends one process as the task manager does.
    pub fn kill(&self, pid: u32) {
        terminate(pid);
    }

    /// The living processes of this platform.
    pub fn processes(&self) -> Vec<u32> {
        self.site.host.sandbox.pids()
    }

    /// Waits until no process is left.
    #[track_caller]
    pub fn await_no_processes(&self) {
        eventually(
            || self.failure(&format!("no process is left, not {:?}", self.processes())),
            || self.processes().is_empty().then_some(()),
        );
    }

    /// Describes a fact that did not come, with all that may explain it.
    pub fn failure(&self, what: &str) -> String {
        let log = self.home.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        let events = self.events();
        let folder: PathBuf = self.home.root().to_owned();
        format!("{what}\nin {folder:?}\nevents: {events:#?}\nlog:\n{tail}\n")
    }
}

impl Drop for Iis<'_> {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic of its own has been printed.
            let _ = thread.join();
        }
        self.site.host.sandbox.kill();
        if !thread::panicking() {
            self.await_no_processes();
            let panicked = self.home.log().contains("panicked at");
            assert!(!panicked, "{}", self.failure("nothing panics"));
        }
    }
}
