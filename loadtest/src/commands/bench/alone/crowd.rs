//! Deploys beside many processes and descriptors, which are none of handoff's business.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::deployment::{Artifact, Deployment, ask};
use super::{Limited, Programs};
use crate::commands::bench::report::Check;
use crate::units::median;

/// Length of what is deployed, in bytes.
const LENGTH: u64 = 12_000_000;
const SWAPS: usize = 9;

/// Upper limits, in milliseconds: of what handoff adds to a deploy, and of the longest answer of its
/// control plane meanwhile.
const QUIET: f64 = 15.0;
const CROWDED: f64 = 25.0;
const BLOCKED: f64 = 100.0;

/// Time for which the control plane is watched at rest: it looks at processes every ten seconds.
const REST: Duration = Duration::from_secs(12);
/// Pause between two answers of the control plane.
const PAUSE: Duration = Duration::from_millis(2);

/// A crowd: its name, and the script of the shell that makes it and says when it is there.
const CROWDS: [(&str, &str); 2] = [
    (
        "10 processes of 15,000 descriptors",
        "ulimit -n $(ulimit -Hn); n=$(ulimit -n); [ $n -lt 15100 ] || n=15100
         for p in 1 2 3 4 5 6 7 8 9 10; do
           (for ((i = 100; i < n; i++)); do eval \"exec $i</dev/null\"; done; echo there; exec sleep 1000) &
         done | head -n 10 | tail -n 1",
    ),
    (
        "3,000 processes",
        "for ((i = 0; i < 3000; i++)); do sleep 1000 >/dev/null & done; echo there",
    ),
];

/// A process group that is killed with the value.
struct Crowd {
    shell: Child,
}

/// Measures all figures.
pub async fn measure(programs: &Programs) -> Vec<Check> {
    let name = "12 MB with a digest: deploy to traffic, less the app's own start";
    let blocked = "longest answer of the control plane";
    let mut checks = Vec::new();
    let mut add = |name: &str, figure: Limited| checks.push(Check::new(name, "ms", figure));
    match Deployment::start(programs, "quiet", Artifact::File(LENGTH)).await {
        Ok(mut deployment) => {
            let added = swaps(&mut deployment).await;
            add(name, added.map(|added| (added, QUIET)));
            for (crowd, script) in CROWDS {
                match Crowd::gather(script) {
                    Ok(_gathered) => {
                        let watch = Watch::begin(deployment.admin);
                        let added = swaps(&mut deployment).await;
                        thread::sleep(REST);
                        let longest = watch.end();
                        let added = added.map(|added| (added, CROWDED));
                        add(&format!("{name}, beside {crowd}"), added);
                        let longest = longest.map(|longest| (longest, BLOCKED));
                        add(&format!("{blocked}, beside {crowd}"), longest);
                    }
                    Err(error) => add(&format!("{name}, beside {crowd}"), Err(error.to_string())),
                }
            }
            deployment.stop().await;
        }
        Err(error) => add(name, Err(error)),
    }
    checks
}

/// Returns the median of what handoff adds.
async fn swaps(deployment: &mut Deployment) -> Result<f64, String> {
    let mut added = Vec::new();
    for _ in 0..SWAPS {
        added.push(deployment.swap().await?);
    }
    eprintln!("added, ms: {added:.1?}");
    median(added).ok_or_else(|| "there was no deploy".to_owned())
}

// === impl Crowd ===

impl Crowd {
    /// Starts it, and waits until it is complete.
    fn gather(script: &str) -> io::Result<Self> {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{script}\nexec sleep 1000")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut crowd = Self {
            shell: command.process_group(0).spawn()?,
        };
        let mut said = Vec::new();
        if let Some(output) = &mut crowd.shell.stdout {
            let mut part = [0; 64];
            while !said.ends_with(b"\n") {
                let n = io::Read::read(output, &mut part)?;
                if n == 0 {
                    return Err(io::Error::other("the crowd has ended by itself"));
                }
                said.extend(&part[..n]);
            }
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.shell.id().cast_signed()) {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.shell.wait();
    }
}

/// A thread that asks the control plane all the time.
struct Watch {
    is_over: std::sync::Arc<AtomicBool>,
    thread: thread::JoinHandle<io::Result<Duration>>,
}

// === impl Watch ===

impl Watch {
    fn begin(admin: SocketAddr) -> Self {
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let told = std::sync::Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                ask(admin, "/healthz")?;
                longest = longest.max(begun.elapsed());
                thread::sleep(PAUSE);
            }
            Ok(longest)
        });
        Self { is_over, thread }
    }

    /// Returns the longest time of an answer, in milliseconds.
    fn end(self) -> Result<f64, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let joined = self.thread.join().map_err(|_| "it panicked".to_owned())?;
        let longest = joined.map_err(|error| error.to_string())?;
        Ok(longest.as_secs_f64() * 1e3)
    }
}
