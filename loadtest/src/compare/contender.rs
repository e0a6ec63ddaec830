//! A proxy of others, and the script that deploys behind it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use super::kit::{Kit, Places};
use crate::process::Process;
use crate::release::Release;
use crate::scenario::Swap;
use crate::strategy::{Strategy, StrategyError, hook, still_running};

/// For it to listen.
const START: Duration = Duration::from_secs(15);

/// For it and its apps to end.
const STOP: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(10);

/// It runs, and so does the app behind it. Dropping it kills both.
#[derive(Debug)]
pub struct Contender {
    program: &'static str,
    process: Process,
    /// Its own, in which the deploy scripts and the apps that they start are, too.
    group: Option<Pid>,
    environment: Vec<(String, OsString)>,
    folder: PathBuf,
    server: SocketAddr,
}

impl Contender {
    /// Starts it, and deploys the first release.
    ///
    /// # Errors
    /// It does not start, or the deploy fails.
    pub async fn start(
        kit: &Kit,
        program: &Path,
        folder: PathBuf,
        first: &Release,
    ) -> Result<Self, StrategyError> {
        let places = Places::find(folder).map_err(StrategyError::Port)?;
        kit.write(&places).map_err(StrategyError::spawn(program))?;
        let releases = first.file.parent().unwrap_or_else(|| Path::new("."));
        let environment = kit.environment(program, &places, releases);
        let mut command = Command::new(program);
        command.args(kit.arguments(&places)).process_group(0);
        command
            .current_dir(&places.folder)
            .envs(environment.clone());
        let log = match kit.is_loud {
            true => PathBuf::from("/dev/null"),
            false => places.folder.join("output.log"),
        };
        let process = Process::start(command, &log).map_err(StrategyError::spawn(program))?;
        let group = process.pid().and_then(|pid| i32::try_from(pid).ok());
        let mut contender = Self {
            program: kit.program,
            process,
            group: group.and_then(Pid::from_raw),
            environment,
            server: (Ipv4Addr::LOCALHOST, places.port).into(),
            folder: places.folder,
        };
        contender.until_listening().await?;
        contender.run_script(first).await?;
        Ok(contender)
    }

    async fn until_listening(&mut self) -> Result<(), StrategyError> {
        let deadline = Instant::now() + START;
        loop {
            still_running(&mut self.process, self.program)?;
            match TcpStream::connect(self.server).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(StrategyError::NotServing {
                        program: self.program,
                        within: START,
                        last: error.to_string(),
                    });
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    async fn run_script(&self, release: &Release) -> Result<(), StrategyError> {
        let mut command = Command::new("bash");
        command.arg("deploy.sh").arg(release.number.to_string());
        command
            .current_dir(&self.folder)
            .envs(self.environment.clone());
        // So the app ends with the proxy, whatever becomes of the script.
        command.process_group(self.group.map_or(0, |group| group.as_raw_nonzero().get()));
        let line = format!("{}/deploy.sh {}", self.program, release.number);
        let log = self.folder.join(format!("deploy-{}.log", release.number));
        hook::run(command, &line, release, log).await
    }

    fn tell_all(&self, signal: Signal) {
        if let Some(group) = self.group {
            // None of them may be left.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Strategy for Contender {
    fn server(&self) -> SocketAddr {
        self.server
    }

    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError> {
        hook::as_long_as(self.run_script(release), swap).await
    }

    fn observe(&mut self, _swaps: &mut [Swap]) -> Result<(), StrategyError> {
        still_running(&mut self.process, self.program)
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        self.tell_all(Signal::TERM);
        let stopped = self.process.stop(STOP).await;
        let deadline = Instant::now() + STOP;
        let is_left = || {
            self.group
                .is_some_and(|group| test_kill_process_group(group).is_ok())
        };
        while is_left() && Instant::now() < deadline {
            sleep(POLL).await;
        }
        self.tell_all(Signal::KILL);
        // There is nobody left to tell.
        self.group = None;
        stopped.map(drop).map_err(StrategyError::stop(self.program))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.tell_all(Signal::KILL);
    }
}
