//! Proxies of others: their configurations, and how they are started and ended.
//!
//! Configurations are templates with places such as `{port}`; `compare` has its own in
//! `loadtest/contenders`, `bench` in `loadtest/rivals`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Command;
use tokio::time::sleep;

use crate::deploy::{StrategyError, check_running, wait_until_listening};
use crate::host::install::find;
use crate::host::process::Process;

/// Variables that name folders of a program: set to a temporary one, it leaves nothing elsewhere.
const HOMES: [&str; 6] = [
    "HOME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// Maximum time for a proxy to listen.
const START: Duration = Duration::from_secs(15);

/// Maximum time for a proxy and the processes of its group to end.
const STOP: Duration = Duration::from_secs(10);

/// A proxy of others, as it is set up.
#[derive(Debug)]
pub struct Fixture {
    /// Program in PATH.
    pub program: &'static str,
    /// Argument that makes it write its version.
    pub version: &'static str,
    /// Files by name, with places to fill in.
    pub files: &'static [(&'static str, &'static str)],
    /// Arguments, with places to fill in.
    pub arguments: &'static [&'static str],
    /// It writes a line for each request, and cannot be told not to.
    pub is_loud: bool,
}

/// The proxies, each without its configuration.
pub const HAPROXY: Fixture = Fixture {
    program: "haproxy",
    version: "-v",
    files: &[],
    arguments: &["-db", "-f", "{dir}/haproxy.cfg"],
    is_loud: false,
};

pub const NGINX: Fixture = Fixture {
    program: "nginx",
    version: "-v",
    files: &[],
    arguments: &[
        // Without it, nginx opens the system's log before it reads its configuration.
        "-e",
        "{dir}/nginx-error.log",
        "-p",
        "{dir}",
        "-c",
        "{dir}/nginx.conf",
    ],
    is_loud: false,
};

pub const CADDY: Fixture = Fixture {
    program: "caddy",
    version: "version",
    files: &[],
    arguments: &[
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        "{dir}/Caddyfile",
    ],
    is_loud: false,
};

/// It has no configuration file, and learns of the app by a command.
pub const KAMAL_PROXY: Fixture = Fixture {
    program: "kamal-proxy",
    version: "--version",
    files: &[],
    arguments: &["run", "--http-port", "{port}", "--https-port", "{admin}"],
    is_loud: true,
};

/// The values of the places.
#[derive(Clone, Debug)]
pub struct Places {
    pub folder: PathBuf,
    pub port: u16,
    pub admin: u16,
    pub blue: u16,
    pub green: u16,
    /// Port of the app behind the proxy, if there is only one.
    pub backend: u16,
    /// The same of one that speaks HTTP/2.
    pub h2c_backend: u16,
    pub workers: usize,
}

/// A running proxy, in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct Proxy {
    program: &'static str,
    process: Process,
    group: Option<Pid>,
    pub environment: Vec<(String, OsString)>,
    pub places: Places,
}

// === impl Fixture ===

impl Fixture {
    /// Finds the program.
    pub fn find(&self) -> Result<PathBuf, String> {
        find(self.program).ok_or_else(|| format!("{} is not installed", self.program))
    }

    /// Writes the files.
    pub fn write(&self, places: &Places) -> io::Result<()> {
        fs::create_dir_all(&places.folder)?;
        for (name, template) in self.files {
            fs::write(places.folder.join(name), places.fill(template))?;
        }
        Ok(())
    }

    /// Returns the variables that the program and its scripts find.
    pub fn environment(&self, program: &Path, places: &Places) -> Vec<(String, OsString)> {
        let own = self.program.to_uppercase().replace('-', "_");
        let mut environment = vec![
            (own, program.into()),
            ("DIR".to_owned(), places.folder.clone().into()),
            ("GOMAXPROCS".to_owned(), places.workers.to_string().into()),
            ("KAMAL_PROXY_BIND".to_owned(), "127.0.0.1".into()),
        ];
        for (name, port) in [
            ("PORT", places.port),
            ("ADMIN", places.admin),
            ("BLUE", places.blue),
            ("GREEN", places.green),
        ] {
            environment.push((name.to_owned(), port.to_string().into()));
        }
        // Before the first deploy.
        let upstream = format!("127.0.0.1:{}", places.blue);
        environment.push(("UPSTREAM".to_owned(), upstream.into()));
        for name in HOMES {
            environment.push((name.to_owned(), places.folder.clone().into()));
        }
        environment
    }

