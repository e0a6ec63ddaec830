//! A handoff, or an app, that can take no more connections.
#![cfg(unix)] // Windows has no such limit for a process.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tests::Site;
use tests::stage::{GET, Stage};
use tests::wait::eventually;

/// A process that does nothing until this is dropped.
struct Halted(Pid);

fn process(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid")
}

/// Gives the process `descriptors` at most, those that it has among them.
fn limit(pid: u32, descriptors: u64) {
    let pid = process(pid);
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit).expect("a limit");
}

impl Halted {
    fn new(pid: u32) -> Self {
        let pid = process(pid);
        kill_process(pid, Signal::STOP).expect("a process");
        Self(pid)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn an_app_that_accepts_no_connection_in_time_is_a_504() {
    let stage = Stage::with(&[("--connect-timeout", "1s"), ("--hold-timeout", "1h")]);
    let active = stage
        .site()
        .status()
        .active
        .clone()
        .expect("an active instance");
    let halted = Halted::new(active.pid.expect("a process"));
    let app = active.address.expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&app, Duration::from_secs(1)) {
        waiting.push(stream);
        assert!(waiting.len() < 1_000, "a backlog has an end");
    }
    stage.client_sends(GET).expect_refusal(504);
    drop((halted, waiting));
}

#[test]
fn without_descriptors_handoff_waits_and_serves_on_when_some_are_free_again() {
    let site = Site::watching_a_pointer().start("v1");
    site.await_version("v1");
    limit(site.status().pid, 64);
    let mut clients = Vec::new();
    eventually(
        || "handoff runs out of descriptors".to_owned(),
        || {
            clients.push(TcpStream::connect(site.address()).expect("no connection is refused"));
            site.log()
                .contains("cannot accept connections for now")
                .then_some(())
        },
    );
    drop(clients);
    site.await_version("v1");
}
