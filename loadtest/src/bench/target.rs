//! What is measured: the backend, other proxies in front of it, and handoff with a backend of its own.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::backend::SMALL;
use super::options::TargetName;
use super::rival::{self, Rival};
use super::usage;
use crate::cli::DeployBy;
use crate::client::Client;
use crate::install::first_line;
use crate::process::{Process, last_lines};
use crate::release::Release;
use crate::result::Failed;
use crate::site::Site;
use crate::strategy::{Handoff, Strategy as _};
use crate::system::System;
use crate::wire::Answer;

/// For a target to answer its first request.
const START: Duration = Duration::from_secs(15);

/// How often a fact is asked for that nobody announces.
const POLL: Duration = Duration::from_millis(5);

/// Programs and the folder for their files.
#[derive(Debug)]
pub struct Ground {
    pub folder: PathBuf,
    /// A copy of this program: a build meanwhile cannot take it away.
    pub backend: PathBuf,
    pub handoff: Option<PathBuf>,
}

/// One of them, running.
#[derive(Debug)]
pub struct Target {
    pub name: TargetName,
    pub version: String,
    pub server: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Direct(Process),
    Rival(Rival),
    Handoff(Box<Sidecar>),
}

/// A handoff whose app is the backend.
#[derive(Debug)]
pub struct Sidecar {
    handoff: Handoff,
    folder: PathBuf,
}

// === impl Ground ===

impl Ground {
    /// # Errors
    /// This program cannot be copied to `folder`.
    pub fn new(folder: &Path, handoff: Option<PathBuf>) -> io::Result<Self> {
        // As /proc names it.
        let folder = folder.canonicalize()?;
        let backend = folder.join("loadtest-backend");
        fs::copy(std::env::current_exe()?, &backend)?;
        Ok(Self {
            folder,
            backend,
            handoff,
        })
    }

    /// Starts one backend as the direct way.
    ///
    /// # Errors
    /// Why it does not serve, for a person.
    pub async fn direct(&self) -> Result<Target, String> {
        let log = self.folder.join("backend.log");
        let mut process = Process::spawn(&System::Native, &self.backend, &["bench-backend"], &log)
            .map_err(|error| format!("the backend does not start: {error}"))?;
        let deadline = Instant::now() + START;
        loop {
            let said = last_lines(&log, 1).pop().unwrap_or_default();
            if let Ok(server) = said.parse() {
                let target = Target {
                    name: TargetName::Direct,
                    version: String::new(),
                    server,
                    kind: Kind::Direct(process),
                };
                return target.answering().await;
            }
            if Instant::now() > deadline || !matches!(process.exited(), Ok(None)) {
                return Err(format!("the backend does not serve: {said}"));
            }
            sleep(POLL).await;
        }
    }

    /// Starts one of the others in front of `backend`.
    ///
    /// # Errors
    /// Why it cannot be measured, for a person.
    pub async fn start(&self, name: TargetName, backend: SocketAddr) -> Result<Target, String> {
        if let TargetName::Handoff | TargetName::HandoffMetrics = name {
            let port = rival::free_port().map_err(|error| error.to_string())?;
            let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let is_counting = name == TargetName::HandoffMetrics;
            let settings = match is_counting {
                true => format!("admin = \"{admin}\"\n"),
                false => String::new(),
            };
            let sidecar = self.sidecar(&name.text(), &settings).await?;
            if is_counting {
                counts(admin).await?;
            }
            let version = match &self.handoff {
                Some(program) => first_line(program, "--version").await,
                None => String::new(),
            };
            let target = Target {
                name,
                version,
                server: sidecar.server(),
                kind: Kind::Handoff(Box::new(sidecar)),
            };
            return target.answering().await;
        }
        let folder = self.folder.join(name.text());
        let log = self.folder.join(format!("{}.log", name.text()));
        let rival = rival::start(name, backend, &folder, &log).await?;
        let target = Target {
            name,
            version: rival.version.clone(),
            server: rival.server,
            kind: Kind::Rival(rival),
        };
        let answering = target.answering().await;
        answering.map_err(|error| match last_lines(&log, 1).pop() {
            Some(said) => format!("{error}; last it said: {said}"),
            None => error,
        })
    }

    /// Starts a handoff of its own in the folder `name`, with its default settings but for these, as
    /// `handoff.toml` has them.
    ///
    /// # Errors
    /// Why it does not serve, for a person.
    pub async fn sidecar(&self, name: &str, settings: &str) -> Result<Sidecar, String> {
        let binary = self.handoff.as_deref().ok_or("handoff was not built")?;
        let folder = self.folder.join(name);
        let site = Site::create(folder.join("site"), DeployBy::Pointer, System::Native)
            .map_err(|error| error.to_string())?;
        let first = release(&folder, 1).map_err(|error| error.to_string())?;
        let file = folder.join("site").join("handoff.toml");
        fs::write(file, settings).map_err(|error| error.to_string())?;
        let command: [OsString; 4] = [
            self.backend.clone().into(),
            "bench-backend".into(),
            "--port".into(),
            "{port}".into(),
        ];
        let log = folder.join("output.log");
        let handoff = Handoff::start(binary, site, &first, &command, &folder, &log).await;
        let handoff = handoff.map_err(|error| {
            let said = last_lines(&log, 5).join("\n  ");
            format!("failed to {error}\n  {said}")
        })?;
        Ok(Sidecar { handoff, folder })
    }
}

