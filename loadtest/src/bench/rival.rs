//! Starts the other proxies, each with its configuration from `loadtest/rivals`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::options::TargetName;
use crate::install::{HOMES, find, first_line};
use crate::process::Process;

const NGINX: &str = include_str!("../../rivals/nginx.conf");
const HAPROXY: &str = include_str!("../../rivals/haproxy.cfg");
const RELAY: &str = include_str!("../../rivals/relay.cfg");
const CADDY: &str = include_str!("../../rivals/Caddyfile");
const PINGORA: &str = include_str!("../../rivals/pingora.args");
const KAMAL_PROXY: &str = include_str!("../../rivals/kamal-proxy.args");

const STOP: Duration = Duration::from_secs(5);

/// A running proxy. Dropping it kills it with its workers.
#[derive(Debug)]
pub struct Rival {
    process: Process,
    pub version: String,
    pub server: SocketAddr,
}

/// What a template is filled with.
struct Filling<'a> {
    port: u16,
    spare: u16,
    backend: u16,
    workers: usize,
    folder: &'a Path,
}

/// Starts `name` in front of the backend. Its files go to `folder`, its output to `log`.
///
/// # Errors
/// It is not installed or cannot be started; why, for a person.
pub async fn start(
    name: TargetName,
    backend: SocketAddr,
    folder: &Path,
    log: &Path,
) -> Result<Rival, String> {
    let program = match name {
        TargetName::Relay => "haproxy".to_owned(),
        TargetName::Pingora => "pingora-proxy".to_owned(),
        TargetName::Direct
        | TargetName::Nginx
        | TargetName::Haproxy
        | TargetName::Caddy
        | TargetName::KamalProxy
        | TargetName::Handoff
        | TargetName::HandoffMetrics => name.text(),
    };
    let program = find(&program).ok_or_else(|| format!("{program} is not installed"))?;
    let failed = |error: std::io::Error| format!("{}: {error}", program.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let filling = Filling {
        port: free_port().map_err(failed)?,
        spare: free_port().map_err(failed)?,
        backend: backend.port(),
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        folder,
    };
    let file = folder.join("config");
    let mut command = rooted(&program, &filling);
    let (template, version) = match name {
        TargetName::Nginx => {
            // Else it tries to open the log of the system's before it reads its own.
            command.arg("-e").arg(folder.join("nginx-error.log"));
            command.arg("-p").arg(folder).arg("-c").arg(&file);
            (NGINX, "-v")
        }
        TargetName::Haproxy | TargetName::Relay => {
            command.args(["-db", "-f"]).arg(&file);
            let relay = name == TargetName::Relay;
            (if relay { RELAY } else { HAPROXY }, "-v")
        }
        TargetName::Caddy => {
            command.args(["run", "--adapter", "caddyfile", "--config"]);
            command.arg(&file);
            (CADDY, "version")
        }
        TargetName::Pingora | TargetName::KamalProxy => {
            let kamal = name == TargetName::KamalProxy;
            let text = if kamal { KAMAL_PROXY } else { PINGORA };
            let lines = filling.lines(text);
            command.args(lines.first().into_iter().flatten());
            (text, "--version")
        }
        TargetName::Direct | TargetName::Handoff | TargetName::HandoffMetrics => {
            return Err(format!("{} is no rival", name.text()));
        }
    };
    fs::write(&file, filling.fill(template)).map_err(failed)?;
    let logless = Path::new("/dev/null");
    let log = if name == TargetName::KamalProxy {
        logless
    } else {
        log
    };
    let rival = Rival {
        version: first_line(&program, version).await,
        process: Process::start(command, log).map_err(failed)?,
        server: (Ipv4Addr::LOCALHOST, filling.port).into(),
    };
    if name == TargetName::KamalProxy {
        tell(&program, &filling).await?;
    }
    Ok(rival)
}

/// Its own process group, so that its workers can be ended with it, and nothing of the user's.
fn rooted(program: &Path, filling: &Filling<'_>) -> Command {
    let mut command = Command::new(program);
    command
        .process_group(0)
        .current_dir(filling.folder)
        .env("GOMAXPROCS", filling.workers.to_string())
        .env("KAMAL_PROXY_BIND", "127.0.0.1");
    for variable in HOMES {
        command.env(variable, filling.folder);
    }
    command
}

/// kamal-proxy is told of its app once it listens for commands.
async fn tell(program: &Path, filling: &Filling<'_>) -> Result<(), String> {
    let lines = filling.lines(KAMAL_PROXY);
    let deploy = lines.get(1).ok_or("kamal-proxy.args has no second line")?;
    let deadline = tokio::time::Instant::now() + STOP;
    loop {
        let mut command = rooted(program, filling);
        let output = command.args(deploy).kill_on_drop(true).output().await;
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("its deploy fails: {}", said.trim()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Free a moment ago.
pub fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

// === impl Filling ===

impl Filling<'_> {
    fn fill(&self, template: &str) -> String {
        template
            .replace("{port}", &self.port.to_string())
            .replace("{spare}", &self.spare.to_string())
            .replace("{backend}", &self.backend.to_string())
            .replace("{workers}", &self.workers.to_string())
            .replace("{dir}", &self.folder.display().to_string())
    }

    /// The arguments on each line that is no comment.
    fn lines(&self, template: &str) -> Vec<Vec<String>> {
        self.fill(template)
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    }
}

// === impl Rival ===

impl Rival {
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.process
            .exited()
            .ok()
            .flatten()
            .map(|status| status.to_string())
    }

    pub async fn stop(mut self) {
        // What does not end in time is killed when this is dropped.
        if let Err(error) = self.process.stop(STOP).await {
            eprintln!("loadtest: failed to stop a proxy: {error}");
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // A worker of a killed master would live on. Once the master has been waited for there is
        // no id, and its workers ended before it.
        let group = self.process.pid().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_without_a_rest() {
        let filling = Filling {
            port: 1001,
            spare: 1002,
            backend: 1003,
            workers: 2,
            folder: Path::new("/tmp/x"),
        };
        for template in [NGINX, HAPROXY, RELAY, CADDY, PINGORA, KAMAL_PROXY] {
            let filled = filling.fill(template);
            assert!(
                filled.contains("1001") && filled.contains("1003"),
                "{filled}"
            );
            for left in ["{port}", "{spare}", "{backend}", "{workers}", "{dir}"] {
                assert!(!filled.contains(left), "{left} in {filled}");
            }
        }
        let lines = filling.lines(KAMAL_PROXY);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0][..3], ["run", "--http-port", "1001"]);
        assert_eq!(filling.lines(PINGORA).len(), 1);
    }
}
