//! The targets: the backend, other proxies in front of it, and handoff with a backend of its own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::rivals::{self, BACKEND, BACKEND_SCRIPT, BACKEND_TEMPLATE};
use crate::cli::DeployBy;
use crate::cli::bench::{TargetName, name_of};
use crate::deploy::handoff::Handoff;
use crate::deploy::release::Release;
use crate::deploy::site::Site;
use crate::deploy::swap::Swap;
use crate::deploy::{Strategy as _, free_address};
use crate::fixtures::{Places, Proxy};
use crate::generator::client::get;
use crate::host::install::first_line;
use crate::host::process::last_lines;
use crate::host::system::System;
use crate::host::usage;

/// Lengths of the bodies, in bytes.
const SMALL: usize = 60;
const MEDIUM: usize = 64 * 1024;
const LARGE: usize = 1024 * 1024;

/// Maximum time for a target to answer its first request.
const START: Duration = Duration::from_secs(15);

/// Maximum time for superseded apps to end.
const SETTLE: Duration = Duration::from_secs(60);

/// Interval at which facts are polled.
const POLL: Duration = Duration::from_millis(5);

/// Programs and the folder for their files.
#[derive(Debug)]
pub struct Baseline {
    pub folder: PathBuf,
    /// Copy of nginx, by which the processes of the backend are recognised.
    backend: PathBuf,
    handoff: Option<PathBuf>,
}

/// A running target.
#[derive(Debug)]
pub struct Target {
    pub name: TargetName,
    pub version: String,
    /// Address of clients of HTTP/1.
    server: SocketAddr,
    kind: Kind,
}

/// A way of requests to the app.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Clients and the app speak HTTP/1.1.
    Http1,
    /// Clients speak HTTP/2 without TLS, the app HTTP/1.1.
    H2c,
    /// Both speak HTTP/2 without TLS.
    H2cApp,
}

#[derive(Debug)]
enum Kind {
    Proxy(Box<Proxy>),
    Handoff {
        sidecar: Box<Sidecar>,
        /// One whose app speaks HTTP/2.
        h2c: Option<Box<Sidecar>>,
    },
}

/// A handoff whose app is the backend.
#[derive(Debug)]
pub struct Sidecar {
    handoff: Handoff,
    folder: PathBuf,
}

// === impl Baseline ===

impl Baseline {
    /// Writes the backend to `folder`.
    pub fn create(folder: &Path, handoff: Option<PathBuf>) -> Result<Self, String> {
        let nginx = BACKEND.find()?;
        let create = || -> io::Result<Self> {
            // As /proc names it.
            let folder = folder.canonicalize()?;
            let own = folder.join("backend");
            fs::create_dir_all(own.join("files"))?;
            fs::write(own.join("files/medium"), vec![b'x'; MEDIUM])?;
            fs::write(own.join("files/large"), vec![b'x'; LARGE])?;
            fs::write(own.join("backend.template"), BACKEND_TEMPLATE)?;
            fs::write(own.join("backend.sh"), BACKEND_SCRIPT)?;
            let backend = own.join("backend-nginx");
            fs::copy(nginx, &backend)?;
            Ok(Self {
                folder,
                backend,
                handoff,
            })
        };
        create().map_err(|error| format!("the backend cannot be set up: {error}"))
    }

    /// Starts one backend as the direct way.
    pub async fn direct(&self) -> Result<Target, String> {
        let places = Places::find(self.folder.join("backend")).map_err(|e| e.to_string())?;
        let started = BACKEND.start(&self.backend, places).await;
        let proxy = started.map_err(|error| format!("the backend does not start: {error}"))?;
        let target = Target {
            name: TargetName::Direct,
            version: first_line(&self.backend, BACKEND.version).await,
            server: proxy.server(),
            kind: Kind::Proxy(Box::new(proxy)),
        };
        target.wait_until_answering().await
    }

