//! Other programs on the machine that get in the way: they take ports, and open files.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::scene::Scene;
use super::schedule::Good;
use crate::wait;

/// Time between two looks at the log.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

// === impl Scene ===

impl Scene {
    /// Deploys a release whose first instance finds its port taken.
    pub(super) fn take_port(&mut self) {
        let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let there = elsewhere.local_addr().expect("a port");
        let before = self.site.log().len();
        let version = self.artifacts.good(Good::Late);
        let is_over = AtomicBool::new(false);
        let is_taken = thread::scope(|scope| {
            let thief = scope.spawn(|| {
                let mut taken = None;
                while taken.is_none() && !is_over.load(Ordering::Relaxed) {
                    let log = self.site.log();
                    taken = port_of_launch(&log[before..], &version)
                        .and_then(|port| connect_from(port, there).ok());
                    wait::sleep_for(LOOK_AGAIN, "handoff chooses a port");
                }
                while !is_over.load(Ordering::Relaxed) {
                    wait::sleep_for(LOOK_AGAIN, "the port is taken");
                }
                taken.is_some()
            });
            self.await_version(&version);
            is_over.store(true, Ordering::Relaxed);
            thief.join().expect("a look at the log")
        });
        if is_taken {
            self.count("port taken".to_owned());
        }
    }

    /// Deploys a release while somebody opens it for writing, but does not write.
    pub(super) fn open_for_writing(&mut self, ms: u64) {
        let pid = self.site.pid();
        let version = self.artifacts.good(Good::Plain);
        let path = self.artifacts.path(&version);
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until {
            drop(
                File::options()
                    .append(true)
                    .open(&path)
                    .expect("the artifact"),
            );
            wait::sleep_for(LOOK_AGAIN, "a writer comes again");
        }
        self.await_version(&version);
        assert_eq!(self.site.pid(), pid);
        assert!(
            !self.site.has_ended(),
            "{}",
            self.site.failure("handoff lives")
        );
    }
}

/// Returns the port of the first launch of a release, as the log says.
fn port_of_launch(log: &str, version: &str) -> Option<u16> {
    let of_release = format!(" release=\"{version}-");
    let mut lines = log.lines();
    let line = lines.find(|line| line.contains("launched as") && line.contains(&of_release))?;
    let (_, port) = line.split_once(" for port ")?;
    port.split(' ').next()?.parse().ok()
}

/// Connects from this port.
fn connect_from(port: u16, to: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.connect(&to.into())?;
    Ok(socket)
}