    /// Writes the files, starts the program and waits until it listens. Its output goes to
    /// `output.log` in the folder.
    pub async fn start(&self, program: &Path, places: Places) -> Result<Proxy, StrategyError> {
        self.write(&places).map_err(StrategyError::spawn(program))?;
        let environment = self.environment(program, &places);
        let mut command = Command::new(program);
        let arguments = self.arguments.iter();
        command.args(arguments.map(|argument| places.fill(argument)));
        command.process_group(0).current_dir(&places.folder);
        command.envs(environment.clone());
        let log = if self.is_loud {
            PathBuf::from("/dev/null")
        } else {
            places.folder.join("output.log")
        };
        let process = Process::start(command, &log).map_err(StrategyError::spawn(program))?;
        let group = process.pid().and_then(|pid| i32::try_from(pid).ok());
        let mut proxy = Proxy {
            program: self.program,
            group: group.and_then(Pid::from_raw),
            process,
            environment,
            places,
        };
        let server = proxy.server();
        wait_until_listening(server, &mut proxy.process, self.program, START).await?;
        Ok(proxy)
    }
}

// === impl Places ===

impl Places {
    /// Chooses ports that are free now.
    pub fn find(folder: PathBuf) -> io::Result<Self> {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        // All are held until all are known.
        let listeners = [listen()?, listen()?, listen()?, listen()?];
        let mut ports = [0; 4];
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            *port = listener.local_addr()?.port();
        }
        let [port, admin, blue, green] = ports;
        Ok(Self {
            folder,
            port,
            admin,
            blue,
            green,
            backend: blue,
            h2c_backend: green,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        })
    }

    /// Fills in the places of a template.
    pub fn fill(&self, template: &str) -> String {
        template
            .replace("{port}", &self.port.to_string())
            .replace("{admin}", &self.admin.to_string())
            .replace("{blue}", &self.blue.to_string())
            .replace("{green}", &self.green.to_string())
            .replace("{backend}", &self.backend.to_string())
            .replace("{h2c_backend}", &self.h2c_backend.to_string())
            .replace("{workers}", &self.workers.to_string())
            .replace("{dir}", &self.folder.display().to_string())
    }
}

// === impl Proxy ===

impl Proxy {
    /// Returns the address to which clients send requests.
    pub fn server(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.places.port).into()
    }

    /// Returns the process id; none once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Returns the process group, in which scripts and apps are started, too.
    pub fn group(&self) -> i32 {
        self.group.map_or(0, |group| group.as_raw_nonzero().get())
    }

    /// Checks that it is still running.
    pub fn check_running(&mut self) -> Result<(), StrategyError> {
        check_running(&mut self.process, self.program)
    }

    /// Ends the whole group.
    pub async fn stop(&mut self) -> Result<(), StrategyError> {
        self.signal(Signal::TERM);
        let stopped = self.process.stop(STOP).await;
        let deadline = Instant::now() + STOP;
        let is_left = |group| test_kill_process_group(group).is_ok();
        while self.group.is_some_and(is_left) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        self.signal(Signal::KILL);
        // The id may be given to other processes from now on.
        self.group = None;
        stopped.map(drop).map_err(StrategyError::stop(self.program))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The group may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Checks that no place of a fixture is left empty; returns its files and arguments.
    pub fn assert_filled(fixture: &Fixture) -> String {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::find(folder.path().join(fixture.program)).unwrap();
        fixture.write(&places).unwrap();
        let arguments = fixture.arguments.iter();
        let mut text = arguments
            .map(|a| places.fill(a))
            .collect::<Vec<_>>()
            .join(" ");
        for (file, _) in fixture.files {
            text.push_str(&fs::read_to_string(places.folder.join(file)).unwrap());
        }
        assert!(text.contains(&places.port.to_string()), "{text}");
        for left in [
            "port",
            "admin",
            "blue",
            "green",
            "backend",
            "h2c_backend",
            "workers",
            "dir",
        ] {
            assert!(!text.contains(&format!("{{{left}}}")), "{left} in {text}");
        }
        text
    }
}