    /// Starts a target in front of the backend `direct`, which is to be asked in these ways.
    pub async fn start(
        &self,
        name: TargetName,
        direct: &Target,
        ways: &[Way],
    ) -> Result<Target, String> {
        let Some(fixture) = rivals::fixture(name) else {
            return self.start_handoff(name, ways.contains(&Way::H2cApp)).await;
        };
        let program = fixture.find()?;
        let folder = self.folder.join(name_of(name));
        let mut places = Places::find(folder).map_err(|error| error.to_string())?;
        places.backend = direct.server.port();
        if let Some(server) = direct.server(Way::H2cApp) {
            places.h2c_backend = server.port();
        }
        let log = places.folder.join("output.log");
        let explain = |error: String| match last_lines(&log, 1).pop() {
            Some(line) => format!("{error}; its last line: {line}"),
            None => error,
        };
        let proxy = fixture.start(&program, places).await;
        let proxy = proxy.map_err(|error| explain(format!("failed to {error}")))?;
        if name == TargetName::KamalProxy {
            rivals::deploy_to_kamal(&program, &proxy).await?;
        }
        let target = Target {
            name,
            version: first_line(&program, fixture.version).await,
            server: proxy.server(),
            kind: Kind::Proxy(Box::new(proxy)),
        };
        target.wait_until_answering().await.map_err(explain)
    }

    async fn start_handoff(&self, name: TargetName, has_h2c: bool) -> Result<Target, String> {
        let admin = free_address().await.map_err(|error| error.to_string())?;
        let is_counting = name == TargetName::HandoffMetrics;
        let settings = if is_counting {
            format!("admin = \"{admin}\"\n")
        } else {
            String::new()
        };
        let folder = name_of(name);
        let sidecar = self.sidecar(&folder, &settings).await?;
        let h2c = if has_h2c {
            let (folder, settings) = (format!("{folder}-h2c"), "app-protocol = \"h2c\"\n");
            Some(Box::new(self.sidecar(&folder, settings).await?))
        } else {
            None
        };
        if is_counting {
            let metrics = get(admin, "/metrics")
                .await
                .map_err(|failed| failed.detail)?;
            if metrics.status != 200 {
                return Err(format!("/metrics answers {}", metrics.status));
            }
        }
        let version = match &self.handoff {
            Some(program) => first_line(program, "--version").await,
            None => String::new(),
        };
        let target = Target {
            name,
            version,
            server: sidecar.server(),
            kind: Kind::Handoff {
                sidecar: Box::new(sidecar),
                h2c,
            },
        };
        target.wait_until_answering().await
    }

    /// Starts a handoff in the folder `name`, with default settings but for these lines of
    /// `handoff.toml`.
    pub async fn sidecar(&self, name: &str, settings: &str) -> Result<Sidecar, String> {
        let binary = self.handoff.as_deref().ok_or("handoff was not built")?;
        let folder = self.folder.join(name);
        let create = || -> io::Result<(Site, Release)> {
            let site = Site::create(folder.join("site"), DeployBy::Pointer, System::Native)?;
            fs::write(folder.join("site").join("handoff.toml"), settings)?;
            Ok((site, release(&folder, 1)?))
        };
        let (site, first) = create().map_err(|error| error.to_string())?;
        let own = self.folder.join("backend");
        let command = [
            "sh".into(),
            own.join("backend.sh").into(),
            "{port}".into(),
            self.backend.clone().into(),
            own.join("backend.template").into(),
            if settings.contains("h2c") {
                "h2c"
            } else {
                "http1"
            }
            .into(),
        ];
        let log = folder.join("output.log");
        let handoff = Handoff::start(&[], binary, site, &first, &command, &folder, &log).await;
        let handoff = handoff.map_err(|error| {
            let lines = last_lines(&log, 5).join("\n  ");
            format!("failed to {error}\n  {lines}")
        })?;
        Ok(Sidecar { handoff, folder })
    }
}

/// Makes an artifact of a few bytes: the command runs the app, only the digest has to differ.
fn release(folder: &Path, number: u32) -> io::Result<Release> {
    let target = folder.join("site").join("_target");
    fs::create_dir_all(&target)?;
    let file = target.join(format!("v{number}"));
    fs::write(&file, format!("release {number}\n"))?;
    Release::of(number, file)
}

// === impl Target ===

