//! A sidecar at rest: what it costs although nothing happens.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use tokio::time::sleep;

use super::deployment::{Artifact, Deployment};
use super::{Limited, Programs};
use crate::commands::bench::report::Check;
use crate::generator::websocket::KEY;
use crate::host::usage::{Cpu, rss_kib};

/// Number of files in the deployed folder.
const FILES: usize = 20_000;
/// Time until what follows a start or a change is over, and for which a sidecar is watched.
const CALM: Duration = Duration::from_secs(8);
const WATCHED: Duration = Duration::from_secs(20);

/// Upper limits without a connection: processor time in milliseconds a second, wake-ups a second.
const CPU: f64 = 0.1;
const WAKE_UPS: f64 = 2.0;

/// Many connections of one kind on which nothing happens.
struct Kind {
    name: &'static str,
    count: usize,
    request: String,
    /// True if the app answers at once.
    is_answered: bool,
    /// Upper limits: processor time in milliseconds a second, and memory of each in KiB.
    cpu: f64,
    memory: f64,
}

/// Measures all figures.
pub async fn measure(programs: &Programs) -> Vec<Check> {
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n");
    let kinds = [
        Kind {
            name: "5,000 kept connections",
            count: 5_000,
            request: get("/"),
            is_answered: true,
            cpu: 1.0,
            memory: 8.0,
        },
        Kind {
            name: "1,000 tunnels",
            count: 1_000,
            request: upgrade,
            is_answered: true,
            cpu: 1.0,
            memory: 6.0,
        },
        Kind {
            name: "1,000 requests that the app is busy with",
            count: 1_000,
            request: get("/slow?ms=120000"),
            is_answered: false,
            cpu: 1.0,
            memory: 16.0,
        },
    ];
    let mut checks = Vec::new();
    let (cpu, wake_ups) = both(without_connections(programs).await);
    let name = "at rest with a folder of 20,000 files";
    let limited = |figure: Result<f64, String>, limit| figure.map(|figure| (figure, limit));
    checks.push(Check::new(
        &format!("{name}: CPU"),
        "ms/s",
        limited(cpu, CPU),
    ));
    let wake_ups: Limited = limited(wake_ups, WAKE_UPS);
    checks.push(Check::new(&format!("{name}: wake-ups"), "1/s", wake_ups));
    for (number, kind) in kinds.iter().enumerate() {
        let (cpu, memory) = both(with(programs, &format!("kind-{number}"), kind).await);
        let name = format!("{}: CPU", kind.name);
        checks.push(Check::new(&name, "ms/s", limited(cpu, kind.cpu)));
        let name = format!("{}: memory of each", kind.name);
        checks.push(Check::new(&name, "KiB", limited(memory, kind.memory)));
    }
    checks
}

fn both(figures: Result<(f64, f64), String>) -> (Result<f64, String>, Result<f64, String>) {
    match figures {
        Ok((one, other)) => (Ok(one), Ok(other)),
        Err(error) => (Err(error.clone()), Err(error)),
    }
}

/// Returns the processor time in milliseconds a second, and the wake-ups a second.
async fn without_connections(programs: &Programs) -> Result<(f64, f64), String> {
    let deployment = Deployment::start(programs, "folder", Artifact::Folder(FILES)).await?;
    let figures = async {
        let pid = deployment.pid()?;
        deployment.wait_until_synced()?;
        sleep(CALM).await;
        let before = wake_ups(pid);
        let cpu = cpu(pid).await;
        Ok((cpu, (wake_ups(pid) - before) / WATCHED.as_secs_f64()))
    };
    let figures = figures.await;
    deployment.stop().await;
    figures
}

/// Returns the processor time in milliseconds a second, and the memory of each connection in KiB.
async fn with(programs: &Programs, name: &str, kind: &Kind) -> Result<(f64, f64), String> {
    let deployment = Deployment::start(programs, name, Artifact::File(0)).await?;
    let figures = async {
        let (pid, server) = (deployment.pid()?, deployment.server());
        sleep(CALM).await;
        let before = rss_kib(&[pid]);
        let open = |_| open(server, kind);
        let connections: io::Result<Vec<TcpStream>> = (0..kind.count).map(open).collect();
        let connections = connections.map_err(|error| error.to_string())?;
        sleep(CALM).await;
        let cpu = cpu(pid).await;
        let grown = rss_kib(&[pid]).saturating_sub(before) as f64;
        drop(connections);
        Ok((cpu, grown / kind.count as f64))
    };
    let figures = figures.await;
    deployment.stop().await;
    figures
}

fn open(server: SocketAddr, kind: &Kind) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(kind.request.as_bytes())?;
    if kind.is_answered {
        let mut answer: Vec<u8> = Vec::new();
        let mut part = [0; 1024];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend(&part[..n]),
            }
        }
    }
    Ok(stream)
}

/// Returns the processor time of a process for a while, in milliseconds a second.
async fn cpu(pid: u32) -> f64 {
    let before = Cpu::of(&[pid]);
    sleep(WATCHED).await;
    let spent_us = Cpu::of(&[pid]).since(&before, clock_ticks_per_second());
    spent_us / 1e3 / WATCHED.as_secs_f64()
}

/// Returns how often the threads of a process have been woken.
fn wake_ups(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let count = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse::<f64>().ok()
    };
    threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(count)
        .sum()
}