/// An artifact of a few bytes: what runs is the command, only the digest has to differ.
fn release(folder: &Path, number: u32) -> io::Result<Release> {
    let target = folder.join("site").join("_target");
    fs::create_dir_all(&target)?;
    let file = target.join(format!("v{number}"));
    let text = format!("release {number}\n");
    fs::write(&file, &text)?;
    let hash = Sha256::digest(text);
    let sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Release {
        number,
        file,
        sha256,
    })
}

// === impl Target ===

impl Target {
    /// The proxy's processes, never the backend.
    pub fn processes(&self, ground: &Ground) -> Vec<u32> {
        let root = match &self.kind {
            Kind::Direct(_) => None,
            Kind::Rival(rival) => rival.pid(),
            Kind::Handoff(sidecar) => sidecar.handoff.pid(),
        };
        root.map(|root| usage::family(root, &ground.backend))
            .unwrap_or_default()
    }

    pub async fn stop(self) {
        match self.kind {
            // Dropped, it is killed.
            Kind::Direct(mut process) => drop(process.stop(START).await),
            Kind::Rival(rival) => rival.stop().await,
            Kind::Handoff(sidecar) => sidecar.stop().await,
        }
    }

    /// Waits until a request is answered rightly.
    async fn answering(mut self) -> Result<Self, String> {
        let deadline = Instant::now() + START;
        loop {
            let last = match timeout(START, ask(self.server)).await {
                Ok(Ok(())) => return Ok(self),
                Ok(Err(error)) => error,
                Err(_) => "no answer".to_owned(),
            };
            let ended = match &mut self.kind {
                Kind::Rival(rival) => rival.ended(),
                Kind::Direct(_) | Kind::Handoff(_) => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                let ended = ended
                    .map(|status| format!(", it ended ({status})"))
                    .unwrap_or_default();
                self.stop().await;
                return Err(format!("it does not serve: {last}{ended}"));
            }
            sleep(POLL).await;
        }
    }
}

/// # Errors
/// Why /metrics is not there.
async fn counts(admin: SocketAddr) -> Result<(), String> {
    match get(admin, "/metrics").await?.status {
        200 => Ok(()),
        status => Err(format!("/metrics answers {status}")),
    }
}

/// # Errors
/// Why an answer is not the backend's.
async fn ask(server: SocketAddr) -> Result<(), String> {
    let answer = get(server, "/small").await?;
    if answer.status == 200 && answer.body.len() == SMALL {
        Ok(())
    } else {
        Err(format!("status {}", answer.status))
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// Why there is no answer.
async fn get(server: SocketAddr, path: &str) -> Result<Answer, String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut client = Client::connect(server).await?;
        client.exchange(request.as_bytes()).await
    };
    exchange.await.map_err(|failed: Failed| failed.detail)
}

// === impl Sidecar ===

impl Sidecar {
    pub fn server(&self) -> SocketAddr {
        self.handoff.server()
    }

    /// Memory of its processes now, without the app's.
    pub fn rss_kib(&self, ground: &Ground) -> Result<u64, String> {
        let pid = self.handoff.pid().ok_or("handoff ended by itself")?;
        match usage::rss_kib(&usage::family(pid, &ground.backend)) {
            0 => Err("handoff ended by itself".to_owned()),
            rss => Ok(rss),
        }
    }

    /// Deploys release `number` and waits until it serves and answers.
    ///
    /// # Errors
    /// Why it does not, for a person.
    pub async fn swap(&mut self, number: u32) -> Result<(), String> {
        let release = release(&self.folder, number).map_err(|error| error.to_string())?;
        let mut swap = crate::scenario::Swap::of(&release);
        let deployed = self.handoff.deploy(&release, &mut swap).await;
        deployed.map_err(|error| format!("failed to {error}"))?;
        let serves = self.handoff.until_serving(&release).await;
        serves.map_err(|error| format!("failed to {error}"))?;
        ask(self.server()).await
    }

    /// Waits until all but one of its apps have ended.
    ///
    /// # Errors
    /// They do not.
    pub async fn settled(&self, ground: &Ground) -> Result<(), String> {
        let pid = self.handoff.pid().ok_or("handoff ended by itself")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while usage::running(pid, &ground.backend) != 1 {
            if Instant::now() > deadline {
                return Err("superseded apps do not end within 60 s".to_owned());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    pub async fn stop(mut self) {
        if let Err(error) = self.handoff.stop().await {
            eprintln!("loadtest: failed to {error}");
        }
    }
}
