//! Clients of HTTP/2 that ask for more work, or more memory, than they pay for.
#![cfg(target_os = "linux")] // It reads from /proc what is used.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use handoff::os::procfs::resident_memory;
use tests::Site;
use tests::http2::attack::{ATTACKS, Attack, AttackReport};
use tests::http2::frames::{FrameWire, GOAWAY, PING, PRIORITY, WINDOW_UPDATE, frame};
use tests::wait::sleep_for;

/// The reason `ENHANCE_YOUR_CALM` in a GOAWAY.
const CALM: [u8; 4] = [0, 0, 0, 11];

/// A server under attack.
#[derive(Clone, Copy)]
struct Server {
    address: SocketAddr,
    pid: u32,
    /// Path of what other clients ask for.
    path: &'static str,
}

/// The effect of an attack on a server.
#[derive(Debug)]
struct Effect {
    report: AttackReport,
    /// Memory beyond that before the attack, at most, in bytes.
    memory: u64,
    others: Others,
}

/// Requests of another client beside an attack.
#[derive(Debug, Default)]
struct Others {
    times: Vec<Duration>,
    failed: usize,
}

// === impl Server ===

impl Server {
    fn attack(self, attack: &Attack, connections: usize, time: Duration) -> Effect {
        let is_over = AtomicBool::new(false);
        let memory = || resident_memory(self.pid).expect("it runs");
        let before = memory();
        thread::scope(|scope| {
            let others = scope.spawn(|| self.ask_until(&is_over));
            let most = scope.spawn(|| {
                let mut most = 0;
                while !is_over.load(Ordering::Relaxed) {
                    most = most.max(memory());
                    sleep_for(Duration::from_millis(20), "between two samples");
                }
                most
            });
            let report = attack.run(self.address, connections, time);
            is_over.store(true, Ordering::Relaxed);
            Effect {
                report,
                memory: most.join().expect("no panic").saturating_sub(before),
                others: others.join().expect("no panic"),
            }
        })
    }

    /// Sends one request after the other on one connection, or on the next one if that ends.
    fn ask_until(self, is_over: &AtomicBool) -> Others {
        let mut others = Others::default();
        let mut connection = None;
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let client = match &mut connection {
                Some(client) => client,
                none => {
                    let client = FrameWire::connect(self.address);
                    none.insert(client.expect("no connection is refused"))
                }
            };
            if client.get(self.path).is_ok() {
                others.times.push(begun.elapsed());
            } else {
                others.failed += 1;
                connection = None;
            }
            sleep_for(Duration::from_millis(5), "a client has pauses");
        }
        others.times.sort_unstable();
        others
    }

    /// Returns the processor time of the process in seconds.
    fn processor_time(self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        let behind_name = stat.rsplit(')').next().expect("fields");
        let ticks = behind_name.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks
            .map(|part| part.parse::<f64>().expect("a number"))
            .sum();
        ticks / 100.0
    }
}

#[test]
fn each_attack_leaves_memory_and_time_for_others() {
    const MUCH: u64 = 48 << 20;
    let site = Site::watching_a_pointer().start("v1");
    let server = Server {
        address: site.address(),
        pid: site.pid(),
        path: "/version",
    };
    for attack in ATTACKS {
        let effect = server.attack(attack, 2, Duration::from_millis(400));
        assert!(effect.memory < MUCH, "{}: {effect:?}", attack.name);
        assert_eq!(effect.others.failed, 0, "{}: {effect:?}", attack.name);
        assert!(
            !effect.others.times.is_empty(),
            "{}: {effect:?}",
            attack.name
        );
    }
    // A client that floods does not flood the log, either.
    let log = site.log();
    let warnings = log.lines().filter(|line| line.contains(" WARN ")).count();
    assert!(warnings < 10, "{log}");
}

#[test]
fn frames_without_a_request_end_their_connection_and_no_other() {
    let site = Site::watching_a_pointer().start("v1");
    let mut other = FrameWire::connect(site.address()).expect("a connection");
    for frames in [
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]),
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
    ] {
        let mut client = FrameWire::connect(site.address()).expect("a connection");
        client.get("/version").expect("an answer");
        let thousand = frames.repeat(1_000);
        // Five megabytes; four are too many.
        for _ in 0..400 {
            if client.send(&thousand).is_err() {
                break;
            }
        }
        let ended = client.receive_until(GOAWAY).expect("a GOAWAY");
        assert_eq!(ended.payload[4..8], CALM, "{ended:?}");
        other.get("/version").expect("an answer");
    }
    site.await_log("event=\"http2_flooded\"");
}

#[test]
fn frames_between_requests_are_no_flood() {
    let site = Site::watching_a_pointer().start("v1");
    let mut client = FrameWire::connect(site.address()).expect("a connection");
    let pings = frame(PING, 0, 0, b"12345678").repeat(200);
    // As many bytes as end a connection without requests.
    for _ in 0..1_300 {
        client.send(&pings).expect("they are taken");
        client.get("/version").expect("an answer");
    }
}

/// Prints what each attack costs a server of HTTP/2 without TLS, of which others ask for `/`.
#[test]
#[ignore = "a measurement: HTTP2_SERVER=127.0.0.1:8080 HTTP2_PID=123 cargo test -p tests --test it http2_attacks:: -- --ignored --nocapture"]
fn the_cost_of_each_attack() {
    const TIME: Duration = Duration::from_secs(4);
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let server = Server {
        address: variable("HTTP2_SERVER").parse().expect("an address"),
        pid: variable("HTTP2_PID").parse().expect("a number"),
        path: "/",
    };
    for attack in ATTACKS {
        let before = server.processor_time();
        let effect = server.attack(attack, 8, TIME);
        let time = (server.processor_time() - before) / TIME.as_secs_f64();
        let Others { times, failed } = &effect.others;
        let quantile = |share: f64| times.get((times.len() as f64 * share) as usize);
        println!(
            "{:26} {:6} KiB, {:3.0} % of a processor; others: {} answered, {failed} failed, \
             median {:.1?}, p99 {:.1?}; {:?}",
            attack.name,
            effect.memory >> 10,
            time * 100.0,
            times.len(),
            quantile(0.5).unwrap_or(&TIME),
            quantile(0.99).unwrap_or(&TIME),
            effect.report,
        );
    }
}