impl Target {
    /// Returns its address for requests of this way; none if it was not set up for it.
    pub fn server(&self, way: Way) -> Option<SocketAddr> {
        let port = |port: u16| SocketAddr::new(self.server.ip(), port);
        match (&self.kind, way) {
            (_, Way::Http1) | (Kind::Handoff { .. }, Way::H2c) => Some(self.server),
            (Kind::Handoff { h2c, .. }, Way::H2cApp) => Some(h2c.as_ref()?.server()),
            (Kind::Proxy(proxy), Way::H2c | Way::H2cApp) => match self.name {
                TargetName::Nginx | TargetName::Haproxy | TargetName::Caddy if way == Way::H2c => {
                    Some(port(proxy.places.blue))
                }
                TargetName::Direct
                | TargetName::Nginx
                | TargetName::Haproxy
                | TargetName::Caddy => Some(port(proxy.places.green)),
                TargetName::Relay
                | TargetName::Pingora
                | TargetName::KamalProxy
                | TargetName::Handoff
                | TargetName::HandoffMetrics => None,
            },
        }
    }

    /// Returns the processes of the proxy, without those of the backend.
    pub fn processes(&self, way: Way, baseline: &Baseline) -> Vec<u32> {
        let root = match &self.kind {
            Kind::Proxy(proxy) => proxy.pid(),
            Kind::Handoff { sidecar, h2c } => {
                let of_way = h2c.as_ref().filter(|_| way == Way::H2cApp);
                of_way.unwrap_or(sidecar).handoff.pid()
            }
        };
        let family = root.map(|root| usage::family(root, &baseline.backend));
        family.unwrap_or_default()
    }

    /// Ends the target.
    pub async fn stop(self) {
        match self.kind {
            Kind::Proxy(mut proxy) => {
                if let Err(error) = proxy.stop().await {
                    eprintln!("loadtest: failed to {error}");
                }
            }
            Kind::Handoff { sidecar, h2c } => {
                sidecar.stop().await;
                if let Some(h2c) = h2c {
                    h2c.stop().await;
                }
            }
        }
    }

    async fn wait_until_answering(mut self) -> Result<Self, String> {
        let deadline = Instant::now() + START;
        loop {
            let error = match check_small(self.server).await {
                Ok(()) => return Ok(self),
                Err(error) => error,
            };
            let running = match &mut self.kind {
                Kind::Proxy(proxy) => proxy.check_running(),
                Kind::Handoff { .. } => Ok(()),
            };
            if running.is_err() || Instant::now() > deadline {
                let ended = running.err().map(|error| format!("; failed to {error}"));
                self.stop().await;
                return Err(format!(
                    "it does not serve: {error}{}",
                    ended.unwrap_or_default()
                ));
            }
            sleep(POLL).await;
        }
    }
}

/// Checks that the backend answers.
async fn check_small(server: SocketAddr) -> Result<(), String> {
    let response = get(server, "/small")
        .await
        .map_err(|failed| failed.detail)?;
    if response.status == 200 && response.body.len() == SMALL {
        Ok(())
    } else {
        Err(format!("status {}", response.status))
    }
}

// === impl Sidecar ===

impl Sidecar {
    pub fn server(&self) -> SocketAddr {
        self.handoff.server()
    }

    /// Returns the memory of its processes, without the app's.
    pub fn rss_kib(&self, baseline: &Baseline) -> Result<u64, String> {
        let pid = self.pid()?;
        match usage::rss_kib(&usage::family(pid, &baseline.backend)) {
            0 => Err("handoff ended by itself".to_owned()),
            rss => Ok(rss),
        }
    }

    /// Deploys release `number` and waits until it serves.
    pub async fn swap(&mut self, number: u32) -> Result<(), String> {
        let release = release(&self.folder, number).map_err(|error| error.to_string())?;
        let swap = async {
            let mut swap = Swap::of(&release);
            self.handoff.deploy(&release, &mut swap).await?;
            self.handoff.wait_until_serving(&release).await
        };
        swap.await.map_err(|error| format!("failed to {error}"))?;
        check_small(self.server()).await
    }

    /// Waits until all but one of its apps have ended.
    pub async fn wait_until_settled(&self, baseline: &Baseline) -> Result<(), String> {
        let pid = self.pid()?;
        let deadline = Instant::now() + SETTLE;
        while usage::running(pid, &baseline.backend) != 1 {
            if Instant::now() > deadline {
                return Err(format!("superseded apps do not end within {SETTLE:?}"));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends it.
    pub async fn stop(mut self) {
        if let Err(error) = self.handoff.stop().await {
            eprintln!("loadtest: failed to {error}");
        }
    }

    fn pid(&self) -> Result<u32, String> {
        self.handoff
            .pid()
            .ok_or_else(|| "handoff ended by itself".to_owned())
    }
}
